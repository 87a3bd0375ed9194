import base64
import json

import pytest

from confcom.node_test import outcome
from confcom.node_test.outcome import MAX_LOG_BYTES, Cause, ProgramLog
from confcom.sample_workload import QUOTE_PREFIX, RESULT_PREFIX
from testkit import cluster_objects as make

QUOTE = b"\3\0quote"
QUOTE_LINE = QUOTE_PREFIX + base64.b64encode(QUOTE).decode()


def pod(status, **more):
    made = make.pod("t", on="a", status=status)
    made["metadata"] |= more
    return made


def ended(code=0):
    state = {"state": {"terminated": {"exitCode": code}}}
    return {"phase": "Failed" if code else "Succeeded", "containerStatuses": [state]}


def result(code="", ms=None, **more):
    error = {"error": {"code": code, "what": "it failed", "why": "so", "do": "this"}} if code else {}
    return RESULT_PREFIX + json.dumps({"quote_ms": ms, **error, **more})


FINAL = [
    (make.rejected("no devices"), {}, "pod-rejected", "UnexpectedAdmissionError: no devices"),
    (make.rejected("Pod was active too long", "DeadlineExceeded"), {}, "pod-rejected", "DeadlineExceeded"),
    (make.waiting("ImagePullBackOff", "no such image"), {}, "image-not-pulled", "no such image"),
    (make.waiting("ErrImageNeverPull"), {}, "image-not-pulled", "ErrImageNeverPull"),
    (make.waiting("CreateContainerError", "no device"), {}, "container-not-created", "no device"),
    (make.running(), {"deletionTimestamp": make.CREATED}, "pod-deleted", ""),
]
LATE = [
    (make.unschedulable("1 Insufficient epc"), "", "pod-pending", "1 Insufficient epc"),
    (make.waiting("ErrImagePull", "denied"), "", "image-not-pulled", "denied"),
    (make.waiting("ContainerCreating"), "FailedMount: no such directory", "pod-not-started", "no such directory"),
    (make.waiting("ContainerCreating"), "", "pod-not-started", "ContainerCreating"),
    ({"phase": "Pending"}, "", "pod-not-started", ""),
    (make.running(), "", "program-not-ended", ""),
]


@pytest.mark.parametrize(("status", "metadata", "code", "words"), FINAL)
def test_a_pod_that_cannot_end_well(status, metadata, code, words):
    found = outcome.failure(pod(status, **metadata))
    assert (found.code, words in found.what) == (code, True)


@pytest.mark.parametrize(("status", "warning", "code", "words"), LATE)
def test_a_pod_that_is_late(status, warning, code, words):
    assert outcome.failure(pod(status)) is None
    found = outcome.failure(pod(status), late=True, warning=warning)
    assert (found.code, words in found.what) == (code, True)


@pytest.mark.parametrize("code", [0, 1])
def test_an_ended_program_is_judged_by_its_log(code):
    made = pod(ended(code))
    assert outcome.failure(made) is None
    assert (outcome.exit_code(made), outcome.has_epc(made)) == (code, True)


@pytest.mark.parametrize(
    ("status", "epc"),
    [(make.rejected(), False), (make.unschedulable("full"), False), ({"phase": "Pending"}, None)],
)
def test_epc_that_a_pod_did_not_get(status, epc):
    assert outcome.has_epc(pod(status)) is epc


LOGS = [
    ([QUOTE_LINE, result(ms=7.5)], QUOTE, 7.5, "", True),
    ([QUOTE_LINE], QUOTE, None, "", True),
    ([QUOTE_LINE, f"{QUOTE_PREFIX}AAAA"], QUOTE, None, "", True),
    ([f"  {QUOTE_LINE}"], b"", None, "quote-missing", None),
    ([f"{QUOTE_PREFIX}%%"], b"", None, "quote-missing", None),
    (["x" * MAX_LOG_BYTES, QUOTE_LINE], b"", None, "quote-missing", None),
    ([result("no-enclave-device")], b"", None, "no-enclave-device", False),
    ([result("no-socket")], b"", None, "no-socket", True),
    ([result(), f"{RESULT_PREFIX}[]"], b"", None, "quote-missing", True),
    *(([QUOTE_LINE, f'{RESULT_PREFIX}{{"quote_ms": {ms}}}'], QUOTE, None, "", True) for ms in ("NaN", "-1", "9" * 400)),
    ([f"{RESULT_PREFIX}[[1"], b"", None, "quote-missing", None),
]


@pytest.mark.parametrize(("lines", "quote", "ms", "code", "device"), LOGS)
def test_the_log_of_a_program(lines, quote, ms, code, device):
    log = ProgramLog.parse("\n".join(["SGX platform: simulated", *lines]))
    cause = outcome.program_failure(log, 0, needs_quote=True)
    assert (log.quote, log.quote_ms, cause.code if cause else "", log.device) == (quote, ms, code, device)


@pytest.mark.parametrize(
    ("log", "exit_code", "needs_quote", "code"),
    [
        ("", 137, True, "program-failed"),
        (result("aesm-busy"), 6, True, "aesm-busy"),
        ("", 0, False, "result-missing"),
        (result(), 0, False, None),
    ],
)
def test_a_program_without_a_quote(log, exit_code, needs_quote, code):
    found = outcome.program_failure(ProgramLog.parse(log), exit_code, needs_quote=needs_quote)
    assert (found and found.code) == code


def test_words_of_programs_cannot_forge_lines():
    hostile = RESULT_PREFIX + json.dumps(
        {"error": {"code": "x\n\x1b[2K", "what": "a\nworker-2 VERIFIED", "do": "\x9b"}}
    )
    cause = ProgramLog.parse(hostile).cause
    assert all(part.isprintable() for part in (cause.code, cause.what, cause.remedy))
    assert isinstance(cause, Cause)
