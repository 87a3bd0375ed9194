"""Running one program with limits: it is killed if it prints too much, or takes too long."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO

READ_BYTES = 1 << 20
"""Size of one read: the most that a pipe can hold without privileges (fs.pipe-max-size); the default is 64 KiB."""


class OutputLimitError(Exception):
    """A program printed more than the limit.

    Args:
        stream: `stdout` or `stderr`.
        limit: bytes.
        killed: whether it was killed for that; if not, it ran to its end, and may have done all of its work.
    """

    def __init__(self, stream: str, limit: int, *, killed: bool) -> None:
        super().__init__(f"more than {limit} bytes on {stream}")
        self.stream = stream
        self.limit = limit
        self.killed = killed


@dataclass(frozen=True, slots=True)
class _Output:
    """What a program has printed to one stream so far."""

    stream: str
    limit: int
    content: BytesIO = field(default_factory=BytesIO)

    def add(self, data: bytes) -> None:
        if self.content.tell() + len(data) > self.limit:
            raise OutputLimitError(self.stream, self.limit, killed=True)
        self.content.write(data)


def run_bounded(
    arguments: Sequence[str],
    *,
    stdin: bytes | None,
    timeout: float,
    environment: Mapping[str, str],
    most_stdout: int,
    most_stderr: int,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end, and return what it printed. Any exception on the way kills the program.

    Args:
        arguments: the program and its arguments.
        stdin: its standard input; None: this process's own standard input.
        timeout: seconds for the whole run.
        environment: its complete environment.
        most_stdout: limit in bytes.
        most_stderr: limit in bytes.

    Raises:
        OutputLimitError: it printed more than a limit.
        subprocess.TimeoutExpired: it did not end in time; contains what it has printed.
        OSError: it could not be run.
    """
    stdout, stderr = _Output("stdout", most_stdout), _Output("stderr", most_stderr)
    deadline = time.monotonic() + timeout
    with subprocess.Popen(
        arguments,
        bufsize=0,
        stdin=None if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        try:
            _communicate(process, stdin or b"", (stdout, stderr), deadline)
            process.wait(max(0.0, deadline - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            process.kill()
            raise subprocess.TimeoutExpired(
                arguments, timeout, stdout.content.getvalue(), stderr.content.getvalue()
            ) from None
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(
        arguments, process.returncode, stdout.content.getvalue(), stderr.content.getvalue()
    )


def _communicate(process: subprocess.Popen[bytes], stdin: bytes, outputs: Sequence[_Output], deadline: float) -> None:
    """Write the program's input and read its outputs until all of them are closed.

    Raises:
        TimeoutError: the deadline has passed.
    """
    streams = {one.fileno(): one for one in (process.stdout, process.stderr, process.stdin) if one is not None}
    with selectors.DefaultSelector() as selector:
        for descriptor, output in zip(streams, (*outputs, None), strict=False):
            selector.register(descriptor, selectors.EVENT_WRITE if output is None else selectors.EVENT_READ, output)
            if output is None:
                os.set_blocking(descriptor, False)
        unread = memoryview(stdin)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            for key, _ in selector.select(left):
                if isinstance(key.data, _Output):
                    data = os.read(key.fd, READ_BYTES)
                    key.data.add(data)
                    ended = not data
                else:
                    unread = unread[_write(key.fd, unread) :]
                    ended = not unread
                if ended:
                    selector.unregister(key.fileobj)
                    streams[key.fd].close()


def _write(descriptor: int, data: memoryview) -> int:
    """Write as much as the pipe takes, and return how much. If the program closed the pipe, all counts as written."""
    try:
        return os.write(descriptor, data)
    except BrokenPipeError:
        return len(data)
