"""Running a program that a person's Ctrl-C does not reach, and that goes on if this one is killed."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from contextlib import ExitStack
from typing import IO, TypeVar

from confcom.addon.bounded_process import OutputLimitError

T = TypeVar("T")


class StopRequest:
    """By which a program that runs in another thread is asked to end. Only the first request counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._act: Callable[[], None] | None = None

    def when_asked(self, act: Callable[[], None]) -> None:
        """Say what ends the program; it is done at once if that was asked already."""
        with self._lock:
            self._act = act
            if not self._asked:
                return
        act()

    def ask(self) -> None:
        """Ask it to end. Returns at once."""
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
    """Run a program in a session of its own, with files for what it reads and writes.

    A terminal's Ctrl-C reaches every program of its session; a pipe that nobody reads any more ends who writes to it.

    Args:
        arguments: the command line.
        stdin: what it reads; None: nothing.
        timeout: seconds after which it is killed.
        environment: its variables.
        stop: asked, it gets a SIGINT.
        most: bytes that it may print on each of its outputs.

    Raises:
        OutputLimitError: it printed more, and may have done all that it was to do.
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
            error.stderr = _written(err, "stderr", most)
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
    """Do something in a thread that does not keep this program from ending.

    Args:
        work: what.
        done: gets the result. The caller has it also where an interruption comes while the thread starts.
    """

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 # whatever it is, it is who asks for the result that gets it
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
