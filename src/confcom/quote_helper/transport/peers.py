"""Identification of the peer of a connection."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Callable, Hashable
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from confcom.quote_helper.transport.pod_cgroup import MAX_CGROUP_SIZE, UNKNOWN, PodCgroup, parse_pod_cgroup

_CREDENTIALS: Final = struct.Struct("iII")
"""struct ucred: pid, uid, gid (unix(7))."""
_DESCRIPTOR: Final = struct.Struct("i")
_SO_PEERPIDFD: Final = 77
"""Linux 6.5, include/uapi/asm-generic/socket.h, which x86 uses; Python's socket module has no name for it yet."""
_CGROUP_CACHE_SIZE: Final = 256
"""Contents of /proc/PID/cgroup whose parsed result is cached: a node has a few hundred containers, one content each."""
_CREDENTIALS_CACHE_SIZE: Final = 256
"""Credentials whose Peer is cached: a process connects several times for one quote."""


class Peer(NamedTuple):
    """The process at the other end of a connection, for logs and fairness.

    A NamedTuple, because one is made for each connection, and making a frozen dataclass takes twice as long.
    """

    key: Hashable
    """Equal for connections of one container, or of one uid where the container is not known; or GONE."""
    uid: int
    pid: int
    """0: in a PID namespace that is not visible here."""
    pod: str = ""  # UID, empty if unknown
    container: str = ""  # ID, empty if unknown

    @property
    def share_key(self) -> Hashable:
        """Equal for connections that share turns and limits: those of one Pod, else those of one key.

        It is not per container, because a Pod may have any number of containers.
        """
        return self.pod or self.key


GONE: Final = "gone"
"""The key of all clients whose process has ended before it was identified. They are not told apart by uid, because a
container's root may take any uid, and could be any number of peers."""


PeerIdentifier = Callable[[socket.SocketType], Peer]
"""Identifies the peer of an accepted connection; called once for each, takes microseconds and never raises."""


def by_uid(sock: socket.SocketType) -> Peer:
    """Return the peer of a connection by the uid that connected (SO_PEERCRED)."""
    return _peer_of(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))


class ByPod:
    """Identifies peers by pod and container, from the cgroup of the process that connected.

    A process in no pod, or in a PID namespace that is not visible here (pid 0), is identified by its uid. All peers
    whose process has ended share one key. A process ID may be reused while its cgroup is read, so the result counts
    only if the process that connected, which the pidfd refers to, is still alive after the read.

    Before Linux 6.5 the kernel gives no pidfd of the peer, and one is opened by process ID. Then the connection must
    also be open at both ends. It is closed when its process ends, unless another process inherited it: a container that
    does this on purpose, and whose process ID is reused before the helper accepts, is taken for another container.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = str(proc)
        # The result depends on the content alone, so it can be cached. By process ID it cannot: these are reused.
        self._parse = lru_cache(_CGROUP_CACHE_SIZE)(parse_pod_cgroup)

    def __call__(self, sock: socket.SocketType) -> Peer:
        """Return the peer of `sock`."""
        peer = by_uid(sock)
        if peer.pid == 0:
            return peer
        try:
            cgroup = self._read_cgroup(sock, peer.pid)
        except OSError:
            return Peer(GONE, peer.uid, peer.pid)
        if not cgroup.pod:
            return peer
        return Peer((cgroup.pod, cgroup.container), peer.uid, peer.pid, cgroup.pod, cgroup.container)

    def _read_cgroup(self, sock: socket.SocketType, pid: int) -> PodCgroup:
        """Return the pod cgroup of the process that connected.

        Raises:
            OSError: the process has ended, or no descriptor is left to check it.
        """
        pidfd, certain = _open_pidfd(sock, pid)
        try:
            try:
                cgroup = self._parse(_read(f"{self._proc}/{pid}/cgroup"))
                # Its other threads may still run. The state is read only here: that costs as much as all the rest.
                if cgroup.perhaps_exiting and _main_thread_has_ended(f"{self._proc}/{pid}/stat"):
                    raise ProcessLookupError(errno.ESRCH, "the main thread of the process that connected has ended")
            except (FileNotFoundError, PermissionError):
                cgroup = UNKNOWN  # the process need not have ended: a /proc with hidepid gives these errors too
            if _has_event(pidfd, select.POLLIN) or (not certain and _has_event(sock.fileno(), 0)):
                raise ProcessLookupError(errno.ESRCH, "the process that connected has exited")
        finally:
            os.close(pidfd)
        return cgroup


@lru_cache(_CREDENTIALS_CACHE_SIZE)
def _peer_of(credentials: bytes) -> Peer:
    pid, uid, _ = _CREDENTIALS.unpack(credentials)
    return Peer(uid, uid, pid)


def _open_pidfd(sock: socket.SocketType, pid: int) -> tuple[int, bool]:
    """Return a pidfd, and whether it certainly refers to the process that connected."""
    try:
        return _DESCRIPTOR.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, _DESCRIPTOR.size))[0], True
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
    return os.pidfd_open(pid), False


def _read(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, MAX_CGROUP_SIZE).decode("ascii", "replace")
    finally:
        os.close(descriptor)


def _main_thread_has_ended(stat_path: str) -> bool:
    """Return whether the main thread is a zombie (proc_pid_stat(5): the state follows the name in parentheses)."""
    try:
        return _read(stat_path).rpartition(")")[2].lstrip().startswith("Z")
    except FileNotFoundError:
        return False


def _has_event(descriptor: int, events: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, events)
    return bool(poll.poll(0))
