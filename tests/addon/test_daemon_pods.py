"""Why a daemon's pod is not ready, in the words of whoever knows best."""

import pytest
from fake_cluster import objects as make
from fake_cluster.objects import SYSTEM

from confcom.addon.daemon_pods import PodState, daemon_pods, mute_pods, version_of
from confcom.addon.plan import Component

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
        (make.waiting("ContainerCreating"), PodState.STARTING, "its containers are being started"),
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
    assert one(make.not_ready(), events=events, said={"p": "no quote"}).reason == "it says: no quote"
    assert one(make.not_ready(), events=events).reason == "Unhealthy: Readiness probe failed: 503"


def test_reasons_are_short_and_on_one_line():
    reason = one(make.waiting("ErrImagePull", "long\n" * 500)).reason
    assert "\n" not in reason
    assert len(reason) < 320


def test_reasons_are_printable():
    assert one(make.not_ready(), said={"p": "a\x1b[2Jb\u202ec"}).reason == "it says: a\\x1b[2Jb\\u202ec"


def test_what_clients_had_logged_is_no_reason_why_a_container_ended():
    line = '{"level": "warning", "message": "malformed request", "peer": "pay to x"}\n'
    status = make.waiting("CrashLoopBackOff", "back-off", ended={"exitCode": 137, "message": line * 9}, restarts=3)
    assert one(status).reason == "CrashLoopBackOff: exit code 137, 3 restarts"


def test_a_simulated_nodes_daemon_beside_hardware_is_the_same_component():
    assert one(make.running(), component="device-plugin-simulated").component is Component.DEVICE_PLUGIN


def test_others_are_none_of_ours():
    assert daemon_pods([make.pod("p"), make.pod("q", labels=make.labels("simulated-root"))]) == ()


def test_only_those_that_have_run_are_asked_for_their_logs():
    def pod(name, status):
        return make.pod(name, labels=make.labels("quote-helper"), status=status)

    ended = {"exitCode": 1}
    pods = [
        pod("ready", make.running()),
        pod("mute", make.not_ready()),
        pod("crashed", make.waiting("CrashLoopBackOff", ended=ended)),
        pod("pulling", make.waiting("ErrImagePull")),
        make.pod("foreign", status=make.not_ready()),
    ]
    assert mute_pods(pods) == ("mute", "crashed")


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
