"""The simulated root's Secret is deleted while the add-on runs: what `status` and `enable` say, and wait for."""

import json
import re

import pytest

from confcom.addon.cluster.snapshot_reader import MOST_ASKED
from confcom.errors import ExitCode
from testkit.cli_output import commands_in
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.hook import RECORD, SECRET
from testkit.fake_cluster.objects import SYSTEM

OLD, NEW = RECORD["data"]["sha256"], "cd" * 32
BEFORE, MADE, AFTER = "2026-11-24T12:00:00Z", "2026-11-24T12:30:15Z", "2026-11-24T12:30:16Z"


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
    confcom.ok("enable", "--simulated")
    start_at(cluster.daemon("quote-helper"), AFTER)
    cluster.calls.clear()
    return cluster


@pytest.fixture
def helper(enabled):
    return enabled.daemon("quote-helper")["metadata"]["name"]


@pytest.fixture
def followed(enabled, helper):
    """The root is newer than the helper, which quotes by it."""
    publish(enabled, NEW)
    start_at(enabled.daemon("quote-helper"), BEFORE)
    enabled.roots[helper] = NEW
    return enabled


@pytest.fixture
def behind(followed, helper):
    """The root is newer than the helper, which quotes by the one before."""
    followed.roots[helper] = OLD
    return followed


def is_well(confcom):
    """Whether nothing is wrong, and everything was compared."""
    document = confcom.document("status")
    return document["ok"] and document["not_compared"] == []


def asked(cluster):
    return [word for line in cluster.calls for word in line if word.startswith("--raw=") and "/proxy/metrics" in word]


def add_helper(cluster, name, root=None):
    pod = make.pod(name, namespace=SYSTEM, on="a", labels=make.labels("quote-helper"))
    start_at(pod, BEFORE)
    cluster.objects.append(pod)
    if root:
        cluster.roots[name] = root


def follow_at(cluster, helper, time):
    """From then on the helper quotes by the new root."""
    cluster.on_tick = lambda fake: fake.now < time or fake.roots.update({helper: NEW})


@pytest.mark.parametrize(("started", "times"), [(BEFORE, 1), (MADE, 1), (AFTER, 0)])
def test_helpers_not_younger_than_the_root_are_asked(confcom, followed, helper, started, times):
    start_at(followed.daemon("quote-helper"), started)
    assert is_well(confcom)
    assert asked(followed) == [f"--raw=/api/v1/namespaces/{SYSTEM}/pods/{helper}:8080/proxy/metrics"] * times
    assert not [line for line in followed.calls if any("secret" in word.lower() for word in line)]


def test_status_says_that_the_root_is_gone(confcom, enabled):
    enabled.remove({("Secret", SECRET["metadata"]["name"])})
    problem = confcom.problem("root-record-missing")
    assert RECORD["metadata"]["name"] in problem
    assert "confcom enable" in commands_in(problem)


def test_status_names_the_helper_with_another_root(confcom, behind, helper):
    problem = confcom.problem("helper-root-outdated", node="a")
    assert f" {helper} " in problem
    assert re.findall(r"\b([0-9a-f]{16})[.]{3}", problem) == [OLD[:16], NEW[:16]]
    assert problem.endswith(f"kubectl delete pod -n {SYSTEM} {helper}")


@pytest.mark.parametrize("denied", [False, True])
def test_helpers_that_cannot_be_asked(confcom, behind, helper, denied):
    """Status says so; enable and update say so and do not wait for them."""
    if denied:
        behind.denied.add("get pods/proxy")
    behind.roots.clear()
    doubts = {one["code"]: one for one in confcom.document("status")["not_compared_details"]}
    assert doubts["helper-not-asked"]["node"] == "a"
    assert ("cannot get resource" in str(doubts["helper-not-asked"])) is denied
    assert ("accounting-not-read" in doubts) is denied
    started = behind.now
    for command in (["enable", "--simulated"], ["update"]):
        done = confcom.ok(*command)
        assert helper in done.stderr
        assert NEW not in done.stderr
        assert ("get pods/proxy" in done.stderr) is denied
    assert behind.now - started < 60


def test_a_record_that_may_not_be_read_is_a_doubt(confcom, behind):
    behind.denied.add("get configmaps")
    assert RECORD["metadata"]["name"] in confcom.doubt("root-record-unreadable")


@pytest.mark.parametrize("data", [{"sha256": "my root"}, {}])
def test_enable_mends_a_damaged_record(confcom, followed, data):
    record(followed)["data"] = data
    confcom.problem("root-record-damaged")
    assert RECORD["metadata"]["name"] in confcom.ok("enable", "--simulated").stderr
    assert record(followed)["data"] == {"sha256": NEW}
    assert is_well(confcom)


def test_not_more_helpers_are_asked_than_that(confcom, behind):
    for number in range(MOST_ASKED + 3):
        add_helper(behind, f"more-{number:03}")
    document = confcom.unwell()
    assert len(asked(behind)) == MOST_ASKED
    told = [one for one in document["not_compared_details"] if str(MOST_ASKED) in one["problem"]]
    assert [one["code"] for one in told] == ["helper-not-asked"] * 4


@pytest.fixture
def deleted(enabled, helper):
    """Somebody deleted the Secret; the Job makes another root, which the helper takes after a minute."""
    enabled.remove({("Secret", SECRET["metadata"]["name"])})
    enabled.roots[helper] = OLD
    start_at(enabled.daemon("quote-helper"), BEFORE)
    enabled.new_root = NEW
    follow_at(enabled, helper, enabled.now + 60)
    return enabled


def test_enable_makes_another_root_and_waits_for_the_helpers(confcom, deleted):
    started = deleted.now
    done = confcom.ok("enable", "--simulated", "-o", "json")
    assert json.loads(done.stdout)["changed"] is True
    assert deleted.find("Secret", SECRET["metadata"]["name"])
    assert "Secret confcom-simulated-platform, ConfigMap confcom-simulated-root" in done.stderr
    assert NEW in done.stderr
    assert "confcom simulation export" in commands_in(done.stderr)
    assert deleted.now - started >= 60
    assert is_well(confcom)


def test_enable_that_does_not_wait_leaves_it_to_status(confcom, deleted):
    started = deleted.now
    confcom.ok("enable", "--simulated", "--no-wait")
    assert deleted.now - started < 60
    confcom.problem("helper-root-outdated", node="a")


@pytest.mark.parametrize("silent", [False, True])
def test_helpers_that_do_not_follow_end_the_wait(confcom, behind, helper, silent):
    add_helper(behind, "another-helper", OLD)
    if silent:  # after they were seen to be behind
        later = behind.now + 10
        behind.on_tick = lambda cluster: cluster.now >= later and cluster.roots.clear()
    started = behind.now
    error = confcom.error(ExitCode.NOT_READY, "root-not-in-use", "enable", "--simulated")
    for pod in (helper, "another-helper"):
        assert error["do"].count(f"kubectl delete pod --namespace={SYSTEM} {pod}") == 1
    assert behind.now - started >= 300
