"""The child process: crashes, hangs, prints, restarts, and its end."""

import contextlib
import fcntl
import logging
import os
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

from confcom.aesm.error_code import AesmErrorCode as Code
from confcom.quote_provider.base import QuoteProviderError
from confcom.quote_provider.dcap.captured_lines import MAX_LINE_BYTES, MAX_LINES, WINDOW_SECONDS, CapturedLines
from confcom.quote_provider.dcap.child_keeper import RESTART_PAUSES, SETTLED_SECONDS, ChildKeeper
from confcom.quote_provider.dcap.child_process import ChildProcess, child_environment
from confcom.quote_provider.dcap.frames import Answer, Call, Request
from confcom.simulation.enclave import SimulatedEnclave
from testkit.raised import raises
from testkit.stub_dcap import PCE, PROVIDER, QE3, Action, build_libraries

APPLICATION = SimulatedEnclave.from_name("application")
INIT, SIZE, QUOTE = Call.INIT, Call.SIZE, Call.QUOTE


def report_for(provider):
    return APPLICATION.create_report(provider.identity().target_info, bytes(64))


def lines_of(caplog):
    return [record.getMessage() for record in caplog.records if "DCAP libraries: " in record.getMessage()]


def wait_until(condition, seconds=20):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)


def state(pid):
    """Return the state of a process' first thread, such as T (stopped) or Z; empty if there is no process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def alive(pid):
    return state(pid) not in {"", "Z"}


def unread_bytes(channel):
    """Return what the peer of a unix socket has not read."""
    return struct.unpack("i", fcntl.ioctl(channel, termios.TIOCOUTQ, bytes(4)))[0]


@pytest.mark.parametrize("call", [INIT, SIZE, QUOTE])
@pytest.mark.parametrize(
    ("action", "how"),
    [(Action.SEGFAULT, "SIGSEGV"), (Action.ABORT, "SIGABRT"), (Action.EXIT, "exited with 7")],
)
def test_a_crash_is_told_with_its_signal_and_the_next_call_has_another_child(dcap, stub, call, action, how):
    report = report_for(dcap)
    dcap.quote_size()
    stub.actions = {call: action}
    with raises("dcap-child-crashed", QuoteProviderError, "why", "remedy") as caught:
        dcap.identity() if call is INIT else dcap.quote_size() if call is SIZE else dcap.quote(report, None)
    assert (caught.value.code, caught.value.lost) == (Code.BUSY, True)
    assert how in caught.value.why
    assert call.function in caught.value.why
    assert dcap.quote(report, None).quote
    assert len(set(stub.pids)) == 2


def test_one_that_dies_between_two_calls_is_replaced_unseen(dcap, stub, caplog):
    report = report_for(dcap)
    os.kill(stub.pids[0], signal.SIGKILL)
    wait_until(lambda: not alive(stub.pids[0]))
    assert dcap.quote(report, None).quote
    assert any(getattr(record, "error", "") == "it was ended by SIGKILL" for record in caplog.records)


def test_one_that_is_not_yet_reaped_is_replaced_unseen(dcap, stub, monkeypatch):
    report = report_for(dcap)
    monkeypatch.setattr(ChildProcess, "ending", "")
    os.kill(stub.pids[0], signal.SIGKILL)
    wait_until(lambda: not alive(stub.pids[0]))
    assert dcap.quote(report, None).quote


def test_one_that_dies_before_it_reads_a_request_is_replaced_unseen(dcap, stub, caplog):
    """A process is killed thread by thread: for a moment it is neither gone nor able to read."""
    report = report_for(dcap)
    os.kill(stub.pids[0], signal.SIGSTOP)
    wait_until(lambda: state(stub.pids[0]) == "T")
    made = []
    thread = threading.Thread(target=lambda: made.append(dcap.quote(report, None)))
    thread.start()
    wait_until(lambda: unread_bytes(dcap._keeper._child._channel))
    os.kill(stub.pids[0], signal.SIGKILL)
    thread.join(20)
    assert made[0].quote
    assert any(getattr(record, "error", "") == "it was ended by SIGKILL" for record in caplog.records)


@pytest.mark.parametrize("call", [INIT, SIZE, QUOTE])
def test_one_that_hangs_is_killed_at_the_deadline(make, stub, call):
    dcap = make(call_seconds=1)
    report = report_for(dcap)
    dcap.quote_size()
    stub.actions = {call: Action.HANG}
    started = time.monotonic()
    with raises("dcap-hangs", QuoteProviderError, "why", "remedy") as caught:
        dcap.identity() if call is INIT else dcap.quote_size() if call is SIZE else dcap.quote(report, None)
    assert 0.9 < time.monotonic() - started < 10
    assert (caught.value.code, caught.value.lost) == (Code.BUSY, True)
    assert not alive(stub.pids[-1])
    assert dcap.quote(report, None).quote


def test_all_calls_for_one_client_share_its_deadline(make, stub):
    dcap = make(call_seconds=2)
    report = report_for(dcap)
    stub.milliseconds = {SIZE: 1200, QUOTE: 1200}
    with raises("dcap-hangs", QuoteProviderError) as caught:
        dcap.quote(report, None)
    assert "sgx_ql_get_quote " in caught.value.why


def test_a_slow_call_is_waited_for_and_others_wait_behind_it(dcap, stub):
    report = report_for(dcap)
    dcap.quote_size()
    stub.milliseconds = {QUOTE: 300}
    made = []
    threads = [threading.Thread(target=lambda: made.append(dcap.quote(report, None))) for _ in range(3)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 3
    assert time.monotonic() - started >= 0.9
    assert len(set(stub.pids)) == 1


def test_what_the_libraries_print_is_logged_and_disturbs_nothing(dcap, stub, caplog):
    caplog.set_level(logging.INFO)
    report = report_for(dcap)
    stub.actions = {QUOTE: Action.NOISE}
    assert dcap.quote(report, None).quote
    dcap.close()
    lines = lines_of(caplog)
    assert len(lines) == MAX_LINES
    assert lines[0] == "DCAP libraries: stub: provider library loaded"
    assert lines[1] == "DCAP libraries: 0"


def test_what_is_printed_before_a_crash_is_logged(make, stub, caplog):
    """A pipe's buffer of C's stdout would be lost."""
    caplog.set_level(logging.INFO)
    dcap = make(environ={name: value for name, value in stub.environ.items() if name != "PYTHONUNBUFFERED"})
    stub.actions = {INIT: Action.SEGFAULT}
    with raises("dcap-child-crashed", QuoteProviderError):
        dcap.identity()
    assert lines_of(caplog)[-1] == "DCAP libraries: stub: crashes now"


def test_the_provider_library_stays_loaded(dcap, stub, caplog):
    """Intel's library opens and closes it for each call."""
    caplog.set_level(logging.INFO)
    report = report_for(dcap)
    for _ in range(3):
        dcap.quote(report, None)
    dcap.close()
    assert lines_of(caplog) == ["DCAP libraries: stub: provider library loaded"]


@pytest.mark.parametrize("missing", [PCE, QE3])
def test_without_a_library_the_linkers_message_is_told(make, tmp_path, missing):
    libraries = build_libraries(tmp_path)
    (libraries / missing).unlink()
    with raises("dcap-library-missing", QuoteProviderError, "why", "remedy") as caught:
        make(libraries).identity()
    assert missing in caught.value.why
    assert (caught.value.code, caught.value.lost) == (Code.SERVICE_UNAVAILABLE, True)


def test_a_library_without_its_functions(make, tmp_path):
    libraries = build_libraries(tmp_path)
    (libraries / QE3).write_bytes((libraries / PROVIDER).read_bytes())
    with raises("dcap-library-missing", QuoteProviderError) as caught:
        make(libraries).identity()
    assert "sgx_ql_init_quote" in caught.value.why


def test_the_quoting_library_does_not_load_alone(libraries):
    """As Intel's: hence the order, and RTLD_GLOBAL."""
    program = f"import ctypes; ctypes.CDLL('{libraries / QE3}')"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "undefined symbol: sgx_pce_sign_report" in result.stderr


def test_a_child_that_does_not_start(make, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with raises("dcap-child-not-started", QuoteProviderError, "why", "remedy"):
        make().identity()
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with raises("dcap-child-crashed", QuoteProviderError) as caught:
        make().identity()
    assert "exited with 0" in caught.value.why


def test_the_child_ends_with_its_helper_even_while_a_library_hangs(stub, libraries, root, short_dir):
    program = (
        "import os, sys, threading, time\n"
        "from pathlib import Path\n"
        "from confcom.quote_provider.dcap.provider import DcapQuoteProvider\n"
        "from confcom.quote_provider.expected_root import ExpectedRoot\n"
        "provider = DcapQuoteProvider.by_child("
        "ExpectedRoot(bytes(48)), environ=os.environ, library_dir=Path(sys.argv[1]))\n"
        "provider.identity()\n"
    )
    stub.actions = {INIT: Action.HANG}
    helper = subprocess.Popen([sys.executable, "-c", program, libraries], env=stub.environ)
    wait_until(lambda: stub.pids)
    assert alive(stub.pids[0])
    helper.kill()
    helper.wait()
    wait_until(lambda: not alive(stub.pids[0]))


def test_closing_ends_the_child_during_a_call_and_none_is_started_any_more(make, stub):
    dcap = make()
    stub.actions = {INIT: Action.HANG}
    failed = []

    def hang():
        with raises("dcap-stopping", QuoteProviderError) as caught:
            dcap.identity()
        failed.append(caught.value)

    thread = threading.Thread(target=hang)
    thread.start()
    wait_until(lambda: stub.pids)
    dcap.close()
    thread.join(10)
    assert failed[0].lost
    assert not alive(stub.pids[0])
    with raises("dcap-stopping", QuoteProviderError):
        dcap.identity()


def test_ctrl_c_is_for_the_helper_alone(dcap, stub):
    dcap.identity()
    assert os.getpgid(stub.pids[0]) == stub.pids[0]


def test_the_childs_environment():
    assert child_environment({"SGX_AESM_ADDR": "", "QCNL_CONF_PATH": "/q"}, None) == {"QCNL_CONF_PATH": "/q"}
    assert child_environment({}, Path("/l")) == {"LD_LIBRARY_PATH": "/l"}
    assert child_environment({"LD_LIBRARY_PATH": "/m"}, Path("/l")) == {"LD_LIBRARY_PATH": "/l:/m"}


class Child(ChildProcess):
    """A child that answers as it is told, without a process."""

    pid = 1
    ending = ""

    def __init__(self, status):
        self.status, self.killed = status, False

    def ask(self, request, deadline):
        return Answer(request.call, self.status)

    def kill(self):
        self.killed = True


class TestPauses:
    def setup_method(self):
        self.now, self.pauses, self.status = 0.0, [], 0xE001
        self.keeper = ChildKeeper(lambda: Child(self.status), clock=lambda: self.now)
        self.keeper._closed.wait = self.wait

    def wait(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds
        return False

    def fail(self):
        with pytest.raises(QuoteProviderError):
            self.keeper.call(Request(Call.SIZE), 0.0)

    def test_they_grow(self):
        for _ in range(7):
            self.fail()
        assert self.pauses == [0.0, *RESTART_PAUSES, RESTART_PAUSES[-1]]

    def test_a_settled_child_ends_the_count(self):
        for _ in range(4):
            self.fail()
        self.keeper.prepare()
        self.now += SETTLED_SECONDS
        self.fail()
        self.fail()
        assert self.pauses[-1] == RESTART_PAUSES[0]

    def test_one_that_does_not_start_counts_too(self):
        self.keeper._start = self.no_child
        for _ in range(3):
            with pytest.raises(QuoteProviderError):
                self.keeper.prepare()
        assert self.pauses == [0.0, *RESTART_PAUSES[:2]]

    def no_child(self):
        raise QuoteProviderError(Code.BUSY, "no child", lost=True)


def test_two_that_end_before_they_read_a_request_are_told():
    children = []

    class Ending(Child):
        def ask(self, request, deadline):
            return None

        def wait_for_ending(self):
            return "it was ended by SIGKILL"

    def start():
        children.append(Ending(0))
        return children[-1]

    with raises("dcap-child-crashed", QuoteProviderError, "why", "remedy") as caught:
        ChildKeeper(start, clock=lambda: 0.0).call(Request(Call.SIZE), 0.0)
    assert caught.value.lost
    assert [child.killed for child in children] == [True, True]


def test_lines_are_cut_and_counted_and_unprintable_bytes_are_shown(caplog):
    caplog.set_level(logging.INFO)
    now = [0.0]
    lines = CapturedLines(lambda: now[0])
    with contextlib.ExitStack() as stack:

        def printed(data):
            reading, writing = os.pipe()
            stack.enter_context(os.fdopen(writing, "wb")).write(data)
            return os.fdopen(reading, "rb")

        stream = printed(b"x" * 5000 + b"\n\nnext \xff\n" + b"more\n" * MAX_LINES)
        stack.close()
        lines.follow(stream, 7).join(10)
        assert [len(line) for line in lines_of(caplog)[:1]] == [len("DCAP libraries: ") + MAX_LINE_BYTES]
        assert lines_of(caplog)[1] == "DCAP libraries: next \\xff"
        now[0] = WINDOW_SECONDS
        stream = printed(b"again")
        stack.close()
        lines.follow(stream, 7).join(10)
    (dropped,) = [record for record in caplog.records if "were dropped" in record.getMessage()]
    assert dropped.count == 3
    assert lines_of(caplog)[-1] == "DCAP libraries: again"
