"""What the kernel knows of a connected socket: who connected, and what the other end has not read."""

import fcntl
import socket
import struct
import termios
from typing import Final

CREDENTIALS: Final = struct.Struct("@iII")
"""struct ucred (unix(7)): pid, uid, gid."""
_INT: Final = struct.Struct("@i")
_NOTHING: Final = bytes(_INT.size)


def peer_credentials(sock: socket.SocketType) -> bytes:
    """Return CREDENTIALS of the process that connected a unix socket, or listens there."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)


def unread_bytes(sock: socket.SocketType) -> int:
    """Return the bytes that were sent and not read, or by TCP not acknowledged (SIOCOUTQ).

    For a unix socket it counts its own overhead. There are none once the other end is closed.
    """
    unread: int = _INT.unpack(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, _NOTHING))[0]
    return unread
