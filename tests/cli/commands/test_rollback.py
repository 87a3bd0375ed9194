"""`confcom rollback` to what the nodes are not any more, on a cluster in memory."""

import json

import pytest

from confcom.errors import ExitCode
from testkit.cli_output import error_of
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import SYSTEM

OTHER = {"example.com/sgx": "yes"}


def refused(confcom, cluster, code):
    """Roll back, expect that this one check fails and nothing is changed, and return its finding."""
    before = len(cluster.revisions)
    done = confcom("rollback", "-o", "json")
    assert done.exit_code == ExitCode.REFUSED, done.output
    assert error_of(done)["code"] == "preflight-failed"
    assert len(cluster.revisions) == before
    assert not any(line[:2] == ["helm", "rollback"] for line in cluster.calls)
    (found,) = json.loads(done.stdout)["findings"]
    assert (found["outcome"], found["code"]) == ("failed", code)
    return found


def plugins(cluster):
    return sorted(one["metadata"]["name"] for one in cluster.find("DaemonSet", namespace=SYSTEM))


@pytest.fixture
def beside(confcom, cluster):
    """Simulated at first; then a node with hardware came, and was enabled beside."""
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    cluster.objects.append(make.node("metal", make.HARDWARE))
    assert confcom("enable", "--simulated", "--beside-hardware").exit_code == ExitCode.OK
    return cluster


def test_simulated_nodes_do_not_take_the_names_of_hardware_again(confcom, beside):
    names = plugins(beside)
    found = refused(confcom, beside, "hardware-in-cluster")
    assert "metal" in found["what"]
    assert "`confcom enable --beside-hardware`" in found["do"]
    assert plugins(beside) == names


def test_without_the_hardware_it_goes_back(confcom, beside):
    beside.objects.remove(beside.node("metal"))
    assert confcom("rollback").exit_code == ExitCode.OK
    assert "confcom-device-plugin-simulated" not in plugins(beside)


@pytest.fixture
def relabelled(confcom, cluster):
    """The simulated nodes are known by another label since."""
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    chart = cluster.chart

    def elsewhere(values):
        made = chart(values)
        for one in made:
            if one["kind"] == "DaemonSet":
                one["spec"]["template"]["spec"]["nodeSelector"] = dict(OTHER)
        return made

    cluster.chart = elsewhere
    cluster.node("a")["metadata"]["labels"] |= OTHER
    assert confcom("update", "--set", "logLevel=debug").exit_code == ExitCode.OK
    return cluster


def test_no_node_loses_the_daemons_for_want_of_the_old_label(confcom, relabelled):
    relabelled.node("a")["metadata"]["labels"] = dict(OTHER)
    found = refused(confcom, relabelled, "nodes-lose-daemons")
    assert "kubectl label node a confcom.internal/simulated-sgx=true" in found["do"]
    assert f"helm rollback confcom 1 --namespace={SYSTEM}" in found["do"]
    relabelled.node("a")["metadata"]["labels"] |= make.SIMULATED
    assert confcom("rollback").exit_code == ExitCode.OK


def test_what_was_added_since_is_taken_back(confcom, cluster):
    cluster.objects = [make.node("metal", make.HARDWARE), *cluster.find("Namespace")]
    assert confcom("enable", "--no-quote-helper").exit_code == ExitCode.OK
    cluster.objects.append(make.node("a", make.SIMULATED))
    assert confcom("enable", "--simulated", "--beside-hardware", "--quote-helper").exit_code == ExitCode.OK
    assert confcom("rollback").exit_code == ExitCode.OK
    assert plugins(cluster) == ["confcom-device-plugin"]


def test_a_cluster_that_cannot_be_looked_at_is_not_changed(confcom, cluster):
    confcom("enable", "--simulated")
    confcom("update", "--set", "logLevel=debug")
    cluster.denied = {"list nodes"}
    done = confcom("rollback", "-o", "json")
    assert done.exit_code == ExitCode.UNAVAILABLE
    assert error_of(done)["code"] == "forbidden"
    assert len(cluster.revisions) == 2


def test_what_is_wrong_now_as_well_is_no_reason_to_keep_an_update(confcom, cluster):
    confcom("enable", "--simulated")
    confcom("update", "--set", "logLevel=debug")
    cluster.objects.append(make.node("metal", make.HARDWARE))
    assert confcom("update", "--set", "logLevel=info").exit_code == ExitCode.REFUSED
    assert confcom("rollback").exit_code == ExitCode.OK


def test_a_node_that_offers_nothing_has_nothing_to_lose(confcom, relabelled):
    relabelled.objects.append(make.node("c", OTHER))
    assert confcom("rollback").exit_code == ExitCode.OK


def test_terms_are_taken_at_their_word(confcom, cluster):
    chart = cluster.chart

    def by_terms(values):
        made = chart(values)
        term = {"matchExpressions": [{"key": "pool", "operator": "In", "values": [values.get("pool", "one")]}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        for one in made:
            if one["kind"] == "DaemonSet":
                spec = one["spec"]["template"]["spec"]
                spec["nodeSelector"], spec["affinity"] = {}, {"nodeAffinity": required}
        return made

    cluster.chart = by_terms
    for name, pool in (("a", "one"), ("b", "two")):
        cluster.node(name)["metadata"]["labels"] = {"pool": pool}
    assert confcom("enable", "--simulated", "--no-wait").exit_code == ExitCode.OK
    assert confcom("update", "--set", "pool=two", "--no-wait").exit_code == ExitCode.OK
    cluster.sleep(2)
    cluster.sleep(2)
    done = confcom("rollback", "--no-wait")
    assert done.exit_code == ExitCode.OK, done.output
    assert cluster.revisions[-1]["description"] == "Rollback to 1"
