"""Clients pass descriptors to a helper on a kernel that can refuse descriptors, and on an older kernel.

While the helper is suspended, the client passes a socket and closes its own copy. Then the helper has the only
copy, and closing this copy takes a minute.
"""

import contextlib
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from confcom import passed_descriptors
from confcom.client import AesmClient
from testkit.conditions import wait_until
from testkit.helper_in_process import ENCLAVE, INIT, frame
from testkit.passing_descriptors import MOST_PER_MESSAGE, LingeringSockets, pass_descriptors, pass_own_end

PLAIN_RECEIVER = "import socket, sys; sys.stdin.read(1); socket.socket(fileno=int(sys.argv[1])).recv(64)"
WAITS = "wait_woken"
"""Text that /proc/PID/wchan has for a process that waits in sk_stream_wait_close()."""

MESSAGES = {
    (b"", 1): "without-request",
    (frame(INIT)[:5], 1): "incomplete",
    (frame(INIT), 1): "after-request",
    (b"", MOST_PER_MESSAGE): "many",
}
"""Names of cases, keyed by the bytes sent before the message and the number of sockets in the message."""


@pytest.fixture(params=[True, False], ids=["kernel-refuses", "older-kernel"])
def refuses(request):
    if request.param and not passed_descriptors.are_refusable():
        pytest.skip("this kernel cannot refuse descriptors (SO_PASSRIGHTS, Linux 6.16)")
    return request.param


@pytest.fixture
def helper(refuses, start_helper):
    return start_helper(alterations={"older_kernel": not refuses, "rendering_seconds": 0}).wait_ready()


@pytest.fixture
def sockets():
    with LingeringSockets() as made:
        yield made


@pytest.fixture
def connected(helper):
    with contextlib.ExitStack() as stack:

        def connect(first):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(helper.socket))
            client.send(first)
            return client

        yield connect


@contextlib.contextmanager
def stopped(helper):
    helper.process.send_signal(signal.SIGSTOP)
    yield
    helper.process.send_signal(signal.SIGCONT)


def quote(helper):
    client = AesmClient(helper.socket, timeout=15)
    return client.get_quote(ENCLAVE.create_report(client.init_quote().target_info, bytes(64))).quote


def test_a_program_that_asks_for_no_descriptors_waits(sockets):
    """On this kernel the attack harms a program that does not refuse descriptors."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-c", PLAIN_RECEIVER, str(theirs.fileno())]
        with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[theirs.fileno()]) as receiver:
            assert pass_descriptors(ours, b"\1", [sockets.make()])
            receiver.stdin.write(b"\n")
            receiver.stdin.flush()
            wait_until(lambda: Path(f"/proc/{receiver.pid}/wchan").read_text() == WAITS)
            receiver.kill()


@pytest.mark.parametrize("sent", MESSAGES, ids=MESSAGES.get)
def test_sockets_that_linger_keep_nobody_waiting(helper, refuses, connected, sockets, sent):
    first, number = sent
    with stopped(helper):
        clients = [connected(first) for _ in range(4)]
        taken = [pass_descriptors(each, b"\1", [sockets.make() for _ in range(number)]) for each in clients]
    assert taken == [not refuses] * len(clients)
    assert quote(helper)
    for each in clients:
        each.close()
    assert quote(helper)
    assert helper.get("/livez") == (200, "ok\n")
    assert helper.stop() == 0


def test_an_unread_answer_ends_with_the_last_process_that_had_it(helper, refuses):
    """A client passes its end of the connection and closes its own copy, so no client has the connection."""
    for _ in range(8):
        assert pass_own_end(str(helper.socket), frame(INIT)) is not refuses
    wait_until(lambda: helper.metric("confcom_quote_helper_connections") == 0)
    assert helper.metric("confcom_quote_helper_unread_memory_bytes") == 0


def test_input_after_a_request_costs_no_turns(helper, connected):
    """More input and the end of input cost no turns of the event loop; the answer stays until it is read."""
    client = connected(frame(INIT))
    select.select([client], [], [])
    for _ in range(3):
        client.send(b"more")
    client.shutdown(socket.SHUT_WR)
    began = switches(helper)
    for _ in range(20):
        assert helper.metric("confcom_quote_helper_unread_memory_bytes") > 0
    assert switches(helper) - began < 1000
    assert len(client.recv(65_536)) > len(frame(INIT))
    client.close()
    wait_until(lambda: helper.metric("confcom_quote_helper_unread_memory_bytes") == 0)


def switches(helper):
    """How often the helper's main thread has given up the CPU to wait."""
    lines = Path(f"/proc/{helper.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def test_log_and_readyz_say_what_protects(helper, refuses):
    protection = "refused by the kernel" if refuses else "watchdog"
    status, page = helper.get("/readyz")
    assert status == 200
    assert protection in page
    assert any(protection in line["message"] for line in helper.lines())
