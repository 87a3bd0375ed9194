"""The audit file, on a real file system and when there is none to speak of."""

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from confcom.aesm.messages import MessageKind
from confcom.errors import OutputError
from confcom.quote_helper.telemetry import audit
from confcom.quote_helper.telemetry.answer_record import AnswerRecord
from confcom.quote_helper.telemetry.audit import MAX_WAITING, AuditLog
from confcom.quote_helper.telemetry.audit_file import FILE_MODE, MIB, AuditFile
from confcom.quote_helper.transport.peers import Peer
from testkit.programs import run_python

POD = "8c1f4f3e-0e0e-4c1c-9a3d-6f5e4d3c2b1a"
CONTAINER = "3f7a" * 16
PEER = Peer((POD, CONTAINER), 1000, 17, POD, CONTAINER)
ACCEPTED = AnswerRecord(PEER, MessageKind.GET_QUOTE_EX, 0, bytes(range(32)))
REFUSED = AnswerRecord(Peer(1001, 1001, 0), MessageKind.INIT_QUOTE_EX, 30)
OUTCOME = "confcom_quote_helper_audit_records_total"
WAIT_SECONDS = 30


def line(number):
    return b'{"number": %d}\n' % number


def numbers(path):
    return [json.loads(text)["number"] for text in path.read_bytes().splitlines()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


@pytest.fixture
def start(registry):
    def make(file):
        return AuditLog(file, registry=registry, wall_clock=lambda: 1_767_225_600.25, clock=lambda: 0.0)

    return make


@pytest.fixture
def count(registry):
    return lambda outcome: registry.get_sample_value(OUTCOME, {"outcome": outcome})


class HungFile:
    """A file on a disk that hangs until it is released."""

    def __init__(self):
        self.asked = threading.Event()
        self.released = threading.Event()
        self.lines = []

    def append(self, lines):
        self.asked.set()
        assert self.released.wait(WAIT_SECONDS)
        self.lines += lines
        return len(lines)

    def close(self):
        self.asked.set()


# The log: a thread beside the loop.


async def test_a_record_says_when_who_what_and_the_result(start, path, count):
    log = start(AuditFile(path, MIB))
    log.add(ACCEPTED)
    log.add(REFUSED)
    await log.close()
    assert [json.loads(text) for text in path.read_text().splitlines()] == [
        {
            "time": "2026-01-01T00:00:00.250Z",
            "uid": 1000,
            "pod": POD,
            "container": CONTAINER,
            "pid": 17,
            "call": "GetQuoteEx",
            "result": "success",
            "mrenclave": bytes(range(32)).hex(),
        },
        {
            "time": "2026-01-01T00:00:00.250Z",
            "uid": 1001,
            "pod": "",
            "container": "",
            "pid": 0,
            "call": "InitQuoteEx",
            "result": "service_unavailable",
        },
    ]
    assert (count("written"), count("dropped")) == (2, 0)


async def test_nothing_is_lost_at_an_orderly_stop(start, path, count):
    log = start(AuditFile(path, 64 * MIB))
    for _ in range(MAX_WAITING):
        log.add(REFUSED)
    await log.close()
    assert len(path.read_bytes().splitlines()) == MAX_WAITING
    assert (count("written"), count("dropped")) == (MAX_WAITING, 0)


async def test_records_are_written_while_it_runs(start, path, wait_until):
    log = start(AuditFile(path, MIB))
    for number in range(1, 4):
        log.add(REFUSED)
        wait_until(lambda number=number: path.exists() and len(path.read_bytes().splitlines()) == number)
    await log.close()


async def test_a_disk_that_hangs_delays_nobody_and_the_rest_is_dropped_and_counted(start, count):
    file = HungFile()
    log = start(file)
    log.add(REFUSED)
    assert file.asked.wait(WAIT_SECONDS)
    for _ in range(MAX_WAITING + 99):
        log.add(REFUSED)
    assert count("dropped") == 100
    file.released.set()
    await log.close()
    assert len(file.lines) == count("written") == MAX_WAITING


async def test_a_disk_that_hangs_at_the_end_too_keeps_nobody(start, count, caplog, monkeypatch):
    monkeypatch.setattr(audit, "CLOSE_SECONDS", 0.01)
    file = HungFile()
    log = start(file)
    log.add(REFUSED)
    assert file.asked.wait(WAIT_SECONDS)
    await log.close()
    assert [(record.event, record.count) for record in caplog.records] == [("audit-records-lost", 1)]
    assert (count("written"), count("dropped")) == (0, 1)
    file.released.set()


async def test_a_file_that_cannot_be_written_is_told_once_and_written_when_it_can_be(  # noqa: PLR0917 # fixtures
    start, path, count, caplog, monkeypatch, wait_until
):
    monkeypatch.setattr(audit, "RETRY_SECONDS", 0.001)
    path = path.parent / "later" / "audit.jsonl"
    log = start(AuditFile(path, MIB))
    log.add(ACCEPTED)
    wait_until(lambda: caplog.records)
    log.add(REFUSED)
    path.parent.mkdir()
    wait_until(lambda: count("written") == 2)
    await log.close()
    assert len(path.read_bytes().splitlines()) == 2
    (told,) = [one for one in caplog.records if one.levelname == "ERROR"]
    assert (told.event, told.count) == ("audit-records-wait", 1)
    assert count("dropped") == 0


async def test_a_file_that_can_never_be_written_ends_with_the_helper(start, tmp_path, count, caplog):
    log = start(AuditFile(tmp_path, MIB))
    log.add(ACCEPTED)
    await log.close()
    assert (count("written"), count("dropped")) == (0, 1)
    assert [record.event for record in caplog.records] == ["audit-records-wait", "audit-records-lost"]


# The file.


def test_the_file_is_made_for_its_owner_alone_and_appended_to(path):
    old = os.umask(0)
    try:
        AuditFile(path, MIB).append([line(1), line(2)])
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == FILE_MODE == 0o600
    AuditFile(path, MIB).append([line(3)])
    assert numbers(path) == [1, 2, 3]


def test_a_file_that_is_there_keeps_its_mode(path):
    path.touch()
    path.chmod(0o640)
    AuditFile(path, MIB).append([line(1)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_full_file_is_put_aside_and_both_are_bounded(path):
    file = AuditFile(path, 10 * len(line(1000)))
    for number in range(1000, 1037):
        assert file.append([line(number)]) == 1
    aside = path.with_name("audit.jsonl.1")
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["audit.jsonl", "audit.jsonl.1"]
    assert numbers(aside) == list(range(1020, 1030))
    assert numbers(path) == list(range(1030, 1037))
    assert stat.S_IMODE(path.stat().st_mode) == FILE_MODE
    file.close()


def test_what_is_larger_than_the_bound_is_written_all_the_same_once(path):
    file = AuditFile(path, 5)
    file.append([line(1)])
    file.append([line(2)])
    assert numbers(path) == [2]
    assert numbers(path.with_name("audit.jsonl.1")) == [1]
    file.close()


def test_two_processes_share_one_file_and_its_bound(path):
    old, new = AuditFile(path, 10 * len(line(1000))), AuditFile(path, 10 * len(line(1000)))
    for number in range(1000, 1015):
        (old if number % 2 else new).append([line(number)])
    assert numbers(path.with_name("audit.jsonl.1")) + numbers(path) == list(range(1000, 1015))
    old.close()
    new.close()


@pytest.mark.parametrize("move", [lambda path: path.rename(path.with_name("rotated")), lambda path: path.unlink()])
def test_a_file_that_another_tool_put_aside_is_made_again(path, move):
    file = AuditFile(path, MIB)
    file.append([line(1)])
    move(path)
    file.append([line(2)])
    assert numbers(path) == [2]
    file.close()


def test_a_line_that_was_cut_does_not_spoil_the_next(path):
    path.write_bytes(line(1) + b'{"num')
    file = AuditFile(path, MIB)
    assert file.append([line(2)]) == 1
    assert file.append([line(3)]) == 1
    file.close()
    assert path.read_bytes() == line(1) + b'{"num\n' + line(2) + line(3)


FULL_DISK = """
import json, resource, sys
from pathlib import Path
from confcom.errors import OutputError
from confcom.quote_helper.telemetry.audit_file import MIB, AuditFile

path = Path(sys.argv[1])
file = AuditFile(path, MIB)
lines = [b'{"number": %d}\\n' % number for number in range(1000, 1006)]
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (3 * len(lines[0]) + 5, hard))
written = [file.append(lines)]
try:
    file.append(lines[3:])
except OutputError as error:
    written.append(error.error_code)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
written.append(file.append(lines[3:]))
print(json.dumps(written))
"""


def test_a_disk_that_is_full_for_a_while_loses_nothing(path):
    """The kernel writes as much as fits, in the middle of a line, and then refuses: here by a limit of the process."""
    done = run_python("-c", FULL_DISK, path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [3, "audit-file-not-writable", 3]
    cut = [text for text in path.read_bytes().splitlines(keepends=True) if not text.endswith(b"}\n")]
    assert cut == [b'{"num\n']
    assert path.read_bytes().replace(cut[0], b"") == b"".join(line(number) for number in range(1000, 1006))


def test_a_symbolic_link_is_not_followed(path, tmp_path):
    path.symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError):
        AuditFile(path, MIB).append([line(1)])
    assert not (tmp_path / "precious").exists()


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_what_is_no_file_is_refused_and_no_descriptor_stays(path, make):
    make(path)
    before = {entry.name for entry in Path("/proc/self/fd").iterdir()}
    with pytest.raises(OutputError):
        AuditFile(path, MIB).append([line(1)])
    assert {entry.name for entry in Path("/proc/self/fd").iterdir()} == before
