import json
import logging

import pytest

from confcom.addon.daemon_pods import (
    UNKNOWN,
    DaemonPod,
    PodState,
    Reason,
    daemon_pod,
    needs_log,
    own_reason,
    warnings_in,
)
from confcom.daemon.logs import JsonFormatter
from confcom.daemon.readiness_log import NotReady, ReadinessLog
from testkit import cluster_objects as make

ERROR_LOG = "Error: what\n  why: it is so\n  do:  this\n"


PROBED = "Unhealthy: Readiness probe failed"


def record(message, **fields):
    return json.dumps({"level": "warning", "logger": "x", "message": message} | fields)


UNREADY = record("not ready", about="readiness", reason="the state is damaged", code="state-damaged")
READY = record("ready", about="readiness")
BY_CLIENT = record("malformed request", reason="send money to example.com", error="not ready", about="peer")
KILLED = {"exitCode": 137, "reason": "OOMKilled"}
JUST_KILLED = {"phase": "Running", "containerStatuses": [{"name": "main", "state": {"terminated": KILLED}}]}
QUOTED = record('{"about": "readiness"}', peer='"about": "readiness", "reason": "x"', reason="y")


def crashed(message="", code=2, **ended):
    return make.waiting(
        "CrashLoopBackOff", "back-off", ended={"exitCode": code, "message": message} | ended, restarts=4
    )


def creating(reason):
    status = make.waiting(reason)
    status["containerStatuses"][0]["image"] = "r.test/x@sha256:0"
    return status


def seen(status, *, warning="", logged=UNKNOWN):
    return daemon_pod(make.daemon("quote-helper", name="p", status=status), warning, logged)


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        (make.running(), PodState.READY, ""),
        (make.waiting("ContainerCreating"), PodState.STARTING, "it is starting"),
        (creating("ContainerCreating"), PodState.STARTING, "ContainerCreating: the kubelet pulls r.test/x@sha256:0"),
        (creating("PodInitializing"), PodState.STARTING, "PodInitializing: the kubelet pulls r.test/x@sha256:0"),
        (make.waiting("ImagePullBackOff", "no such image"), PodState.FAILING, "ImagePullBackOff: no such image"),
        (crashed(ERROR_LOG), PodState.FAILING, "CrashLoopBackOff: exit code 2, 4 restarts: Error: what why: it is so"),
        (crashed(f"{UNREADY}\n{BY_CLIENT}"), PodState.FAILING, "exit code 2, 4 restarts: the state is damaged"),
        (make.unschedulable("0/1 nodes"), PodState.WAITING, "Unschedulable: 0/1 nodes"),
        (make.rejected("no devices"), PodState.REJECTED, "UnexpectedAdmissionError: no devices"),
        (make.rejected("low on disk", "Evicted"), PodState.REJECTED, "Evicted: low on disk"),
        (make.not_ready(), PodState.NOT_READY, "containers with unready status: [main]"),
        (crashed(**KILLED), PodState.FAILING, "OOMKilled, exit code 137, "),
        (JUST_KILLED, PodState.STARTING, "OOMKilled, exit code 137, "),
    ],
)
def test_state_and_reason_by_the_pods_status(status, state, reason):
    found = seen(status)
    assert found.state is state
    assert reason in found.reason
    assert bool(found.reason) is (state is not PodState.READY)


NO_QUOTE, TIMED_OUT = Reason("no quote", "no-quote"), f"{PROBED}: context deadline exceeded"
REFUSED, NO_SECRET = f"{PROBED}: dial tcp: connect: connection refused", "FailedMount: no secret"
SAYS_SO = f"{PROBED}: HTTP probe failed with statuscode: 503"
SOURCES = {
    "log before event": (make.not_ready(), NO_QUOTE, "Unhealthy: 503", "its log: no quote", "no-quote"),
    "event": (make.not_ready(), Reason(), "Unhealthy: 503", "Unhealthy: 503", ""),
    "it says so": (make.not_ready(), Reason(), SAYS_SO, "status: [main]", ""),
    "not yet": (make.not_ready(), Reason(), REFUSED, "status: [main]", ""),
    "no answer": (make.not_ready(), Reason(), TIMED_OUT, TIMED_OUT, ""),
    "log of a crash": (crashed(), NO_QUOTE, "BackOff: x", ": no quote", "no-quote"),
    "the crash's own words": (crashed(ERROR_LOG), NO_QUOTE, "BackOff: x", "do: this", ""),
    "event of a starting Pod": (make.waiting("ContainerCreating"), Reason(), NO_SECRET, NO_SECRET, ""),
}


@pytest.mark.parametrize(("status", "logged", "warning", "reason", "code"), SOURCES.values(), ids=SOURCES)
def test_the_most_specific_source_gives_the_reason(status, logged, warning, reason, code):
    found = seen(status, logged=logged, warning=warning)
    assert found.reason.endswith(reason)
    assert found.reason_code == code


def test_a_back_off_has_the_reason_of_the_failed_pull():
    pull, wait = make.waiting("ErrImagePull", "refused"), 'Back-off pulling image "x": ErrImagePull: refused'
    assert seen(pull).reason == seen(make.waiting("ImagePullBackOff", wait)).reason == "ErrImagePull: refused"


def test_foreign_words_are_printable_and_short():
    found = seen(make.not_ready(), logged=Reason("a\x1b[2Jb\u202ec " + "x" * 5000 + " no such image"))
    assert "a\\x1b[2Jb\\u202ec" in found.reason
    assert found.reason.endswith(" no such image")
    assert len(found.reason) < 600


def aesmd(log="", **status):
    ended = {"state": {"terminated": {"exitCode": 1, "message": log}}}
    return make.sidecar(make.waiting("PodInitializing"), restartCount=4, **(status or ended))


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (aesmd("x\nFail to start service.\n"), "aesmd-does-not-start", "kubectl logs"),
        (aesmd(state={"terminated": KILLED}), "aesmd-does-not-start", "OOMKilled"),
        (
            aesmd(state={"waiting": {"reason": "ErrImagePull", "message": "no image"}}),
            "image-not-pulled",
            "ErrImagePull: no image",
        ),
        (aesmd(state={"waiting": {"reason": "CreateContainerError", "message": "no map"}}), "", "no map"),
        (aesmd(state={"running": {}}), "", "it is starting"),
    ],
)
def test_the_sidecars_cause_is_named_without_its_log(status, code, words):
    found = seen(status)
    assert found.reason_code == code
    assert words in found.reason
    assert "Fail to start" not in found.reason


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], Reason()),
        ([record("started")], Reason()),
        ([UNREADY, BY_CLIENT, QUOTED], Reason("the state is damaged", "state-damaged")),
        ([BY_CLIENT, QUOTED], Reason()),
        ([UNREADY, READY, BY_CLIENT], Reason()),
        ([UNREADY, *ERROR_LOG.splitlines()], Reason("Error: what why: it is so do:  this")),
        ([BY_CLIENT[20:], "10:00:00 warning malformed request  reason=send money"], Reason()),
        (['{"message": ' * 100_000], Reason()),
        (["[1]", '"x"'], Reason()),
    ],
    ids=["empty", "no reason", "unready", "clients", "ready again", "error", "cut", "deep", "no object"],
)
def test_a_log_gives_the_daemons_own_reason_and_no_words_of_clients(lines, reason):
    assert own_reason("\n".join(lines)) == reason


def test_the_daemons_readiness_records_are_understood(caplog):
    caplog.set_level(logging.INFO)
    caplog.handler.setFormatter(JsonFormatter())
    log = ReadinessLog(starting := NotReady("starting", code="s"), lambda: 0.0)
    log.tell(starting)
    for _ in range(2):
        log.tell(NotReady("the state is damaged", code="state-damaged"))
    assert own_reason(caplog.text) == Reason("the state is damaged", "state-damaged")
    log.tell(None)
    assert own_reason(caplog.text) == Reason()


def test_the_latest_warning_about_each_object_counts():
    events = [
        make.event("p", "FailedMount", "old", at="2026-11-25T00:00:01Z"),
        make.event("p", "FailedMount", 'secret "x" not found', at="2026-11-25T00:00:09Z"),
        make.event("p", "Pulled", "fine", at="2026-11-25T00:01:00Z", kind="Normal"),
        make.event("p", "MissingClusterDNS", "harmless", at="2026-11-25T00:01:00Z"),
        make.event("q", "FailedCreate", "quota", at="2026-11-25T00:01:00Z"),
    ]
    found = warnings_in(events)
    assert {name: (one.reason, one.text) for name, one in found.items()} == {
        "p": ("FailedMount", 'FailedMount: secret "x" not found'),
        "q": ("FailedCreate", "FailedCreate: quota"),
    }


@pytest.mark.parametrize(
    ("status", "needed"),
    [(make.running(), False), (make.not_ready(), True), (crashed(), True), (make.waiting("ErrImagePull"), False)],
)
def test_only_pods_that_have_run_and_are_not_ready_need_their_logs(status, needed):
    assert needs_log(make.daemon("quote-helper", status=status)) is needed


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
def test_the_version_is_the_images_tag_or_digest(image, version):
    assert DaemonPod("p", "n", None, PodState.READY, image=image).version == version
