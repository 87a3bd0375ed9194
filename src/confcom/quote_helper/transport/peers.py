"""Identification of a connection's peer: by its uid, or by the Pod and the container of its process.

The kubelet gives every Pod a cgroup with the Pod's UID in its name, and the container runtime puts each container into
a cgroup below it, with the container's ID in its name (kubelet: pkg/kubelet/cm/cgroup_manager_linux.go; OCI runtime
specification: cgroupsPath). The two cgroup drivers write these names as follows:

* cgroupfs: `/kubepods/burstable/pod8c1f4f3e-0e0e-4c1c-9a3d-6f5e4d3c2b1a/<id>`
* systemd: `/kubepods.slice/.../kubepods-pod8c1f4f3e_0e0e_4c1c_9a3d_6f5e4d3c2b1a.slice/cri-containerd-<id>.scope`

A reader in a cgroup namespace of its own, such as a container on cgroup v2, sees cgroups outside of it as relative
paths, for example `/../../pod<uid>/<id>`, which need not contain `kubepods`.

The outermost Pod counts. A container that may make cgroups makes them below its own cgroup, so it cannot take
another Pod's name. Users of the host with a delegated subtree can take such a name; they are no containers.
"""

import errno
import os
import re
import select
import socket
import struct
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from confcom.daemon.connected_socket import CREDENTIALS, peer_credentials

_DESCRIPTOR: Final = struct.Struct("i")
_SO_PEERPIDFD: Final = 77
"""Socket option since Linux 6.5 (include/uapi/asm-generic/socket.h, x86), not yet named in Python."""
_CGROUP_CACHE_SIZE: Final = 256
"""Number of cached contents of /proc/PID/cgroup: a node has a few hundred containers, with one content each."""
_CREDENTIALS_CACHE_SIZE: Final = 256
"""Number of credentials whose Peer is cached: a process connects several times for one quote."""

MAX_CGROUP_SIZE: Final = 16_384
"""Bytes of /proc/PID/cgroup that are read: a line of 1,170 bytes for each of the fourteen hierarchies of cgroup v1.
Real lines have at most 300, also in nested clusters. The rest is ignored, and so is a line that was cut."""

_UUID: Final = r"[0-9a-f]{8}(?P<dash>[-_])[0-9a-f]{4}(?P=dash)[0-9a-f]{4}(?P=dash)[0-9a-f]{4}(?P=dash)[0-9a-f]{12}"
"""systemd reads `-` in a slice's name as a separator of levels, so kubelet's systemd driver writes `_`."""
_STATIC: Final = r"[0-9a-f]{32}"
"""The UID of a static pod is a hash of its manifest."""
_POD: Final = re.compile(rf"(?:(?:.*-)?kubepods(?:-burstable|-besteffort)?-)?pod(?P<uid>{_UUID}|{_STATIC})(?:\.slice)?")
"""The kubelet's `--cgroup-root` precedes `kubepods`, for example as `kubelet-` in nodes of kind."""
_CONTAINER: Final = re.compile(r"(?:[a-z]+-)*(?P<id>[0-9a-f]{64})(?:\.scope)?")
"""The prefix names the runtime: `cri-containerd-`, `crio-`, `docker-`."""
_SEPARATOR: Final = re.compile("[/:]")
"""A runtime with the other cgroup driver puts colons between names: `kubepods-pod<uid>.slice:cri-containerd:<id>`."""


class Peer(NamedTuple):
    """The process at the other end of a connection, for logs and fairness.

    A NamedTuple, because one is made for each connection, and making a frozen dataclass takes twice as long.
    """

    key: Hashable
    """Key of all connections of one container, or of a uid if the container is unknown. GONE for ended processes."""
    uid: int
    pid: int  # 0 if the process is in a PID namespace that is not visible here
    pod: str = ""  # UID, empty if unknown
    container: str = ""  # ID, empty if unknown

    @property
    def share_key(self) -> Hashable:
        """A key that is equal for connections that share turns and limits, such as those of one Pod."""
        return self.pod or self.key


GONE: Final = "gone"
"""The key of all clients whose process has ended before it was identified. They are not told apart by uid, because a
container's root may take any uid, and could be any number of peers."""


PeerIdentifier = Callable[[socket.SocketType], Peer]
"""Function that identifies the peer of each accepted connection once; takes microseconds and never raises."""


@dataclass(frozen=True, slots=True)
class PodCgroup:
    """The pod and container of a process; a value that is not known is empty."""

    pod: str = ""  # UID, with dashes, as the API server shows it
    container: str = ""  # ID, as the runtime shows it
    perhaps_exiting: bool = False
    """Whether the main thread may have ended: the process is in the root of each cgroup v1 hierarchy, where the kernel
    shows every process with an ended main thread. Cgroup v2 is shown until the process ends (proc_cgroup_show)."""


UNKNOWN: Final = PodCgroup()
_PERHAPS_EXITING: Final = PodCgroup(perhaps_exiting=True)
_V2: Final = "0::"
"""Start of the line of the cgroup v2 hierarchy (cgroups(7)); lines of cgroup v1 may be present beside it."""


def by_uid(sock: socket.SocketType) -> Peer:
    return _peer_of(peer_credentials(sock))


class ByPod:
    """Identifies peers by pod and container, from the cgroup of the process that connected.

    A process in no pod, or in a PID namespace that is not visible here (pid 0), is identified by its uid. All peers
    whose process has ended share one key. A process ID may be reused while its cgroup is read. So the pidfd
    must show after the read that the process that connected is still alive.

    Before Linux 6.5 the kernel gives no pidfd of the peer. So the pidfd is opened by process ID, and the connection
    must also be open at both ends. A connection closes with its process, unless another process inherited it.
    If such a connection's process ID is reused before accept(), its container is taken for another container.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = str(proc)
        # The result depends on the content alone, so the cache's key is the content. Process IDs are reused.
        self._parse = lru_cache(_CGROUP_CACHE_SIZE)(parse_pod_cgroup)

    def __call__(self, sock: socket.SocketType) -> Peer:
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
        """Raise OSError if the process has ended, or if no descriptor is left to check this."""
        pidfd, certain = _open_pidfd(sock, pid)
        try:
            try:
                cgroup = self._parse(_read(f"{self._proc}/{pid}/cgroup"))
                # Read the state only if necessary: it doubles the cost. Other threads may outlive the main thread.
                if cgroup.perhaps_exiting and _main_thread_has_ended(f"{self._proc}/{pid}/stat"):
                    raise ProcessLookupError(errno.ESRCH, "the main thread of the process that connected has ended")
            except (FileNotFoundError, PermissionError):
                cgroup = UNKNOWN  # the process need not have ended: a /proc with hidepid gives these errors too
            if _has_event(pidfd, select.POLLIN) or (not certain and _has_event(sock.fileno(), 0)):
                raise ProcessLookupError(errno.ESRCH, "the process that connected has exited")
        finally:
            os.close(pidfd)
        return cgroup


def process_has_ended(sock: socket.SocketType, pid: int) -> bool:
    """Return whether the process that connected has ended.

    The kernel says so of processes in other PID namespaces too (SO_PEERPIDFD, Linux 6.5). Before, these are unknown,
    and count as ended.
    """
    try:
        pidfd, _ = _open_pidfd(sock, pid)
    except OSError as error:
        return not pid or error.errno == errno.ESRCH
    try:
        return _has_event(pidfd, select.POLLIN)
    finally:
        os.close(pidfd)


def gone_peer(sock: socket.SocketType) -> Peer | None:
    """Return the peer if its process certainly has ended; else, or if this is unknown, None. The cgroup is not read."""
    peer = by_uid(sock)
    if peer.pid and process_has_ended(sock, peer.pid):
        return Peer(GONE, peer.uid, peer.pid)
    return None


@lru_cache(_CREDENTIALS_CACHE_SIZE)
def _peer_of(credentials: bytes) -> Peer:
    pid, uid, _ = CREDENTIALS.unpack(credentials)
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
    try:  # proc_pid_stat(5): the process state follows the name
        return _read(stat_path).rpartition(")")[2].lstrip().startswith("Z")
    except FileNotFoundError:
        return False


def _has_event(descriptor: int, events: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, events)
    return bool(poll.poll(0))


def parse_pod_cgroup(text: str) -> PodCgroup:
    """Parse /proc/PID/cgroup of cgroup v1, v2 or both at once; never raise.

    The result is the first cgroup with a container, else the first with a pod, else a cgroup without a pod.
    """
    lines = text[:MAX_CGROUP_SIZE].split("\n")
    if len(text) >= MAX_CGROUP_SIZE:
        lines.pop()
    cgroups = [_parse_path(line.partition(":/")[2]) for line in lines]
    found = max(cgroups, key=lambda each: (each.pod != "", each.container != ""), default=UNKNOWN)
    v1 = [line for line in lines if line and not line.startswith(_V2)]
    in_root = bool(v1) and all(line.endswith(":/") for line in v1)
    return _PERHAPS_EXITING if in_root and not found.pod else found


def _parse_path(path: str) -> PodCgroup:
    names = iter(_SEPARATOR.split(path))
    pod = next(filter(None, map(_POD.fullmatch, names)), None)
    if pod is None:
        return UNKNOWN
    container = next(filter(None, map(_CONTAINER.fullmatch, names)), None)  # only after the Pod's name
    return PodCgroup(pod["uid"].replace("_", "-"), container["id"] if container else "")
