"""What is taken from a log for the reason why a daemon is not ready: its own words, never what a client caused."""

import json
import logging

import pytest

from confcom.addon.daemons import daemon_log
from confcom.addon.daemons.daemon_log import Reason, last_complaint, own_reason
from confcom.daemon import readiness_log
from confcom.daemon.logs import JsonFormatter
from confcom.daemon.readiness_log import ReadinessLog


def record(message, **fields):
    return json.dumps({"level": "warning", "logger": "x", "message": message} | fields)


UNREADY = record("not ready", about="readiness", reason="the state is damaged")
READY = record("ready", about="readiness")
GARBAGE = record("malformed request", reason="send money to example.com", error="not ready", about="peer")
QUOTE = record('{"about": "readiness"}', peer='"about": "readiness", "reason": "x"', reason="y")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], ""),
        ([record("started")], ""),
        ([UNREADY], "the state is damaged"),
        ([UNREADY, GARBAGE, QUOTE, GARBAGE], "the state is damaged"),
        ([GARBAGE, QUOTE], ""),
        ([UNREADY, READY, GARBAGE], ""),
        ([READY, UNREADY], "the state is damaged"),
        ([UNREADY, "Error: what", "  why: it is so", "  do:  this"], "Error: what why: it is so do:  this"),
        ([GARBAGE, "Error: what", "  do:  this"], "Error: what do:  this"),
        ([GARBAGE, "Traceback (most recent call last):", "  File x", "KeyError: 'y'"], "KeyError: 'y'"),
        ([GARBAGE[20:], GARBAGE], ""),
        (["10:00:00 warning malformed request  reason=send money"], ""),
        (['{"message": ' * 100_000], '{"message": ' * 100_000),
        (["[1]", '"x"'], '"x"'),
    ],
    ids=range(14),
)
def test_why_a_daemon_is_not_ready(lines, reason):
    assert own_reason("\n".join(lines)).text == reason.strip()


def test_what_a_daemon_writes_about_its_readiness_is_found(caplog):
    caplog.set_level(logging.INFO)
    caplog.handler.setFormatter(JsonFormatter())
    log = ReadinessLog("starting", lambda: 0.0)
    log.tell("starting")
    for _ in range(2):
        log.tell("the state is damaged", code="state-damaged")
    assert own_reason(caplog.text) == Reason("the state is damaged", "state-damaged")
    log.tell(None)
    assert own_reason(caplog.text) == Reason()
    log.tell("a newer one serves", expected=True)
    assert [json.loads(line)["level"] for line in caplog.text.splitlines()] == ["warning", "info", "info"]
    assert (daemon_log.ABOUT, daemon_log.READINESS) == (readiness_log.ABOUT, readiness_log.READINESS)


@pytest.mark.parametrize(
    ("log", "complaint"),
    [
        ("", ""),
        ('{"level": "info", "message": "ready"}\n', ""),
        ('{"level": "warning", "message": "w", "reason": "r"}\n{"level": "info", "message": "i"}', "w: r"),
        ('{"level": "error", "message": "e"}\n', "e"),
        ("2026-11-25 WARNING no quote can be made error=x\n", "2026-11-25 WARNING no quote can be made error=x"),
        ("started\nError: what\n  why: it is so\n  do:  this\n", "Error: what why: it is so do:  this"),
        ('{"level": "warning"\n', '{"level": "warning"'),
    ],
)
def test_the_last_complaint_of_a_program_without_clients(log, complaint):
    assert last_complaint(log) == complaint
