import io
import json
import os
import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry

from confcom.daemon.logs import (
    CUT_MARK,
    MAX_RECORD_BYTES,
    MAX_WAITING_RECORDS,
    RECORDS_PER_WRITE,
    LogStream,
    configure_logging,
)
from confcom.errors import UnavailableError, explain
from testkit.full_pipe import fill, full_pipe, lines_of, read_in_thread


class Pipe:
    """A log stream that writes to a pipe, which a test reads on demand."""

    def __init__(self):
        self.reader, writer = os.pipe()
        self.file = os.fdopen(writer, "w")
        self.stream = LogStream(self.file)

    def fill(self):
        fill(self.file.fileno())

    def read_all(self):
        """Finish the stream and read the pipe to its end; return the lines that the stream wrote."""
        thread, text = read_in_thread(self.reader)
        self.stream.finish(30)
        self.file.close()
        thread.join()
        return lines_of(b"".join(text))


def dropped_by(stream):
    registry = CollectorRegistry()
    registry.register(stream.dropped)
    return registry.get_sample_value("confcom_log_records_dropped_total")


class CountingStream(io.StringIO):
    writes = 0

    def write(self, text):
        self.writes += 1
        return super().write(text)


@pytest.fixture
def pipe():
    return Pipe()


def test_records_arrive_in_order_and_none_is_missing_at_the_end(pipe):
    os.set_blocking(pipe.file.fileno(), False)  # another process may make the pipe non-blocking
    pipe.fill()
    for number in range(MAX_WAITING_RECORDS - 1):
        pipe.stream.write(f"{number}\n")
    pipe.stream.write("a\udc80b\n")
    assert pipe.read_all() == [*map(str, range(MAX_WAITING_RECORDS - 1)), "a\\udc80b"]
    assert dropped_by(pipe.stream) == 0


def test_a_record_arrives_though_none_follows(pipe):
    with os.fdopen(os.dup(pipe.reader)) as reader:
        for number in range(3):
            pipe.stream.write(f"{number}\n")
            assert reader.readline() == f"{number}\n"
    assert pipe.read_all() == []


def test_records_that_come_fast_are_written_together():
    memory = CountingStream()
    stream = LogStream(memory)
    for number in range(1000):
        stream.write(f"{number}\n")
    stream.finish(30)
    assert lines_of(memory.getvalue().encode()) == [str(number) for number in range(1000)]
    assert memory.writes < 500
    assert not stream.isatty()


def test_a_stalled_reader_stops_nobody_and_learns_its_loss(pipe, root_logger):
    assert dropped_by(pipe.stream) == 0
    configure_logging(level="info", stream=pipe.stream)
    pipe.fill()
    written = 2 * MAX_WAITING_RECORDS
    for number in range(written):
        pipe.stream.write(f"{number}\n")
    dropped = int(dropped_by(pipe.stream))
    taken = written - dropped - MAX_WAITING_RECORDS
    assert 0 <= taken <= RECORDS_PER_WRITE, "by the thread, which waits with them"
    *lines, last = pipe.read_all()
    numbers = [int(line) for line in lines]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == written - dropped
    told = json.loads(last)
    assert (told["event"], told["level"], told["count"]) == ("log-records-dropped", "warning", dropped)


@pytest.mark.parametrize("letter", ["x", "\N{POUND SIGN}"])
def test_of_a_record_that_is_too_long_the_middle_is_cut_and_the_next_arrives(pipe, letter):
    pipe.stream.write("first" + letter * 2 * MAX_RECORD_BYTES + "cause\n")
    pipe.stream.write("next\n")
    cut, following = pipe.read_all()
    assert following == "next"
    first, _, cause = cut.partition(CUT_MARK.decode())
    assert (first.rstrip(letter), cause.lstrip(letter)) == ("first", "cause")
    assert MAX_RECORD_BYTES - 4 < len((first + cause).encode()) <= MAX_RECORD_BYTES
    assert dropped_by(pipe.stream) == 0


def test_a_closed_pipe_costs_records_and_no_error(pipe):
    os.close(pipe.reader)
    pipe.stream.write("lost\n")
    pipe.stream.finish(30)
    assert dropped_by(pipe.stream) == 1
    pipe.file.close()


PROGRAM = """
import os, sys, logging
from confcom.daemon.settings import DaemonSettings
from confcom.daemon.supervision import exit_status
from confcom.errors import UnavailableError

def body(settings, registry):
    logging.getLogger().info("a line")
    logging.getLogger().info("cannot be formatted: %d", "x")
    if sys.argv[1] == "explained":
        raise UnavailableError("what", why="why", remedy="do")
    if sys.argv[1] == "bug":
        1 / 0
    return 7

sys.exit(exit_status(lambda: DaemonSettings(), body, stderr=sys.stderr))
"""
EXPLAINED = explain(UnavailableError("what", why="why", remedy="do")).splitlines()


@pytest.mark.parametrize(
    ("ending", "code", "last"),
    [
        ("returns", 7, "Arguments: ('x',)"),
        ("explained", 6, EXPLAINED[-1]),
        ("bug", 1, "ZeroDivisionError: division by zero"),
    ],
)
@pytest.mark.parametrize("reads", [True, False])
def test_a_process_ends_with_its_code_and_its_last_lines(ending, code, last, reads):
    """The interpreter flushes sys.stderr at its end, so the buffer must be empty and the lock be free."""
    reader, writer = full_pipe()
    command = [sys.executable, "-c", PROGRAM, ending]
    process = subprocess.Popen(command, stderr=subprocess.PIPE if reads else writer, text=True)
    try:
        _, text = process.communicate(timeout=30)
        assert process.returncode == code
    finally:
        process.kill()
        process.wait()
        for descriptor in (reader, writer):
            os.close(descriptor)
    if reads:
        lines = text.splitlines()
        assert json.loads(lines[0])["message"] == "a line"
        assert "--- Logging error ---" in lines
        assert lines[-1] == last
