"""One child process with Intel's DCAP libraries: started by exec, asked with a deadline, and killed."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final, Self, cast

from confcom.aesm.error_code import AesmErrorCode
from confcom.errors import MalformedError
from confcom.quote_provider.base import QuoteProviderError
from confcom.quote_provider.dcap.captured_lines import END_SECONDS, CapturedLines
from confcom.quote_provider.dcap.frames import MAX_ANSWER_SIZE, Answer, Loaded, Request

_logger = logging.getLogger(__name__)

PROGRAM: Final = "confcom.quote_provider.dcap.child"
START_SECONDS: Final = 10.0
"""For the child to load the libraries, which makes no enclave and asks nobody. It takes under 0.2 s (measured with a
stand-in); a node that is out of CPU may take seconds."""
KILL_SECONDS: Final = 2.0
"""For the kernel to end a killed child, and for a child that closed its end to be gone. One that waits for a device
without being killable is left behind."""

_READ_LOG: Final = "read the helper's log on this node, which has the lines of the DCAP libraries"


class ChildProcess:
    """A child that has loaded the libraries. Calls come from one thread at a time; `kill` may come from any."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket, output: threading.Thread) -> None:
        self._process = process
        self._channel = channel
        self._output = output
        self.has_provider_library = False
        """Whether the quote provider library was loaded."""

    @classmethod
    def start(cls, environ: Mapping[str, str], library_dir: Path | None, lines: CapturedLines) -> Self:
        """Start a child and wait until it has loaded the libraries.

        Args:
            environ: the environment of this process.
            library_dir: where the dynamic linker looks first; None: its usual places.
            lines: logs what the child prints.

        Raises:
            QuoteProviderError: there is no process, or no library.
        """
        own, others = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with others:
            descriptor = others.fileno()
            try:
                process = subprocess.Popen(
                    [sys.executable, "-P", "-u", "-m", PROGRAM, str(descriptor)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=[descriptor],
                    env=child_environment(environ, library_dir),
                    process_group=0,  # Ctrl-C is for the helper, which still answers clients then
                )
            except OSError as error:
                own.close()
                raise _not_started(str(error)) from error
        output = cast("IO[bytes]", process.stdout)
        child = cls(process, own, lines.follow(output, process.pid))
        try:
            child._wait_until_loaded()
        except QuoteProviderError:
            child.kill()
            raise
        return child

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def ending(self) -> str:
        """How it ended by itself; empty while it runs."""
        status = self._process.poll()
        return "" if status is None else _how_it_ended(status)

    def ask(self, request: Request, deadline: float) -> Answer | None:
        """Let the child make one call; return None if it ended before it read the request.

        After any error, and after None, it must be killed: its answer may still come.

        Args:
            request: the call.
            deadline: when it counts as hung, in seconds of time.monotonic.

        Raises:
            QuoteProviderError: it did not return, or the child ended or gave no proper answer.
        """
        function = request.call.function
        try:
            return Answer.parse(self._exchange(request.encode(), deadline), request)
        except TimeoutError as error:
            raise _lost(
                "Intel's DCAP libraries hang",
                error_code="dcap-hangs",
                why=f"{function} did not return in time, so that the child process was killed",
                remedy="check that PCCS answers: the libraries wait for it without a limit",
            ) from error
        except MalformedError as error:
            raise _lost(
                "the child process with Intel's DCAP libraries gave no proper answer",
                error_code="dcap-malformed",
                why=error.what,
                remedy=_READ_LOG,
            ) from error
        except (BrokenPipeError, ConnectionResetError):
            # A process is killed thread by thread, so that `ending` may not know of it yet. The kernel resets a unix
            # socket that is closed with an unread frame; one that is closed after the frame was read just ends.
            return None
        except OSError as error:
            raise self.crashed(f"in {function}") from error

    def kill(self) -> None:
        """End the child at once, and wait for it. The kernel frees its enclaves."""
        self._process.kill()
        try:
            self._process.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:
            _logger.error("a killed child process does not end", extra={"child": self.pid})  # noqa: TRY400 # a traceback tells nothing
        self._channel.close()
        self._output.join(END_SECONDS)

    def interrupt(self) -> None:
        """Kill the child while another thread may wait for its answer, which then learns of it."""
        self._process.kill()

    def _wait_until_loaded(self) -> None:
        try:
            loaded = Loaded.parse(self._exchange(b"", time.monotonic() + START_SECONDS))
        except TimeoutError as error:
            raise _not_started(f"it did not load the libraries within {START_SECONDS:g} s") from error
        except MalformedError as error:
            raise _not_started(error.what) from error
        except OSError as error:
            raise self.crashed("while it loaded the libraries") from error
        if not loaded.quoting:
            raise QuoteProviderError(
                AesmErrorCode.SERVICE_UNAVAILABLE,
                "Intel's DCAP libraries cannot be loaded",
                error_code="dcap-library-missing",
                why=loaded.text,
                remedy="install Intel's packages libsgx-qe3-logic, libsgx-pce-logic and libsgx-urts, or give "
                "--dcap-library-dir their directory",
                lost=True,
            )
        self.has_provider_library = loaded.provider_library
        _logger.info("Intel's DCAP libraries are loaded in a child process", extra={"child": self.pid})
        if not loaded.provider_library:
            _logger.warning(
                "the quote provider library is missing, so that quotes have no PCK certificate",
                extra={"child": self.pid, "error": loaded.text},
            )

    def _exchange(self, frame: bytes, deadline: float) -> bytes:
        """Send a frame unless it is empty, and return the next one of the child."""
        if frame:
            self._channel.settimeout(_remaining(deadline))
            self._channel.send(frame)
        self._channel.settimeout(_remaining(deadline))
        if received := self._channel.recv(MAX_ANSWER_SIZE + 1):
            return received
        raise ConnectionAbortedError("the child closed its end")

    def wait_for_ending(self) -> str:
        """Return how a child ended whose channel is closed."""
        try:
            return _how_it_ended(self._process.wait(KILL_SECONDS))
        except subprocess.TimeoutExpired:
            return "it closed its end"

    def crashed(self, when: str) -> QuoteProviderError:
        """Return the error for a child whose channel is closed."""
        return _lost(
            "the child process with Intel's DCAP libraries ended",
            error_code="dcap-child-crashed",
            why=f"{self.wait_for_ending()} {when}",
            remedy=_READ_LOG,
        )


def child_environment(environ: Mapping[str, str], library_dir: Path | None) -> dict[str, str]:
    """Return the child's environment.

    It lacks SGX_AESM_ADDR, which makes libraries of Intel's clients of an aesmd, perhaps of this helper itself.
    """
    inherited = {name: value for name, value in environ.items() if name != "SGX_AESM_ADDR"}
    if library_dir is not None:
        paths = [str(library_dir), inherited.get("LD_LIBRARY_PATH", "")]
        inherited["LD_LIBRARY_PATH"] = ":".join(path for path in paths if path)
    return inherited


def _remaining(deadline: float) -> float:
    """Return the seconds until the deadline, never 0, which would mean not to block."""
    return max(deadline - time.monotonic(), 0.001)


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"it exited with {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"it was ended by {name}"


def _not_started(why: str) -> QuoteProviderError:
    return _lost(
        "the child process with Intel's DCAP libraries does not start",
        error_code="dcap-child-not-started",
        why=why,
        remedy="check the memory and process limits of the helper's container",
    )


def _lost(what: str, *, error_code: str, why: str, remedy: str) -> QuoteProviderError:
    """Return the error for a child that must be replaced; BUSY, since another try may succeed."""
    return QuoteProviderError(AesmErrorCode.BUSY, what, error_code=error_code, why=why, remedy=remedy, lost=True)
