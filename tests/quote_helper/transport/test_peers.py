"""Tests with peers that the kernel reports for real sockets and processes; only /proc is simulated."""

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

from confcom.quote_helper.transport.peers import GONE, ByPod, Peer, by_uid
from testkit.helper_in_process import open_descriptors

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
    """A socket as on kernels before 6.5, on which the reported process ID may belong to another process."""

    peer_pid = None

    def getsockopt(self, level, option, *size):
        if (level, option) == (socket.SOL_SOCKET, SO_PEERPIDFD):
            raise OSError(errno.ENOPROTOOPT, "Protocol not available")
        value = super().getsockopt(level, option, *size)
        if self.peer_pid is not None and option == socket.SO_PEERCRED:
            return struct.pack("i", self.peer_pid) + value[4:]
        return value


class ExhaustedSocket(socket.socket):
    """A socket in a process that has no free descriptors."""

    def getsockopt(self, level, option, *size):
        if option == SO_PEERPIDFD:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().getsockopt(level, option, *size)


either_kernel = pytest.mark.parametrize("kind", [socket.socket, OldKernelSocket], ids=["new kernel", "old kernel"])


class Proc:
    def __init__(self, path):
        self.path = path
        self.identify = ByPod(path)

    def put(self, pid, container=CONTAINER, pod=POD):
        self.file(pid).write_text(self.text(container, pod))

    def file(self, pid, name="cgroup"):
        (self.path / str(pid)).mkdir(exist_ok=True)
        return self.path / str(pid) / name

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
def accept(listener):
    with contextlib.ExitStack() as stack:

        def accepted(kind=socket.socket):
            return stack.enter_context(kind(fileno=listener.accept()[0].detach()))

        yield accepted


@pytest.fixture
def connect(listener, accept):
    """Connects this process to itself; returns the accepted end."""
    with contextlib.ExitStack() as stack:

        def make(kind=socket.socket):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(listener.getsockname())
            return accept(kind)

        yield make


@pytest.fixture
def process(listener, accept):
    """Starts a process that connects, and ends when its input ends; returns accepted end and child."""
    with contextlib.ExitStack() as stack:

        def make(program=CONNECT, kind=socket.socket):
            command = [sys.executable, "-c", program, listener.getsockname()]
            child = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE))
            stack.callback(child.stdin.close)
            return accept(kind), child

        yield make


def end(child):
    child.stdin.close()
    child.wait()


def test_by_uid_is_who_connected(connect):
    assert by_uid(connect()) == Peer(os.getuid(), os.getuid(), os.getpid())


@either_kernel
def test_by_pod_is_the_container_of_who_connected(process, proc, kind):
    accepted, child = process(kind=kind)
    proc.put(child.pid)
    peer = proc.identify(accepted)
    assert (peer.uid, peer.pid, peer.pod, peer.container) == (os.getuid(), child.pid, POD, CONTAINER)


def test_containers_of_one_uid_are_peers_of_their_own(process, proc):
    """Two connections from the same container belong to one peer."""
    connections = [process() for _ in range(3)]
    for (_, child), container in zip(connections, (CONTAINER, SIDECAR, SIDECAR), strict=True):
        proc.put(child.pid, container)
    first, second, third = [proc.identify(accepted) for accepted, _ in connections]
    assert first.key != second.key == third.key
    assert first.share_key == second.share_key, "a Pod may have as many containers as it likes"
    assert first.uid == second.uid
    assert second.pid != third.pid


def test_what_moves_to_another_container_is_another_peer(connect, proc):
    """The cache maps a cgroup file's text to its container, and does not remember a process's container."""
    accepted = connect()
    for container in (CONTAINER, SIDECAR):
        proc.put(os.getpid(), container)
        assert proc.identify(accepted).container == container


@either_kernel
@pytest.mark.parametrize("text", [None, "", "0::/user.slice\n", "\xff\n" * 40_000])
def test_in_no_pod_one_uid_is_one_peer(connect, proc, kind, text):
    if text is not None:
        proc.file(os.getpid()).write_text(text)
    accepted = connect(kind)
    assert proc.identify(accepted) == by_uid(accepted)


# Tests of ended processes.


@either_kernel
def test_a_process_that_is_gone_is_gone_whoever_has_its_id(process, proc, kind):
    accepted, child = process(kind=kind)
    proc.put(child.pid)
    end(child)
    assert proc.identify(accepted) == Peer(GONE, os.getuid(), child.pid)


def test_without_its_main_thread_it_is_gone_in_the_root_of_v1(process, proc):
    """The process's other threads may live on, perhaps in a Pod, and may change to any uid."""
    accepted, child = process(OUTLIVE_MAIN_THREAD)
    proc.file(child.pid).write_text(ROOT_ON_V1)
    state = Path(f"/proc/{child.pid}/stat")
    while state.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.001)
    proc.file(child.pid, "stat").write_bytes(state.read_bytes())
    assert proc.identify(accepted) == Peer(GONE, os.getuid(), child.pid)


def test_with_its_main_thread_it_is_by_uid_in_the_root_of_v1(connect, proc):
    proc.file(os.getpid()).write_text(ROOT_ON_V1)
    proc.file(os.getpid(), "stat").write_bytes(Path("/proc/self/stat").read_bytes())
    accepted = connect()
    assert proc.identify(accepted) == by_uid(accepted)


def test_a_process_that_goes_while_its_cgroup_is_read_is_gone(process, proc):
    """Another process may have the ID when the file is read. The pipe gives text after the peer's end."""
    accepted, child = process()
    pipe = proc.file(child.pid)
    os.mkfifo(pipe)

    def succeed():
        with pipe.open("w") as file:
            end(child)
            file.write(Proc.text())

    successor = threading.Thread(target=succeed)
    successor.start()
    peer = proc.identify(accepted)
    successor.join()
    assert peer == Peer(GONE, os.getuid(), child.pid)


def test_without_descriptors_to_spare_it_is_gone(connect, proc):
    proc.put(os.getpid())
    assert proc.identify(connect(ExhaustedSocket)).key == GONE


# Tests of old kernels.


def test_an_id_that_was_used_again_names_no_pod(process, proc):
    accepted, child = process(kind=OldKernelSocket)
    end(child)
    proc.put(os.getpid())
    accepted.peer_pid = os.getpid()
    assert proc.identify(accepted).pod == ""


def test_a_process_in_a_namespace_that_is_not_seen_is_by_uid(connect, proc):
    proc.put(0)
    accepted = connect(OldKernelSocket)
    accepted.peer_pid = 0
    assert proc.identify(accepted) == Peer(os.getuid(), os.getuid(), 0)


@either_kernel
def test_no_descriptor_stays_open(process, proc, kind):
    accepted, child = process(kind=kind)
    before = open_descriptors()
    proc.identify(accepted)
    proc.put(child.pid)
    proc.identify(accepted)
    child.kill()
    child.wait()
    proc.identify(accepted)
    assert open_descriptors() == before
