"""Who serves the path: the rules as a table."""

import pytest

from confcom.daemon.socket_path import FileIdentity
from confcom.errors import UnavailableError
from confcom.quote_helper.takeover.takeover_policy import (
    MAX_SOCKET_PATH_BYTES,
    Blocked,
    Directory,
    Foreign,
    Instance,
    LiveHelper,
    Nobody,
    OwnSocket,
    Stale,
    Step,
    decide,
)

OLDER, ME, NEWER = Instance(1, 9), Instance(2, 5), Instance(2, 6)
STALE = Stale(FileIdentity(1, 1))
FOREIGN = Foreign("a program that is no quote helper serves it")
BLOCKED = Blocked(UnavailableError("it may not be looked at", error_code="not-to-be-looked-at"))


@pytest.mark.parametrize(
    ("state", "can_quote", "replace_foreign", "step", "code"),
    [
        (OwnSocket(), False, False, Step.KEEP, ""),
        (OwnSocket(), True, True, Step.KEEP, ""),
        (Nobody(), False, False, Step.BIND, ""),
        (Nobody(), True, False, Step.BIND, ""),
        (STALE, False, False, Step.BIND, ""),
        (STALE, True, False, Step.BIND, ""),
        (Directory(), False, False, Step.BIND, ""),
        (LiveHelper(OLDER), False, False, Step.WAIT, "no-quote-made"),
        (LiveHelper(OLDER), True, False, Step.REPLACE, ""),
        (LiveHelper(NEWER), False, False, Step.WAIT, "no-quote-made"),
        (LiveHelper(NEWER), True, False, Step.WAIT, "newer-helper-serves"),
        (LiveHelper(ME), False, False, Step.REPLACE, ""),
        (FOREIGN, False, False, Step.WAIT, FOREIGN.code),
        (FOREIGN, True, False, Step.WAIT, FOREIGN.code),
        (FOREIGN, False, True, Step.WAIT, FOREIGN.code),
        (FOREIGN, True, True, Step.REPLACE, ""),
        (BLOCKED, True, True, Step.WAIT, "not-to-be-looked-at"),
    ],
)
def test_the_rules(state, can_quote, replace_foreign, step, code):
    """A wait has a reason, and the code of it."""
    decision = decide(state, me=ME, can_quote=can_quote, replace_foreign=replace_foreign)
    assert (decision.step, decision.code) == (step, code)
    assert bool(decision.reason) is (step is Step.WAIT)
    assert decision.expected is (code in {"newer-helper-serves", "no-quote-made"})


def test_marks():
    instance = Instance.started(1_234_567_890_123_456, bytes.fromhex("0a0b0c"))
    assert instance.mark == "confcom-00499602d2-0a0b0c"
    assert Instance.parse(f"/var/run/aesmd/.aesm.socket.{instance.mark}") == instance
    assert len(f"..{instance.mark}") + MAX_SOCKET_PATH_BYTES == 107


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/s",
        "/.s.c0ffee",
        "confcom-004996d2e1-0a0b0c",
        "/.s.confcom-004996d2e1-0a0b0",
        "/.s.confcom-004996D2E1-0a0b0c",
    ],
)
def test_other_names_are_not_ours(name):
    assert Instance.parse(name) is None
