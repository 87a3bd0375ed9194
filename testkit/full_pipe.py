"""A full pipe, like the log pipe of a container whose log nobody reads."""

import contextlib
import os
import select
import threading

FILLING = b"." * (select.PIPE_BUF - 1) + b"\n"


def fill(writer: int) -> None:
    """Fill a pipe through a new open file description, so that writes by other users of the pipe block."""
    descriptor = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, FILLING)
    os.close(descriptor)


def full_pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    fill(writer)
    return reader, writer


def read_in_thread(reader: int) -> tuple[threading.Thread, list[bytes]]:
    """Read a pipe in a thread until the pipe's end; return the thread, and the growing list of data."""
    received: list[bytes] = []

    def read() -> None:
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            while data := pipe.read(65536):
                received.append(data)

    thread = threading.Thread(target=read)
    thread.start()
    return thread, received


def lines_of(received: bytes) -> list[str]:
    """The lines read from a pipe, except for the lines that `fill` wrote."""
    return [line.decode() for line in received.splitlines() if line + b"\n" != FILLING]
