"""Peers whose messages have made a system call wait; a thread receives from and closes their connections.

This module is used only where the kernel cannot refuse descriptors (`passed_descriptors`). A peer's first slow
call blocks the event loop until the watchdog ends the call; later calls for this peer are made in the thread.
"""

import asyncio
import contextlib
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Final, TypeVar

from confcom.daemon.stall_watchdog import StallWatchdog
from confcom.quote_helper.fair_queue import FairQueue

T = TypeVar("T")
Outcome = Callable[[], bytes]
"""Function that returns the received bytes, or raises the exception of receiving."""

SLOW_SECONDS: Final = 0.02
"""A recv() or close() in the event loop that takes longer makes its peer slow; usual calls take microseconds. A busy
node may stop the loop for as long; a peer that is wrongly counted as slow is served a little later."""
REMEMBERED_SECONDS: Final = 60.0
"""Seconds for which a peer counts as slow after a slow call. In these seconds, it can block the loop once."""
MAX_PEERS: Final = 1024
"""Maximum number of peers remembered as slow: more than a node has Pods."""
CALL_SECONDS: Final = 0.001
"""Interval between signals that interrupt a blocked call in the thread; a thousand such calls end in 2 s."""


class SlowPeers:
    """The slow peers, and the thread that serves their connections, for the running event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._until: OrderedDict[Hashable, float] = OrderedDict()
        self._calls: FairQueue[Callable[[], None]] = FairQueue()
        self._lock = threading.Lock()
        self._more = threading.Semaphore(0)  # counts queued calls, and one more to end the thread
        self._thread: threading.Thread | None = None
        self.closing = 0  # sockets that the thread has yet to close; each takes a descriptor

    def __contains__(self, peer: Hashable) -> bool:
        return bool(self._until) and self._until.get(peer, 0.0) > self._clock()

    def timed(self, peer: Hashable, call: Callable[[], T]) -> T:
        began = self._clock()
        try:
            return call()
        finally:
            if self._clock() - began > SLOW_SECONDS:
                self._remember(peer)

    def receive(self, peer: Hashable, receive: Callable[[], bytes], done: Callable[[Outcome], None]) -> None:
        """Call `receive` in the thread; then, in the event loop, pass the outcome (a function) to `done`."""

        def call() -> None:
            outcome: Future[bytes] = Future()
            try:
                outcome.set_result(receive())
            except OSError as error:
                outcome.set_exception(error)
            self._tell(done, outcome.result)

        self._put(peer, call)

    def close(self, peer: Hashable, sock: socket.SocketType) -> None:
        self.closing += 1

        def call() -> None:
            sock.close()
            self._tell(self._closed)

        self._put(peer, call)

    def end(self) -> None:
        """End the thread after its queued calls."""
        self._more.release()

    def _closed(self) -> None:
        self.closing -= 1

    def _put(self, peer: Hashable, call: Callable[[], None]) -> None:
        def timed() -> None:
            began = self._clock()
            call()
            if self._clock() - began > CALL_SECONDS:
                self._tell(self._remember, peer)

        if self._thread is None:
            thread = threading.Thread(target=self._run, name="slow-peers", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the container has reached its limit of threads
                timed()
                return
            self._thread = thread
        with self._lock:
            self._calls.put(peer, timed)
        self._more.release()

    def _run(self) -> None:
        watchdog = StallWatchdog(CALL_SECONDS, CALL_SECONDS)
        while (call := self._take()) is not None:
            watchdog.begin()
            call()
            watchdog.end()
        watchdog.stop()

    def _take(self) -> Callable[[], None] | None:
        self._more.acquire()
        with self._lock:
            return self._calls.take()

    def _remember(self, peer: Hashable) -> None:
        self._until[peer] = self._clock() + REMEMBERED_SECONDS
        self._until.move_to_end(peer)
        if len(self._until) > MAX_PEERS:
            self._until.popitem(last=False)

    def _tell(self, call: Callable[..., None], *arguments: object) -> None:
        # A closed event loop raises RuntimeError; then nothing waits for the result any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *arguments)
