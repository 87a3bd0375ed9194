"""Peers as the kernel shows them: real sockets, processes and process IDs; only /proc is the test's own."""

import contextlib
import errno
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from confcom.quote_helper.transport.peers import GONE, ByPod, ByUid, Peer

POD = "8c1f4f3e-0e0e-4c1c-9a3d-6f5e4d3c2b1a"
CONTAINER = "3f7a" * 16
SIDECAR = "b0c1" * 16
SO_PEERPIDFD = 77

CONNECT = """
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
sys.stdin.read()
"""

OUTLIVE_MAIN_THREAD = """
import ctypes, socket, sys, threading
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
threading.Thread(target=sys.stdin.read).start()
ctypes.CDLL(None).pthread_exit(None)
"""
ROOT_ON_V1 = "2:memory:/\n1:name=systemd:/\n0::/\n"


class OldKernelSocket(socket.socket):
    """A socket of a kernel before 6.5, which may also have used the peer's process ID again."""

    peer_pid = None

    def getsockopt(self, level, option, *size):
        if (level, option) == (socket.SOL_SOCKET, SO_PEERPIDFD):
            raise OSError(errno.ENOPROTOOPT, "Protocol not available")
        value = super().getsockopt(level, option, *size)
        if self.peer_pid is not None and option == socket.SO_PEERCRED:
            return struct.pack("i", self.peer_pid) + value[4:]
        return value


def as_on_an_old_kernel(connection):
    return OldKernelSocket(fileno=connection.detach())


def as_it_is(connection):
    return connection


class Proc:
    """A /proc of the test's own."""

    def __init__(self, path):
        self.path = path

    def put(self, pid, container=CONTAINER, pod=POD):
        self.file(pid).write_text(self.text(container, pod))

    def file(self, pid):
        (self.path / str(pid)).mkdir(exist_ok=True)
        return self.path / str(pid) / "cgroup"

    @staticmethod
    def text(container=CONTAINER, pod=POD):
        return f"0::/kubepods/burstable/pod{pod}/{container}\n"


@pytest.fixture
def proc(tmp_path):
    return Proc(tmp_path)


@pytest.fixture
def listener(short_dir):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(short_dir / "s"))
        sock.listen()
        yield sock


@pytest.fixture
def connect(listener):
    """A connection that this process makes to itself: the accepted end, and the connecting one."""
    with contextlib.ExitStack() as stack:

        def make():
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(listener.getsockname())
            return stack.enter_context(listener.accept()[0]), client

        yield make


@pytest.fixture
def process(listener):
    """A process that connects, and ends when it is told to: the accepted end, and the process."""
    with contextlib.ExitStack() as stack:

        def make(program=CONNECT):
            child = stack.enter_context(
                subprocess.Popen([sys.executable, "-c", program, listener.getsockname()], stdin=subprocess.PIPE)
            )
            stack.callback(child.stdin.close)
            return stack.enter_context(listener.accept()[0]), child

        yield make


def end(child):
    child.stdin.close()
    child.wait()


def open_descriptors():
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def test_by_uid_is_who_connected(connect):
    accepted, _ = connect()
    assert ByUid()(accepted) == Peer(os.getuid(), os.getuid(), os.getpid())


@pytest.mark.parametrize("kernel", [as_it_is, as_on_an_old_kernel])
def test_by_pod_is_the_container_of_who_connected(process, proc, kernel):
    accepted, child = process()
    proc.put(child.pid)
    with kernel(accepted) as connection:
        peer = ByPod(proc.path)(connection)
    assert (peer.uid, peer.pid, peer.pod, peer.container) == (os.getuid(), child.pid, POD, CONTAINER)


def test_two_containers_of_one_uid_are_two_peers_and_two_connections_of_one_container_are_one(process, proc):
    identify = ByPod(proc.path)
    connections = [process() for _ in range(3)]
    for (_, child), container in zip(connections, (CONTAINER, SIDECAR, SIDECAR), strict=True):
        proc.put(child.pid, container)
    first, second, third = [identify(accepted) for accepted, _ in connections]
    assert first.key != second.key == third.key
    assert first.share_key == second.share_key, "a Pod may have as many containers as it likes"
    assert first.uid == second.uid
    assert second.pid != third.pid


def test_what_moves_to_another_container_is_another_peer_from_then_on(connect, proc):
    """What is remembered is what a text means, never who was where."""
    identify = ByPod(proc.path)
    accepted, _ = connect()
    proc.put(os.getpid())
    assert identify(accepted).container == CONTAINER
    proc.put(os.getpid(), SIDECAR)
    assert identify(accepted).container == SIDECAR


@pytest.mark.parametrize("kernel", [as_it_is, as_on_an_old_kernel])
@pytest.mark.parametrize("text", [None, "", "0::/user.slice\n", "\xff\n" * 40_000])
def test_in_no_pod_one_uid_is_one_peer(connect, proc, kernel, text):
    if text is not None:
        proc.file(os.getpid()).write_text(text)
    accepted, _ = connect()
    with kernel(accepted) as connection:
        assert ByPod(proc.path)(connection) == ByUid()(connection)


@pytest.mark.parametrize("kernel", [as_it_is, as_on_an_old_kernel])
def test_a_process_that_is_gone_is_gone_whoever_has_its_id_now(process, proc, kernel):
    accepted, child = process()
    proc.put(child.pid)
    end(child)
    with kernel(accepted) as connection:
        assert ByPod(proc.path)(connection) == Peer(GONE, os.getuid(), child.pid)


def test_a_process_without_its_main_thread_is_gone_where_v1_shows_it_in_the_root(process, proc):
    """Its other threads live on, in a Pod perhaps, and may take any uid."""
    accepted, child = process(OUTLIVE_MAIN_THREAD)
    proc.file(child.pid).write_text(ROOT_ON_V1)
    state = Path(f"/proc/{child.pid}/stat")
    while state.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.001)
    (proc.file(child.pid).parent / "stat").write_bytes(state.read_bytes())
    assert ByPod(proc.path)(accepted) == Peer(GONE, os.getuid(), child.pid)


def test_a_process_in_the_root_of_v1_is_by_uid_while_its_main_thread_lives(connect, proc):
    accepted, _ = connect()
    proc.file(os.getpid()).write_text(ROOT_ON_V1)
    (proc.file(os.getpid()).parent / "stat").write_bytes(Path("/proc/self/stat").read_bytes())
    assert ByPod(proc.path)(accepted) == ByUid()(accepted)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to connect as other users")
def test_all_that_are_gone_are_one_peer_whatever_their_uid(listener, proc):
    """A container's root may take any uid, connect and end, and so be anybody by uid."""
    keys, uids = set(), set()
    for uid in (1000, 2000, 3000):
        with as_user_that_ends(listener, uid) as accepted:
            keys.add(ByPod(proc.path)(accepted).key)
            uids.add(ByUid()(accepted).key)
    assert (keys, uids) == ({GONE}, {1000, 2000, 3000})


def as_user_that_ends(listener, uid):
    """A connection that a process of this user made, and that this process holds on its behalf."""
    Path(listener.getsockname()).parent.chmod(0o755)
    Path(listener.getsockname()).chmod(0o666)
    script = (
        f"import os, socket, sys; os.setresuid({uid}, {uid}, {uid}); socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", script, listener.getsockname()], check=True)
    return listener.accept()[0]


def test_a_process_that_goes_while_its_cgroup_is_read_is_gone(process, proc):
    """Its ID may be another's when the file is read: here it is, by a pipe that is filled after its end."""
    accepted, child = process()
    pipe = proc.file(child.pid)
    os.mkfifo(pipe)

    def succeed():
        with pipe.open("w") as file:
            end(child)
            file.write(Proc.text())

    successor = threading.Thread(target=succeed)
    successor.start()
    peer = ByPod(proc.path)(accepted)
    successor.join()
    assert peer == Peer(GONE, os.getuid(), child.pid)


def test_on_an_old_kernel_an_id_that_was_used_again_before_it_was_looked_at_says_nothing(process, proc):
    accepted, child = process()
    end(child)
    proc.put(os.getpid())
    with as_on_an_old_kernel(accepted) as connection:
        connection.peer_pid = os.getpid()
        assert ByPod(proc.path)(connection).pod == ""


def test_a_process_in_a_namespace_that_is_not_seen_is_by_uid(connect, proc):
    proc.put(0)
    accepted, _ = connect()
    with as_on_an_old_kernel(accepted) as connection:
        connection.peer_pid = 0
        assert ByPod(proc.path)(connection) == Peer(os.getuid(), os.getuid(), 0)


@pytest.mark.parametrize("kernel", [as_it_is, as_on_an_old_kernel])
def test_no_descriptor_stays_open(process, proc, kernel):
    identify = ByPod(proc.path)
    accepted, child = process()
    with kernel(accepted) as connection:
        before = open_descriptors()
        identify(connection)
        proc.put(child.pid)
        identify(connection)
        child.kill()
        child.wait()
        identify(connection)
        assert open_descriptors() == before


def test_without_descriptors_to_spare_it_is_one_of_those_that_are_gone(connect, proc):
    proc.put(os.getpid())

    class Exhausted(socket.socket):
        def getsockopt(self, level, option, *size):
            if option == SO_PEERPIDFD:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().getsockopt(level, option, *size)

    accepted, _ = connect()
    with Exhausted(fileno=accepted.detach()) as connection:
        assert ByPod(proc.path)(connection).key == GONE
