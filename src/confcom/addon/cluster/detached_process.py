"""Running a program that Ctrl-C does not reach, and that continues if this process is killed."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from contextlib import ExitStack
from typing import IO, TypeVar

from confcom.addon.cluster.bounded_process import OutputLimitError

T = TypeVar("T")


class StopRequest:
    """A request to end a program that another thread runs. Only the first request has an effect."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._act: Callable[[], None] | None = None

    def when_asked(self, act: Callable[[], None]) -> None:
        """Set the action that ends the program; it is called at once if the end was requested already."""
        with self._lock:
            self._act = act
            if not self._asked:
                return
        act()

    def ask(self) -> None:
        """Request the program's end, without waiting for it."""
        with self._lock:
            act = None if self._asked else self._act
            self._asked = True
        if act is not None:
            act()


def run_detached(
    arguments: Sequence[str],
    *,
    stdin: bytes | None,
    timeout: float,
    environment: Mapping[str, str],
    stop: StopRequest,
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
        stop: sends the program a SIGINT when the end is requested.
        most: limit in bytes for each of its outputs.

    Raises:
        OutputLimitError: it printed more, and may have done all of its work.
        OSError, subprocess.TimeoutExpired: it could not be run, or did not end.
    """
    with ExitStack() as stack:
        given, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        given.write(stdin or b"")
        given.seek(0)
        process = subprocess.Popen(
            arguments, stdin=given, stdout=out, stderr=err, env=environment, start_new_session=True
        )
        stop.when_asked(lambda: process.send_signal(signal.SIGINT))
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            err.seek(0)
            error.stderr = err.read(most)
            raise
        return subprocess.CompletedProcess(
            arguments, code, _written(out, "stdout", most), _written(err, "stderr", most)
        )


def _written(file: IO[bytes], stream: str, most: int) -> bytes:
    file.seek(0)
    found = file.read(most + 1)
    if len(found) > most:
        raise OutputLimitError(stream, most, killed=False)
    return found


def run_in_background(work: Callable[[], T], done: futures.Future[T]) -> None:
    """Run a function in a daemon thread, which does not keep this process from ending.

    Args:
        work: the function.
        done: gets the result. The caller passes it in, so that it has it even if interrupted while the thread starts.
    """

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 # raised again where the result is read
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
