"""Ctrl-C, SIGTERM and a closed terminal end the demo at once, but never between a process's start and its note."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

SIGNALLED = 128
"""What shells add to the number of the signal that ended a program."""


class Interrupts:
    """Turns signals into SystemExit; while `held`, only after the held part has ended.

    Without this, an exception could leave subprocess.Popen after its child has been made and before anybody
    knows of it: that child would be left behind.
    """

    def __init__(self) -> None:
        self._holders = 0
        self._pending: int | None = None
        self._raised = False

    def install(self) -> None:
        """Handle SIGNALS from now on, except those that were ignored (nohup); only the main thread can."""
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.handle)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. Only the first signal counts: an impatient second one must not end the cleaning.

        Raises:
            SystemExit: with the exit code that shells use, unless held.
        """
        del frame
        if self._raised:
            return
        if self._holders:
            self._pending = number
        else:
            self._raise(number)

    def _raise(self, number: int) -> NoReturn:
        self._raised = True
        raise SystemExit(SIGNALLED + number)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let signals wait until the end of the `with` block."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
        if self._pending is not None and not self._holders:
            number, self._pending = self._pending, None
            self._raise(number)
