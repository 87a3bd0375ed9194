"""Running one program: with limits on its time and output, or so that it outlives this process."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import IO

READ_BYTES = 1 << 20
"""Size of one read: the most that a pipe can hold without privileges (fs.pipe-max-size); the default is 64 KiB."""

POLL_SECONDS = 0.05
"""How long a watched program may take to end before something else is done meanwhile."""
INTERRUPTED_SECONDS = 5.0
"""How long a watched program may take to end after an interruption. `helm upgrade` records its failure within a second;
a rollback or an uninstall waits for nothing, and takes a second or two. A SIGTERM is usually followed by SIGKILL after
10 s."""


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
    process = None
    try:
        with _signals_held():
            process = subprocess.Popen(
                arguments,
                bufsize=0,
                stdin=None if stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
            )
        _communicate(process, stdin or b"", (stdout, stderr), deadline)
        code = process.wait(max(0.0, deadline - time.monotonic()))
        return subprocess.CompletedProcess(arguments, code, stdout.content.getvalue(), stderr.content.getvalue())
    except (TimeoutError, subprocess.TimeoutExpired):
        raise subprocess.TimeoutExpired(
            arguments, timeout, stdout.content.getvalue(), stderr.content.getvalue()
        ) from None
    finally:
        if process is not None:
            with process:
                process.kill()  # without effect if it has ended


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


@dataclass(slots=True)
class Watch:
    """What to do while a program runs that Ctrl-C does not reach. It is mutable, to tell after an interruption.

    Args:
        meanwhile: called again and again until the program has ended.
        stoppable: whether the program gets a SIGINT if this process is interrupted.
        running: whether the program may be running.
    """

    meanwhile: Callable[[], None] = lambda: None
    stoppable: bool = False
    running: bool = True


def run_watched(
    arguments: Sequence[str],
    *,
    stdin: bytes | None,
    timeout: float,
    environment: Mapping[str, str],
    watch: Watch,
    most: int,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program in a session of its own, with files as its standard input and outputs.

    A session of its own, since a terminal's Ctrl-C reaches the programs of the terminal's session. Files, since a pipe
    without a reader would end the program by SIGPIPE if this process is killed.

    Args:
        arguments: the command line.
        stdin: its standard input; None: empty.
        timeout: seconds after which it is killed.
        environment: its environment variables.
        watch: what to do meanwhile, and at an interruption.
        most: limit in bytes for each of its outputs.

    Raises:
        KeyboardInterrupt: this process was interrupted; the program was given INTERRUPTED_SECONDS to end.
        OutputLimitError: it printed more, and may have done all of its work.
        OSError, subprocess.TimeoutExpired: it could not be run, or did not end.
    """
    deadline = time.monotonic() + timeout
    process = None
    with contextlib.ExitStack() as stack:
        given, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        given.write(stdin or b"")
        given.seek(0)
        try:
            with _signals_held():
                process = subprocess.Popen(
                    arguments, stdin=given, stdout=out, stderr=err, env=environment, start_new_session=True
                )
            while not _ends(process, POLL_SECONDS):
                if time.monotonic() >= deadline:
                    process.kill()
                    process.wait()
                    watch.running = False
                    raise subprocess.TimeoutExpired(arguments, timeout, stderr=_printed(err, most)[:most])
                watch.meanwhile()
        except KeyboardInterrupt:
            if process is not None and watch.stoppable:
                process.send_signal(signal.SIGINT)
            watch.running = process is not None and not _ends(process, INTERRUPTED_SECONDS)
            raise
        watch.running = False
        outputs = {"stdout": _printed(out, most), "stderr": _printed(err, most)}
        for stream, found in outputs.items():
            if len(found) > most:
                raise OutputLimitError(stream, most, killed=False)
        return subprocess.CompletedProcess(arguments, process.returncode, outputs["stdout"], outputs["stderr"])


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Delay SIGINT and SIGTERM, if Python handles them here: in the middle of its start, a process would be lost."""
    came: list[int] = []
    here = threading.current_thread() is threading.main_thread()
    handlers = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM) if here}
    handlers = {one: handler for one, handler in handlers.items() if callable(handler)}
    for one in handlers:
        signal.signal(one, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)
        for number in came:
            signal.raise_signal(number)


def _ends(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _printed(file: IO[bytes], most: int) -> bytes:
    """Return what was printed, and at most one byte more than the limit."""
    file.seek(0)
    return file.read(most + 1)
