"""Signal handling: Ctrl-C, SIGTERM and a closed terminal end the demo, but not while it starts a process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

SIGNALLED = 128
"""Shells add this to the number of the signal that ended a program."""


class Interrupts:
    """Raises SystemExit for signals; within `held`, only after that block ends.

    Otherwise the exception could leave subprocess.Popen after the child was created and before its caller has the
    Popen object, and nothing would end that child.
    """

    def __init__(self) -> None:
        self._holders = 0
        self._pending: int | None = None
        self._raised = False

    def install(self) -> None:
        """Handle SIGNALS from now on, except those that are ignored (nohup). Only the main thread can call this."""
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.handle)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; only the first one has an effect, so that a second one cannot interrupt the cleanup.

        Raises:
            SystemExit: with the exit code that shells use, unless signals are held.
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
        """Delay signals until the end of the `with` block."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
        if self._pending is not None and not self._holders:
            number, self._pending = self._pending, None
            self._raise(number)
