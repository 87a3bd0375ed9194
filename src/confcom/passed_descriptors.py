"""Functions that make the kernel refuse descriptors that a unix socket's peer passes (SCM_RIGHTS, unix(7)).

A program drops passed descriptors if it receives a message without asking for descriptors, or closes a socket
with unread messages. When a file's last descriptor is dropped, the kernel closes the file. Closing can take
long: for example, a TCP socket with SO_LINGER waits for its peer.
"""

import errno
import socket
from typing import Final

SO_PASSRIGHTS: Final = 83
"""Socket option: whether a unix socket accepts descriptors (asm-generic/socket.h, Linux 6.16 and later). The
default is 1; with 0, the sender gets EPERM. Accepted connections inherit their listening socket's value."""


def refuse(sock: socket.SocketType) -> bool:
    """Make the kernel refuse descriptors that are passed to this unix socket; return False if this fails.

    Call this function on a server's socket before it listens, and on a client's socket before it connects.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        return False
    return True


def are_refusable() -> bool:
    """Return whether this kernel can refuse descriptors."""
    with socket.socket(socket.AF_UNIX) as sock:
        return refuse(sock)
