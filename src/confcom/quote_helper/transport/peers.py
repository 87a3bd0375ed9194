"""Who is at the other end of a connection."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Hashable
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from confcom.quote_helper.transport.pod_cgroup import MAX_CGROUP_SIZE, UNKNOWN, PodCgroup, parse_pod_cgroup

_CREDENTIALS: Final = struct.Struct("iII")
"""struct ucred: pid, uid, gid (unix(7))."""
_DESCRIPTOR: Final = struct.Struct("i")
_SO_PEERPIDFD: Final = 77
"""Linux 6.5, include/uapi/asm-generic/socket.h, which x86 uses; Python's socket module has no name for it yet."""
_PLACES_REMEMBERED: Final = 256
"""Texts of /proc/PID/cgroup whose meaning is kept: a node has some hundred containers, each with one text."""
_PROCESSES_REMEMBERED: Final = 256
"""Credentials whose Peer is kept: a process connects several times for one quote."""


class Peer(NamedTuple):
    """Who is at the other end, for logs, metrics and fairness.

    A tuple, because one is made for each connection, and a frozen dataclass takes twice as long.
    """

    key: Hashable
    """Equal for connections of one container, or of one uid where the container is not known; or GONE."""
    uid: int
    pid: int
    """0: in a PID namespace that we do not see."""
    pod: str = ""
    """Pod UID, empty if unknown."""
    container: str = ""
    """Container ID, empty if unknown."""

    @property
    def share_key(self) -> Hashable:
        """Equal for connections that share one peer's turns and bounds: those of one Pod, else those of one key.

        Not of one container: a Pod may have as many of them as it likes.
        """
        return self.pod or self.key


GONE: Final = "gone"
"""The key of all clients whose process has ended by the time it is looked for. By their uid they would be as many peers
as they like, since a container's root may take any uid."""


class PeerIdentifier(Protocol):
    """Names the peer of an accepted connection; called once for each, takes microseconds and never raises."""

    def __call__(self, sock: socket.SocketType) -> Peer:
        """Who is at the other end of `sock`."""


class ByUid:
    """Tell peers apart by the uid that connected (SO_PEERCRED)."""

    def __init__(self) -> None:
        self._peer = lru_cache(_PROCESSES_REMEMBERED)(_peer_of)

    def __call__(self, sock: socket.SocketType) -> Peer:
        """Who is at the other end of `sock`."""
        return self._peer(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))


class ByPod:
    """Tell peers apart by pod and container, by the cgroup of the process that connected.

    A process that lives in no pod, and one in a PID namespace that is not seen (pid 0), is told by its uid. All whose
    process is gone are one peer. A process ID may pass on to another process while its cgroup is read, so the answer
    counts only if the process that connected, for which the pidfd stands, lived after that.

    Before Linux 6.5 the kernel gives no pidfd of the peer, and one is opened by the process ID. Then the connection
    must be open at both ends too, as it is not when its process is gone, unless another one inherited it: a container
    that does so on purpose, and whose process' ID is used again before the helper accepts, passes for another one.

    Args:
        proc: where the processes are seen, in the PID namespace of this process.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = str(proc)
        self._by_uid = ByUid()
        # A text means the same whoever is in that cgroup. Processes are not remembered: their IDs are used again.
        self._place = lru_cache(_PLACES_REMEMBERED)(parse_pod_cgroup)

    def __call__(self, sock: socket.SocketType) -> Peer:
        """Who is at the other end of `sock`."""
        peer = self._by_uid(sock)
        if peer.pid == 0:
            return peer
        try:
            place = self._read_place(sock, peer.pid)
        except OSError:
            return Peer(GONE, peer.uid, peer.pid)
        if not place.pod:
            return peer
        return Peer((place.pod, place.container), peer.uid, peer.pid, place.pod, place.container)

    def _read_place(self, sock: socket.SocketType, pid: int) -> PodCgroup:
        """Read where the process is that connected.

        Raises:
            OSError: it is gone, or no descriptor is left to look for it.
        """
        pidfd, certain = _open_pidfd(sock, pid)
        try:
            try:
                place = self._place(_read(f"{self._proc}/{pid}/cgroup"))
                # Other threads of such a process may live. To read its state costs as much as all the rest.
                if place.perhaps_exiting and _main_thread_has_ended(f"{self._proc}/{pid}/stat"):
                    raise ProcessLookupError(errno.ESRCH, "the main thread of the process that connected has ended")
            except (FileNotFoundError, PermissionError):
                place = UNKNOWN  # not always gone: a /proc that hides processes (hidepid) answers so too
            if _has_event(pidfd, select.POLLIN) or (not certain and _has_event(sock.fileno(), 0)):
                raise ProcessLookupError(errno.ESRCH, "the process that connected is gone")
        finally:
            os.close(pidfd)
        return place


def _peer_of(credentials: bytes) -> Peer:
    pid, uid, _ = _CREDENTIALS.unpack(credentials)
    return Peer(uid, uid, pid)


def _open_pidfd(sock: socket.SocketType, pid: int) -> tuple[int, bool]:
    """A pidfd, and whether it is certainly that of the process that connected."""
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
    """Say whether a process' main thread is a zombie (proc_pid_stat(5): the state follows the name in parentheses)."""
    try:
        return _read(stat_path).rpartition(")")[2].lstrip().startswith("Z")
    except FileNotFoundError:
        return False


def _has_event(descriptor: int, events: int) -> bool:
    """Whether a descriptor has one of `events`, or has been hung up, now."""
    poll = select.poll()
    poll.register(descriptor, events)
    return bool(poll.poll(0))
