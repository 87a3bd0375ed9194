"""Who is at the other end of a connection."""

from __future__ import annotations

import socket
import struct
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Protocol

_CREDENTIALS: Final = struct.Struct("iII")
"""struct ucred: pid, uid, gid (unix(7))."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end: the unit of fairness, and the name in logs and metrics."""

    key: Hashable
    """Equal for connections of one container, or of one uid where pods are not identified."""
    uid: int
    pid: int
    """0: in a PID namespace that we do not see."""
    pod: str = ""
    """Pod UID, empty if unknown."""
    container: str = ""
    """Container ID, empty if unknown."""


class PeerIdentifier(Protocol):
    """Names the peer of an accepted connection; called once for each, takes microseconds and never raises."""

    def __call__(self, sock: socket.socket) -> Peer:
        """Who is at the other end of `sock`."""


def by_uid(sock: socket.socket) -> Peer:
    """Tell peers apart by the uid that connected (SO_PEERCRED)."""
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Peer(uid, uid, pid)
