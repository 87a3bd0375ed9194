"""Why a daemon's pod is not ready, in the words of whoever knows best."""

import copy

import pytest

from confcom.addon.daemons.daemon_log import Reason
from confcom.addon.daemons.daemon_pods import PodState, daemon_pods, pod_reason, pods_needing_logs, version_of
from confcom.addon.model.chart_objects import Component
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import SYSTEM

LOG_TAIL = """{"level": "info", "message": "started"}
{"level": "warning", "message": "not ready", "about": "readiness", "reason": "no room left"}
{"level": "info", "message": "ended"}
"""


def one(status, *, events=(), said=(), component="quote-helper", **more):
    pod = make.pod("p", namespace=SYSTEM, on="a", labels=make.labels(component), status=status, **more)
    (found,) = daemon_pods([pod], events, dict(said))
    return found


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        (make.running(), PodState.READY, ""),
        (make.waiting("ContainerCreating"), PodState.STARTING, "its containers are starting"),
        (make.waiting("ImagePullBackOff", "no such image"), PodState.FAILING, "ImagePullBackOff: no such image"),
        (
            make.waiting("CrashLoopBackOff", "back-off", ended={"exitCode": 2, "message": "Error: x"}, restarts=4),
            PodState.FAILING,
            "CrashLoopBackOff: exit code 2, 4 restarts: Error: x",
        ),
        (
            make.waiting("CrashLoopBackOff", ended={"exitCode": 2, "message": LOG_TAIL}, restarts=4),
            PodState.FAILING,
            "CrashLoopBackOff: exit code 2, 4 restarts: no room left",
        ),
        (make.unschedulable("0/1 nodes"), PodState.WAITING, "Unschedulable: 0/1 nodes"),
        (make.rejected("no devices"), PodState.REJECTED, "UnexpectedAdmissionError: no devices"),
        (make.rejected("the node was low on disk", "Evicted"), PodState.REJECTED, "Evicted: the node was low on disk"),
        (make.not_ready(), PodState.NOT_READY, "containers with unready status: [main]"),
    ],
)
def test_states(status, state, reason):
    found = one(status)
    assert (found.state, found.reason) == (state, reason)


def test_a_pod_that_is_told_to_end():
    pod = make.pod("p", labels=make.labels("device-plugin"))
    pod["metadata"]["deletionTimestamp"] = "2026-11-25T00:00:00Z"
    (found,) = daemon_pods([pod])
    assert (found.component, found.state) == (Component.DEVICE_PLUGIN, PodState.ENDING)


def test_events_tell_what_a_starting_pod_does_not():
    events = [
        make.event("p", "FailedMount", "old", at="2026-11-25T00:00:01Z"),
        make.event("p", "FailedMount", 'secret "x" not found', at="2026-11-25T00:00:09Z"),
        make.event("p", "Pulled", "fine", at="2026-11-25T00:01:00Z", kind="Normal"),
        make.event("p", "MissingClusterDNS", "never mind", at="2026-11-25T00:01:00Z"),
        make.event("q", "FailedMount", "another pod", at="2026-11-25T00:01:00Z"),
    ]
    assert one(make.waiting("ContainerCreating"), events=events).reason == 'FailedMount: secret "x" not found'


def test_what_it_says_itself_comes_before_events():
    events = [make.event("p", "Unhealthy", "Readiness probe failed: 503")]
    assert one(make.not_ready(), events=events, said={"p": Reason("no quote")}).reason.endswith("no quote")
    assert one(make.not_ready(), events=events).reason == "Unhealthy: Readiness probe failed: 503"


def test_reasons_are_printable():
    assert one(make.not_ready(), said={"p": Reason("a\x1b[2Jb\u202ec")}).reason.endswith("a\\x1b[2Jb\\u202ec")


KILLED = {"exitCode": 137, "reason": "OOMKilled"}


def killed(component, *, limit="256Mi", status=None, labels=None):
    """A daemon that was killed for memory, and waits to be started again."""
    status = status or make.waiting("CrashLoopBackOff", ended=KILLED, restarts=4)
    pod = make.pod("p", labels=labels or make.labels(component), status=status)
    pod["status"]["containerStatuses"][0]["name"] = "main"
    pod["spec"]["initContainers"] = [{"name": "init", "resources": {"limits": {"memory": "1Mi"}}}]
    pod["spec"]["containers"][0]["resources"]["limits"] = {"memory": limit} if limit else {}
    return pod


@pytest.mark.parametrize(
    ("component", "limit", "value"),
    [
        ("quote-helper", "256Mi", "quoteHelper.resources.limits.memory=512Mi"),
        ("device-plugin", "128Mi", "devicePlugin.resources.limits.memory=256Mi"),
        ("quote-helper", "1Gi", "quoteHelper.resources.limits.memory=2048Mi"),
        ("quote-helper", "100M", "quoteHelper.resources.limits.memory=200000000"),
    ],
)
def test_a_daemon_killed_for_memory_says_limit_and_remedy(component, limit, value):
    (found,) = daemon_pods([killed(component, limit=limit)])
    assert found.reason.startswith("OOMKilled: ")
    assert f" {limit} (exit code 137, 4 restarts)" in found.reason
    assert f"`confcom update --set {value}`" in found.reason
    assert found.state is PodState.FAILING


RUNS_AGAIN = make.not_ready()
RUNS_AGAIN["containerStatuses"][0] |= {"lastState": {"terminated": KILLED}}
JUST_KILLED = {"phase": "Running", "containerStatuses": [{"state": {"terminated": KILLED}, "restartCount": 0}]}
BY_HAND = make.waiting("CrashLoopBackOff", ended={"exitCode": 137, "reason": "Error"}, restarts=4)


@pytest.mark.parametrize(
    ("pod", "said", "reason"),
    [
        (killed("quote-helper", limit=""), {}, "OOMKilled: "),
        (killed("quote-helper", status=JUST_KILLED), {}, "OOMKilled: "),
        (killed("quote-helper", status=copy.deepcopy(RUNS_AGAIN)), {}, "OOMKilled: "),
        (killed("quote-helper", status=copy.deepcopy(RUNS_AGAIN)), {"p": Reason("no quote")}, "its log: no quote"),
        (killed("quote-helper", status=BY_HAND), {}, "CrashLoopBackOff: exit code 137, 4 restarts"),
    ],
    ids=["no limit", "just killed", "runs again", "says itself", "by hand"],
)
def test_who_was_killed_for_memory(pod, said, reason):
    (found,) = daemon_pods([pod], said=said)
    assert found.reason.startswith(reason)
    assert ("--set" in found.reason) is (reason == "OOMKilled: " and bool(limits_of(pod)))


def limits_of(pod):
    return pod["spec"]["containers"][0]["resources"]["limits"]


def test_our_job_killed_for_memory_names_no_value():
    _, reason = pod_reason(killed("", labels=make.labels("simulated-root")))
    assert reason.startswith("OOMKilled: ")
    assert reason.endswith(" 256Mi (exit code 137, 4 restarts)")


def test_others_are_none_of_ours():
    assert daemon_pods([make.pod("p"), make.pod("q", labels=make.labels("simulated-root"))]) == ()


def test_only_those_that_have_run_are_asked_for_their_logs():
    statuses = {
        "ready": make.running(),
        "mute": make.not_ready(),
        "crashed": make.waiting("CrashLoopBackOff", ended={"exitCode": 1}),
        "pulling": make.waiting("ErrImagePull"),
    }
    pods = [make.pod(name, labels=make.labels("quote-helper"), status=status) for name, status in statuses.items()]
    assert pods_needing_logs([*pods, make.pod("foreign", status=make.not_ready())]) == ("mute", "crashed")


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("confcom/quote-helper:0.1.0", "0.1.0"),
        ("registry:5000/confcom/quote-helper", "latest"),
        ("registry:5000/confcom/quote-helper:1", "1"),
        (f"x@sha256:{'ab' * 32}", "sha256:abababababab"),
        (f"x:1@sha256:{'ab' * 32}", "sha256:abababababab"),
    ],
)
def test_versions(image, version):
    assert version_of(image) == version
