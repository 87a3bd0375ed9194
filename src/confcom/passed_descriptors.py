"""Descriptors that the other end of a unix socket passes (SCM_RIGHTS, unix(7)), and their refusal by the kernel.

A program that receives a message without asking for descriptors, or closes a socket with unread messages, drops the
descriptors in them. The kernel closes a file with its last descriptor, and that can take long: a TCP socket with
SO_LINGER waits for its peer.
"""

import errno
import socket
from typing import Final

SO_PASSRIGHTS: Final = 83
"""Option: whether a unix socket accepts descriptors (asm-generic/socket.h, Linux 6.16 and later); default 1. At 0, the
sender gets EPERM. Connections inherit the value of their listening socket."""


def refuse(sock: socket.SocketType) -> bool:
    """Have the kernel refuse descriptors that are passed to this unix socket; return False if the kernel cannot.

    A listening socket must refuse before it listens, and a client before it connects.
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
