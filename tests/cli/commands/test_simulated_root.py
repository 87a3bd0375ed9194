"""The simulated root's Secret is deleted while the add-on runs: what `status` and `enable` say, and wait for."""

import json
import re

import pytest

from confcom.addon.cluster.snapshot_reader import MOST_ASKED
from confcom.errors import ExitCode
from testkit.cli_output import commands_in, error_of
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.hook import RECORD, SECRET
from testkit.fake_cluster.objects import SYSTEM

OLD, NEW = RECORD["data"]["sha256"], "cd" * 32
BEFORE, MADE, AFTER = "2026-11-24T12:00:00Z", "2026-11-24T12:30:15Z", "2026-11-24T12:30:16Z"


def helper(cluster):
    (found,) = [pod for pod in cluster.find("Pod", namespace=SYSTEM) if "quote-helper" in pod["metadata"]["name"]]
    return found


def start_at(pod, time):
    (container,) = pod["status"]["containerStatuses"]
    container["state"] = {"running": {"startedAt": time}}


def record(cluster):
    (found,) = cluster.find("ConfigMap", RECORD["metadata"]["name"], SYSTEM)
    return found


def publish(cluster, fingerprint):
    cluster.new_root = fingerprint  # of the Secret, which the Job publishes
    record(cluster)["metadata"]["creationTimestamp"] = MADE
    record(cluster)["data"] = {"sha256": fingerprint}


@pytest.fixture
def enabled(confcom, cluster):
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    start_at(helper(cluster), AFTER)
    cluster.calls.clear()
    return cluster


@pytest.fixture
def followed(enabled):
    """The root is newer than the helper, which quotes by it."""
    publish(enabled, NEW)
    start_at(helper(enabled), BEFORE)
    enabled.roots[helper(enabled)["metadata"]["name"]] = NEW
    return enabled


@pytest.fixture
def behind(followed):
    """The root is newer than the helper, which quotes by the one before."""
    followed.roots[helper(followed)["metadata"]["name"]] = OLD
    return followed


@pytest.fixture
def status(confcom):
    """The document that status prints, and its exit code."""

    def call():
        done = confcom("status", "-o", "json")
        return json.loads(done.stdout), done.exit_code

    return call


def is_well(found):
    """Whether nothing is wrong, and everything was compared."""
    document, code = found
    return document["ok"] and document["not_compared"] == [] and code == ExitCode.OK


def one_problem(found):
    document, code = found
    assert code == ExitCode.NOT_READY
    (problem,) = document["problem_details"]
    return problem


def doubts(found):
    document, code = found
    assert code == ExitCode.OK
    return document["not_compared_details"]


def asked(cluster):
    return [word for line in cluster.calls for word in line if word.startswith("--raw=")]


@pytest.mark.parametrize(("started", "times"), [(BEFORE, 1), (MADE, 1), (AFTER, 0)])
def test_only_helpers_that_are_not_younger_than_the_published_root_are_asked(confcom, followed, started, times):
    start_at(helper(followed), started)
    assert confcom("status").exit_code == ExitCode.OK
    assert len(asked(followed)) == times


def test_status_asks_an_older_helper_and_reads_no_secret(status, followed):
    assert is_well(status())
    name = helper(followed)["metadata"]["name"]
    assert asked(followed) == [f"--raw=/api/v1/namespaces/{SYSTEM}/pods/{name}:8080/proxy/metrics"]
    assert not [line for line in followed.calls if any("secret" in word.lower() for word in line)]


def test_status_says_that_the_root_is_gone(status, enabled):
    enabled.remove({("Secret", SECRET["metadata"]["name"])})
    problem = one_problem(status())
    assert problem["code"] == "root-record-missing"
    assert RECORD["metadata"]["name"] in problem["problem"]
    assert "confcom enable" in commands_in(problem["problem"])


def test_status_names_the_helper_that_quotes_by_another_root(status, behind):
    problem = one_problem(status())
    name = helper(behind)["metadata"]["name"]
    assert (problem["code"], problem["node"]) == ("helper-root-outdated", "a")
    assert f" {name} " in problem["problem"]
    assert re.findall(r"\b([0-9a-f]{16})[.]{3}", problem["problem"]) == [OLD[:16], NEW[:16]]
    assert problem["problem"].endswith(f"kubectl delete pod -n {SYSTEM} {name}")


@pytest.mark.parametrize("denied", [False, True])
def test_a_helper_that_cannot_be_asked_is_told(status, behind, denied):
    if denied:
        behind.denied.add("get pods/proxy")
    behind.roots.clear()
    (doubt,) = doubts(status())
    assert (doubt["code"], doubt["node"]) == ("helper-not-asked", "a")
    assert ("cannot get resource" in doubt["problem"]) is denied


def test_who_may_not_read_what_is_published_is_told_so(status, behind):
    behind.denied.add("get configmaps")
    (doubt,) = doubts(status())
    assert doubt["code"] == "root-record-unreadable"
    assert RECORD["metadata"]["name"] in doubt["problem"]


@pytest.mark.parametrize("data", [{"sha256": "my root"}, {}])
def test_enable_mends_a_record_that_somebody_damaged(confcom, status, followed, data):
    record(followed)["data"] = data
    assert one_problem(status())["code"] == "root-record-damaged"
    done = confcom("enable", "--simulated")
    assert done.exit_code == ExitCode.OK, done.output
    assert RECORD["metadata"]["name"] in done.stderr
    assert record(followed)["data"] == {"sha256": NEW}
    assert is_well(status())


def test_a_wrong_fingerprint_is_mended_by_deleting_the_record_and_enabling(confcom, status, followed):
    record(followed)["data"] = {"sha256": "ef" * 32}
    problem = one_problem(status())
    assert problem["code"] == "helper-root-outdated"
    assert "ConfigMap confcom-simulated-root" in problem["problem"]
    assert "confcom enable" in commands_in(problem["problem"])
    followed.remove({("ConfigMap", RECORD["metadata"]["name"])})
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    assert record(followed)["data"] == {"sha256": NEW}
    assert is_well(status())


def test_disable_asks_no_helper_and_reads_no_record(confcom, behind):
    behind.denied |= {"get configmaps", "get pods/proxy"}
    done = confcom("disable", "--yes", "--no-wait")
    assert asked(behind) == []
    assert not [line for line in behind.calls if "configmap" in line]
    assert done.exit_code == ExitCode.OK, done.output


def test_not_more_helpers_are_asked_than_that(status, behind):
    for number in range(MOST_ASKED + 3):
        pod = make.pod(f"more-{number:03}", namespace=SYSTEM, on="a", labels=make.labels("quote-helper"))
        start_at(pod, BEFORE)
        behind.objects.append(pod)
    document, _ = status()
    assert len(asked(behind)) == MOST_ASKED
    told = [one for one in document["not_compared_details"] if str(MOST_ASKED) in one["problem"]]
    assert [one["code"] for one in told] == ["helper-not-asked"] * 4


@pytest.fixture
def deleted(enabled):
    """Somebody deleted the Secret; the Job makes another root, which the helper takes after a minute."""
    enabled.remove({("Secret", SECRET["metadata"]["name"])})
    name, renewed = helper(enabled)["metadata"]["name"], enabled.now + 60
    enabled.roots[name] = OLD
    start_at(helper(enabled), BEFORE)

    enabled.new_root = NEW

    def follow(cluster):
        if cluster.now >= renewed:
            cluster.roots[name] = NEW

    enabled.on_tick = follow
    return enabled


def test_enable_makes_another_root_tells_it_and_waits_for_the_helpers(confcom, status, deleted):
    started = deleted.now
    done = confcom("enable", "--simulated")
    assert done.exit_code == ExitCode.OK, done.output
    assert "Secret confcom-simulated-platform, ConfigMap confcom-simulated-root" in done.stderr
    assert NEW in done.stderr
    assert "confcom simulation export" in commands_in(done.stderr)
    assert deleted.now - started >= 60
    assert is_well(status())


def test_enable_that_does_not_wait_leaves_it_to_status(confcom, status, deleted):
    started = deleted.now
    assert confcom("enable", "--simulated", "--no-wait").exit_code == ExitCode.OK
    assert deleted.now - started < 60
    assert one_problem(status())["code"] == "helper-root-outdated"


def test_enable_again_waits_for_helpers_that_are_behind_though_nothing_is_changed(confcom, behind):
    name, later = helper(behind)["metadata"]["name"], behind.now + 30

    def follow(cluster):
        if cluster.now >= later:
            cluster.roots[name] = NEW

    behind.on_tick = follow
    done = confcom("enable", "--simulated", "-o", "json")
    assert json.loads(done.stdout)["changed"] is False
    assert behind.now >= later


@pytest.mark.parametrize("silent", [False, True])
def test_a_helper_that_does_not_follow_ends_the_wait_with_what_to_do(confcom, behind, silent):
    name = helper(behind)["metadata"]["name"]
    if silent:  # after it was seen to be behind
        later = behind.now + 10
        behind.on_tick = lambda cluster: cluster.now >= later and cluster.roots.clear()
    started = behind.now
    done = confcom("enable", "--simulated", "-o", "json")
    assert done.exit_code == ExitCode.NOT_READY
    error = error_of(done)
    assert error["code"] == "root-not-in-use"
    assert error["do"].endswith(f"kubectl delete pod --namespace={SYSTEM} {name}")
    assert behind.now - started >= 300


def test_each_helper_that_does_not_follow_has_a_command_of_its_own(confcom, behind):
    name = helper(behind)["metadata"]["name"]
    other = make.pod("another-helper", namespace=SYSTEM, on="a", labels=make.labels("quote-helper"))
    start_at(other, BEFORE)
    behind.objects.append(other)
    behind.roots["another-helper"] = OLD
    done = confcom("enable", "--simulated")
    assert done.exit_code == ExitCode.NOT_READY
    for pod in (name, "another-helper"):
        assert done.stderr.count(f"kubectl delete pod --namespace={SYSTEM} {pod}") == 1


@pytest.mark.parametrize("command", ["enable", "update"])
@pytest.mark.parametrize("denied", [False, True])
def test_helpers_that_cannot_be_asked_are_told_and_not_waited_for(confcom, behind, command, denied):
    behind.roots.clear()
    if denied:
        behind.denied.add("get pods/proxy")
    started = behind.now
    done = confcom(command, *(["--simulated"] if command == "enable" else []))
    assert done.exit_code == ExitCode.OK, done.output
    assert behind.now - started < 60
    assert helper(behind)["metadata"]["name"] in done.stderr
    assert NEW not in done.stderr
    assert ("get pods/proxy" in done.stderr) is denied
