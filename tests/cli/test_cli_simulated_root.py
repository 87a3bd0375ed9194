"""The simulated root's Secret is deleted while the add-on runs: what `status` and `enable` say, and wait for."""

import json

import pytest

from confcom.addon.cluster.snapshot_reader import MOST_ASKED
from confcom.errors import ExitCode
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


def asked(cluster):
    return [word for line in cluster.calls for word in line if word.startswith("--raw=")]


@pytest.mark.parametrize(("started", "times"), [(BEFORE, 1), (MADE, 1), (AFTER, 0)])
def test_only_helpers_that_are_not_younger_than_the_published_root_are_asked(confcom, followed, started, times):
    start_at(helper(followed), started)
    assert confcom("status").exit_code == ExitCode.OK
    assert len(asked(followed)) == times


def test_status_asks_an_older_helper_and_reads_no_secret(confcom, followed):
    done = confcom("status")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (ExitCode.OK, "All is well.")
    name = helper(followed)["metadata"]["name"]
    assert asked(followed) == [f"--raw=/api/v1/namespaces/{SYSTEM}/pods/{name}:8080/proxy/metrics"]
    assert not [line for line in followed.calls if any("secret" in word.lower() for word in line)]


def test_status_says_that_the_root_is_gone(confcom, enabled):
    enabled.remove({("Secret", SECRET["metadata"]["name"])})
    done = confcom("status")
    assert done.exit_code == ExitCode.NOT_READY
    assert "the ConfigMap confcom-simulated-root is missing, which Kubernetes removes when" in done.stdout
    assert "`confcom enable` makes what is missing" in done.stdout


def test_status_names_the_helper_that_quotes_by_another_root(confcom, behind):
    done = confcom("status", "-o", "json")
    (problem,) = json.loads(done.stdout)["problems"]
    name = helper(behind)["metadata"]["name"]
    assert problem.startswith(
        f"a: the quote helper {name} quotes by another simulated root (SHA-256 {OLD[:16]}...) than the cluster's "
        f"({NEW[:16]}...)"
    )
    assert problem.endswith(f"kubectl delete pod -n {SYSTEM} {name}")


@pytest.mark.parametrize("denied", [False, True])
def test_a_helper_that_cannot_be_asked_is_told(confcom, behind, denied):
    if denied:
        behind.denied.add("get pods/proxy")
    behind.roots.clear()
    done = confcom("status", "-o", "json")
    assert done.exit_code == ExitCode.OK
    (doubt,) = json.loads(done.stdout)["not_compared"]
    assert "cannot be asked by which one it quotes" in doubt
    assert ("cannot get resource" in doubt) is denied


def test_who_may_not_read_what_is_published_is_told_so(confcom, behind):
    behind.denied.add("get configmaps")
    done = confcom("status")
    assert done.exit_code == ExitCode.OK
    assert "Not compared:" in done.stdout
    assert "the ConfigMap confcom-simulated-root cannot be read: " in done.stdout


@pytest.mark.parametrize("data", [{"sha256": "my root"}, {}])
def test_enable_mends_a_record_that_somebody_damaged(confcom, followed, data):
    record(followed)["data"] = data
    told = confcom("status")
    assert told.exit_code == ExitCode.NOT_READY
    assert "the ConfigMap confcom-simulated-root holds no fingerprint" in told.stdout
    assert "is missing" not in told.stdout
    done = confcom("enable", "--simulated")
    assert done.exit_code == ExitCode.OK, done.output
    assert "The ConfigMap confcom-simulated-root holds no fingerprint of the simulated root" in done.stderr
    assert record(followed)["data"] == {"sha256": NEW}
    assert confcom("status").stdout.splitlines()[-1] == "All is well."


def test_a_wrong_fingerprint_is_mended_by_deleting_the_record_and_enabling(confcom, followed):
    record(followed)["data"] = {"sha256": "ef" * 32}
    told = confcom("status").stdout
    assert "quotes by another simulated root" in told
    assert "somebody edited the ConfigMap confcom-simulated-root, delete it, and `confcom enable` publishes" in told
    followed.remove({("ConfigMap", RECORD["metadata"]["name"])})
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    assert record(followed)["data"] == {"sha256": NEW}
    assert confcom("status").stdout.splitlines()[-1] == "All is well."


def test_disable_asks_no_helper_and_reads_no_record(confcom, behind):
    behind.denied |= {"get configmaps", "get pods/proxy"}
    done = confcom("disable", "--yes", "--no-wait")
    assert asked(behind) == []
    assert not [line for line in behind.calls if "configmap" in line]
    assert done.exit_code == ExitCode.OK, done.output


def test_not_more_helpers_are_asked_than_that(confcom, behind):
    for number in range(MOST_ASKED + 3):
        pod = make.pod(f"more-{number:03}", namespace=SYSTEM, on="a", labels=make.labels("quote-helper"))
        start_at(pod, BEFORE)
        behind.objects.append(pod)
    told = json.loads(confcom("status", "-o", "json").stdout)["not_compared"]
    assert len(asked(behind)) == MOST_ASKED
    assert len([one for one in told if f"more than {MOST_ASKED} would have to be asked" in one]) == 4


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


def test_enable_makes_another_root_tells_it_and_waits_for_the_helpers(confcom, deleted):
    started = deleted.now
    done = confcom("enable", "--simulated")
    assert done.exit_code == ExitCode.OK, done.output
    assert "Secret confcom-simulated-platform, ConfigMap confcom-simulated-root" in done.stderr
    assert f"The cluster has another simulated root now, SHA-256 {NEW}" in done.stderr
    assert "`confcom simulation export` again" in done.stderr
    assert deleted.now - started >= 60
    assert "All is well." in confcom("status").stdout


def test_enable_that_does_not_wait_leaves_it_to_status(confcom, deleted):
    started = deleted.now
    assert confcom("enable", "--simulated", "--no-wait").exit_code == ExitCode.OK
    assert deleted.now - started < 60
    assert "quotes by another simulated root" in confcom("status").stdout


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
    done = confcom("enable", "--simulated")
    assert done.exit_code == ExitCode.NOT_READY
    assert "not every quote helper quotes by the cluster's simulated root" in done.stderr
    assert f"kubectl delete pod --namespace={SYSTEM} {name}" in done.stderr
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
    assert "cannot be asked by which one it quotes" in done.stderr
    assert "The cluster has another simulated root now" not in done.stderr
    assert ("not allowed: get pods/proxy" in done.stderr) is denied
