"""The kernel's data about a connected socket: the peer's credentials, and the number of unread bytes."""

import fcntl
import socket
import struct
import termios
from typing import Final

CREDENTIALS: Final = struct.Struct("@iII")
"""struct ucred (unix(7)): pid, uid, gid."""
_INT: Final = struct.Struct("@i")


def peer_credentials(sock: socket.SocketType) -> bytes:
    """Return the CREDENTIALS of the process at the other end of a unix socket: the client or the listener."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)


def unread_bytes(sock: socket.SocketType) -> int:
    """Return the number of sent bytes that the peer has not read or, with TCP, not acknowledged (SIOCOUTQ).

    A unix socket's byte count includes the kernel's overhead. The count is 0 once the other end is closed.
    """
    unread: int = _INT.unpack(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_INT.size)))[0]
    return unread
