"""A pipe that is full, as that of a container whose log nobody reads."""

import contextlib
import os
import select

FILLING = b"." * (select.PIPE_BUF - 1) + b"\n"


def fill(writer: int) -> None:
    """Fill a pipe through a description of its own, so that whoever else has the pipe goes on blocking."""
    descriptor = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, FILLING)
    os.close(descriptor)


def full_pipe() -> tuple[int, int]:
    """A full pipe's ends: where it is read, where it is written."""
    reader, writer = os.pipe()
    fill(writer)
    return reader, writer


def lines_of(received: bytes) -> list[str]:
    """What was read of it, without the filling."""
    return [line.decode() for line in received.splitlines() if line + b"\n" != FILLING]
