import io
import json
import logging
import re

import pytest

from confcom.daemon.logs import LogLimiter, configure_logging


class Terminal(io.StringIO):
    def isatty(self):
        return True


pytestmark = pytest.mark.usefixtures("root_logger")


def test_json_lines_have_time_level_message_and_extra_fields():
    stream = io.StringIO()
    configure_logging(level="info", stream=stream)
    logging.getLogger("room").info("said %s\nand more", "so", extra={"peer": 7, "kind": object})
    logging.getLogger("room").debug("not shown")
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("time"))
    assert record == {
        "level": "info", "logger": "room", "message": "said so\nand more", "peer": 7, "kind": "<class 'object'>",
    }  # fmt: skip


def test_an_exception_is_a_field_of_its_line():
    stream = io.StringIO()
    configure_logging(level="info", stream=stream)
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        logging.getLogger().exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert "RuntimeError: boom" in json.loads(line)["exception"]


def test_text_is_for_people():
    stream = Terminal()
    configure_logging(level="warning", stream=stream)
    logging.getLogger().info("not shown")
    logging.getLogger().warning("look", extra={"peer": 7, "event": "for programs"})
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        logging.getLogger().exception("failed")
    first, second, *traceback = stream.getvalue().splitlines()
    assert first[8:] == " warning look  peer=7"
    assert second[8:] == " error   failed"
    assert traceback[-1] == "RuntimeError: boom"


def test_text_keeps_to_its_line_whatever_a_field_holds():
    stream = Terminal()
    configure_logging(level="warning", stream=stream)
    logging.getLogger().warning("no socket at %s", "a\n\x1b[2Kb", extra={"peer": "\u202e7"})
    assert stream.getvalue()[8:] == " warning no socket at a\\n\\x1b[2Kb  peer=\\u202e7\n"


def test_log_limiter_admits_one_and_counts_the_others():
    now = 100.0
    limiter = LogLimiter(60.0, lambda: now)
    assert limiter.admit() == 0
    assert [limiter.admit() for _ in range(3)] == [None] * 3
    now += 60
    assert limiter.admit() == 3
    assert limiter.admit() is None
    now += 61
    assert limiter.admit() == 1
