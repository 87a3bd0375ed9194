"""A watchdog thread that sends signals to another thread, to end that thread's waits in the kernel.

Where the kernel cannot refuse descriptors (`passed_descriptors`), a client can make each recv() and close() of a daemon
wait for a minute. Any handled signal ends such a wait, and the system call keeps its result (signal(7), PEP 475).
"""

import asyncio
import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from confcom import passed_descriptors

SIGNAL: Final = signal.SIGURG
"""By default a process ignores this signal, so a watchdog that sends the signal too late does no harm."""
LOOP_STALL_SECONDS: Final = 0.05
"""Time for which an event loop may be blocked before its thread gets a signal."""
BEAT_SECONDS: Final = 0.02
"""Interval at which the event loop tells the watchdog that it is running."""
IDLE_LOOK_SECONDS: Final = 0.01
"""Interval between checks of a thread that is not busy, and of an event loop."""

SIGNAL_SECONDS: Final = 0.001
"""Interval of signals to a stalled thread, short because one turn of an event loop can have dozens of waiting calls."""

MANY_SIGNALS: Final = 100
"""Number of signals in one stall after which they are sent less often: each writes a byte for the event loop
to read after the stall; the buffer holds about 280 bytes, and a SIGTERM that finds it full would be lost."""


class StallWatchdog:
    """Sends SIGNAL to the thread that created the watchdog when that thread has been busy for `stall_seconds`.

    One signal ends all waits of one system call; further signals end the waits of the next system calls.
    """

    def __init__(self, stall_seconds: float, look_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._thread = threading.get_ident()
        self._stall_seconds = stall_seconds
        self._look_seconds = look_seconds
        self._clock = clock
        self._busy_since = math.inf
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="stall-watchdog", daemon=True).start()

    def begin(self) -> None:
        self._busy_since = self._clock()

    def end(self) -> None:
        self._busy_since = math.inf

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        pause, signals = IDLE_LOOK_SECONDS, 0
        while not self._stopped.wait(pause):
            if self._clock() - self._busy_since > self._stall_seconds:
                signal.pthread_kill(self._thread, SIGNAL)
                signals += 1
                pause = SIGNAL_SECONDS if signals < MANY_SIGNALS else LOOP_STALL_SECONDS
            else:
                signals = 0
                pause = IDLE_LOOK_SECONDS if self._busy_since == math.inf else self._look_seconds


@contextlib.contextmanager
def watched_loop(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """End waits that block the main thread's event loop, if the kernel cannot refuse descriptors."""
    if passed_descriptors.are_refusable():
        yield
        return
    before = signal.signal(SIGNAL, lambda *_: None)
    watchdog = StallWatchdog(LOOP_STALL_SECONDS, IDLE_LOOK_SECONDS)
    beats = loop.create_task(_beat(watchdog), name="stall-watchdog")
    try:
        yield
    finally:
        beats.cancel()
        watchdog.stop()
        signal.signal(SIGNAL, before)


async def _beat(watchdog: StallWatchdog) -> None:
    while True:
        watchdog.begin()
        await asyncio.sleep(BEAT_SECONDS)
