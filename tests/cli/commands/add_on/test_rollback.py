"""`confcom rollback` to what the nodes are not any more, on a cluster in memory."""

import pytest

from confcom.errors import ExitCode
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import SYSTEM

OTHER = {"example.com/sgx": "yes"}


def refused(confcom, cluster, code):
    """Roll back, expect that this one check fails and nothing is changed, and return its finding."""
    before = len(cluster.revisions)
    document = confcom.document("rollback", exit_code=ExitCode.REFUSED)
    assert document["error"]["code"] == "preflight-failed"
    assert len(cluster.revisions) == before
    assert not any(line[:2] == ["helm", "rollback"] for line in cluster.calls)
    (found,) = document["findings"]
    assert (found["outcome"], found["code"]) == ("failed", code)
    return found


def plugins(cluster):
    return sorted(one["metadata"]["name"] for one in cluster.find("DaemonSet", namespace=SYSTEM))


@pytest.fixture
def beside(confcom, cluster):
    """Simulated at first; then a node with hardware came, and was enabled beside."""
    confcom.ok("enable", "--simulated")
    cluster.objects.append(make.node("metal", make.HARDWARE))
    confcom.ok("enable", "--simulated", "--beside-hardware")
    return cluster


def test_simulated_nodes_do_not_take_the_names_of_hardware_again(confcom, beside):
    names = plugins(beside)
    found = refused(confcom, beside, "hardware-in-cluster")
    assert "metal" in found["what"]
    assert "`confcom enable --beside-hardware`" in found["do"]
    assert plugins(beside) == names


@pytest.fixture
def relabelled(confcom, cluster):
    """The simulated nodes are known by another label since."""
    confcom.ok("enable", "--simulated")
    cluster.change_daemon_sets(lambda one, _: one["spec"]["template"]["spec"].update(nodeSelector=dict(OTHER)))
    cluster.node("a")["metadata"]["labels"] |= OTHER
    confcom.ok("update", "--set", "logLevel=debug")
    return cluster


def test_no_node_loses_the_daemons_for_want_of_the_old_label(confcom, relabelled):
    relabelled.node("a")["metadata"]["labels"] = dict(OTHER)
    found = refused(confcom, relabelled, "nodes-lose-daemons")
    assert "kubectl label node a confcom.internal/simulated-sgx=true" in found["do"]
    assert f"helm rollback confcom 1 --namespace={SYSTEM}" in found["do"]
    relabelled.node("a")["metadata"]["labels"] |= make.SIMULATED
    confcom.ok("rollback")


def test_a_cluster_that_cannot_be_looked_at_is_not_changed(confcom, enabled):
    confcom("update", "--set", "logLevel=debug")
    enabled.denied = {"list nodes"}
    confcom.error(ExitCode.UNAVAILABLE, "forbidden", "rollback")
    assert len(enabled.revisions) == 2


def test_a_fault_of_now_is_no_reason_to_keep_an_update(confcom, enabled):
    confcom("update", "--set", "logLevel=debug")
    enabled.objects.append(make.node("metal", make.HARDWARE))
    assert confcom("update", "--set", "logLevel=info").exit_code == ExitCode.REFUSED
    confcom.ok("rollback")
