"""What the child's libraries print, as lines of the helper's log, at a bounded rate."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import IO, Final

_logger = logging.getLogger(__name__)

MAX_LINE_BYTES: Final = 1024
"""Of one line; the rest is dropped. Intel's messages have under 300, and one that quotes a URL of PCCS about 900."""
MAX_LINES: Final = 60
"""Within WINDOW_SECONDS; further lines are counted. A failed call prints up to ten, and the self-test makes one call
that fails every 10 s."""
WINDOW_SECONDS: Final = 60.0
END_SECONDS: Final = 1.0
"""For the last lines after the child's end."""


class CapturedLines:
    """Reads what children print and logs it. The rate is bounded over all children of one provider.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._window_ends = float("-inf")
        self._lines = 0
        self._dropped = 0

    def follow(self, stream: IO[bytes], pid: int) -> threading.Thread:
        """Log the lines of a stream from a thread of its own until its end, and close it; join the thread to wait."""
        thread = threading.Thread(target=self._read, args=(stream, pid), name="dcap-child-output", daemon=True)
        thread.start()
        return thread

    def _read(self, stream: IO[bytes], pid: int) -> None:
        # The pipe is read to its end whatever is logged: a library must never wait for a reader.
        with stream:
            whole = True
            while part := stream.readline(MAX_LINE_BYTES):
                if whole:
                    self._log(part, pid)
                whole = part.endswith(b"\n")

    def _log(self, line: bytes, pid: int) -> None:
        with self._lock:
            now = self._clock()
            dropped = 0
            if now >= self._window_ends:
                self._window_ends = now + WINDOW_SECONDS
                dropped, self._lines, self._dropped = self._dropped, 0, 0
            self._lines += 1
            if self._lines > MAX_LINES:
                self._dropped += 1
                return
        if dropped:
            _logger.info("lines of the DCAP libraries were dropped", extra={"count": dropped})
        text = line.decode(errors="backslashreplace").rstrip()
        if text:
            _logger.info("DCAP libraries: %s", text, extra={"child": pid})
