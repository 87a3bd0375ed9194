"""The outcome of one node's test, and the cause of a failure: from a Pod's status, its warning and its log. Pure."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

from confcom.addon.daemon_pods import CREATION_REASONS, IMAGE_REASONS, joined, one_line
from confcom.errors import ConfcomError
from confcom.kubernetes.objects import TERMINAL, KubernetesObject, condition, listing, mapping, number, text
from confcom.sample_workload import QUOTE_PREFIX, RESULT_PREFIX, NoEnclaveDeviceError

MAX_LOG_BYTES = 64 * 1024
"""Bytes that are read of a Pod's log; a quote has 5 KiB, or 7 KiB as base64."""
MAX_QUOTE_MS = 3_600_000
"""An hour. A longer time is no measurement: a program may write any number, which JSON and float cannot all hold."""
_BEFORE_THE_DEVICE = frozenset({NoEnclaveDeviceError.error_code, "platform-not-simulated", "variable-refused"})
"""Codes with which the sample ends before it has opened the SGX device."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a node's test failed; `what` is one line, and contains words of other programs."""

    what: str
    remedy: str = ""
    code: str = field(kw_only=True)

    @classmethod
    def of(cls, error: ConfcomError, code: str = "") -> Self:
        return cls(one_line(joined(error.what, error.why)), one_line(error.remedy), code=code or error.error_code)

    def to_json(self) -> dict[str, str]:
        return {"code": self.code, "what": self.what, "do": self.remedy}


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What was found on one node. A part is None if it was not reached."""

    node: str
    simulated: bool
    epc: bool | None = None
    device: bool | None = None
    quote_ms: float | None = None
    """Milliseconds from the request of the quote to its arrival, as the program measured them."""
    verified: bool = False
    cause: Cause | None = None
    accepted: bool = field(default=False, kw_only=True)
    """Whether the cause is no failure: no program on a hardware node, with `--without-program`."""

    @property
    def passed(self) -> bool:
        return self.accepted or (self.verified and self.cause is None)

    def to_json(self) -> dict[str, object]:
        names = ("node", "simulated", "epc", "device", "quote_ms", "verified", "passed")
        return {name: getattr(self, name) for name in names} | {"cause": self.cause.to_json() if self.cause else None}


@dataclass(frozen=True, slots=True)
class ProgramLog:
    """What a test's program wrote: the quote, and the sample's own result; a part is empty if it is missing."""

    quote: bytes = b""
    reported: bool = False
    quote_ms: float | None = None
    cause: Cause | None = None

    @property
    def device(self) -> bool | None:
        """Whether the program has opened the SGX device; None if it did not say."""
        if self.quote or (self.reported and self.cause is None):
            return True
        return self.cause.code not in _BEFORE_THE_DEVICE if self.cause else None

    @classmethod
    def parse(cls, log: str) -> Self:
        """Read the first line of each kind; other lines, which any program may write, are ignored."""
        lines = log[:MAX_LOG_BYTES].splitlines()
        encoded = next((line.removeprefix(QUOTE_PREFIX) for line in lines if line.startswith(QUOTE_PREFIX)), "")
        reported = next((line.removeprefix(RESULT_PREFIX) for line in lines if line.startswith(RESULT_PREFIX)), "")
        try:
            quote = base64.b64decode(encoded.strip(), validate=True)
        except ValueError:
            quote = b""
        try:
            result = json.loads(reported)
        except (ValueError, RecursionError):
            result = None
        if not isinstance(result, dict):
            return cls(quote)
        error, took = mapping(result, "error"), result.get("quote_ms")
        said = one_line(joined(text(error, "what"), text(error, "why")))
        cause = Cause(said, one_line(text(error, "do")), code=one_line(text(error, "code"))) if error else None
        took_ms = float(took) if isinstance(took, int | float) and 0 <= took < MAX_QUOTE_MS else None
        return cls(quote, True, took_ms, cause)


def exit_code(pod: KubernetesObject) -> int | None:
    """Return the exit code of a program that has ended, so that its log is complete; None if it has not."""
    ended = _state(pod, "terminated")
    return number(ended, "exitCode") if ended and text(pod, "status", "phase") in TERMINAL else None


def has_epc(pod: KubernetesObject) -> bool | None:
    """Return whether the kubelet gave the Pod its EPC; None if the Pod was not scheduled or is not started yet."""
    if _state(pod, "running") or _state(pod, "terminated"):
        return True
    refused = text(pod, "status", "phase") == "Failed" or condition(pod, "PodScheduled").get("status") == "False"
    return False if refused else None


def failure(pod: KubernetesObject, *, late: bool = False, warning: str = "") -> Cause | None:
    """Return why the Pod's program will never end, or has not ended in time (`late`); None if it still may."""
    return next(_failures(pod, late=late, warning=warning), None)


def _failures(pod: KubernetesObject, *, late: bool, warning: str) -> Iterator[Cause]:
    scheduled, waiting = condition(pod, "PodScheduled"), _state(pod, "waiting")
    reason, status, words = text(waiting, "reason"), mapping(pod, "status"), _said(waiting)
    if text(pod, "metadata", "deletionTimestamp"):
        yield Cause("somebody deleted the test Pod", "run the test again", code="pod-deleted")
    if text(status, "phase") == "Failed" and exit_code(pod) is None:
        yield Cause(_said(status), "see the kubelet's and the device plugin's log on the node", code="pod-rejected")
    if reason in IMAGE_REASONS and (late or reason != "ErrImagePull"):
        remedy = "see that the node can pull the image, and that image.pullSecrets name the registry's Secret"
        yield Cause(words, remedy, code="image-not-pulled")
    if reason in CREATION_REASONS:
        yield Cause(words, "see the node's device plugin and container runtime", code="container-not-created")
    if late and scheduled.get("status") == "False":
        remedy = "see `confcom status` for the node's EPC, and `kubectl describe node` for its taints"
        yield Cause(_said(scheduled), remedy, code="pod-pending")
    if late and _state(pod, "running"):
        yield Cause("the program still runs at the deadline", "try a longer --timeout", code="program-not-ended")
    if late:
        what = one_line(warning) or words or "the Pod was not started"
        yield Cause(what, "see that the node is Ready and its kubelet answers", code="pod-not-started")


def program_failure(log: ProgramLog, code: int, *, needs_quote: bool) -> Cause | None:
    """Return why a program that has ended gave no quote; `code` is its exit code."""
    if log.cause:
        return log.cause
    if code:
        what = f"the program ended with the exit code {code}"
        return Cause(what, "see what the program writes", code="program-failed")
    if needs_quote and not log.quote:
        what = f"the log has no line `{QUOTE_PREFIX}BASE64` in its first {MAX_LOG_BYTES} bytes"
        return Cause(what, "let the program print its quote in one line", code="quote-missing")
    if not needs_quote and not log.reported:
        return Cause(f"the log has no line `{RESULT_PREFIX}`", "update the quote helper's image", code="result-missing")
    return None


def _state(pod: KubernetesObject, name: str) -> KubernetesObject:
    """Return the details of the first container that is in this state; empty if no container is."""
    states = (mapping(one, "state", name) for one in listing(pod, "status", "containerStatuses"))
    return next(filter(None, states), {})


def _said(about: KubernetesObject) -> str:
    return one_line(joined(text(about, "reason"), text(about, "message")))
