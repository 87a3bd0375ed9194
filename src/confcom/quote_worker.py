"""The program of a worker process of `confcom.service`: it verifies quotes until its socket ends.

The worker fetches nothing and writes no file. If a verification exceeds its time limit, the worker ends.
"""

import contextlib
import functools
import gc
import pickle
import signal
import socket
import struct
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, NamedTuple

from confcom.errors import MalformedError
from confcom.sgx.quote import QuoteFrame, tee_of
from confcom.verify.policy import Policy
from confcom.verify.prepared_collateral import MAX_KNOWN_KEYS, Collateral, PreparedCollateral
from confcom.verify.trust import TrustedRoot
from confcom.verify.verdict import Verdict
from confcom.verify.verifier import refusal_without_collateral, verify_quote

HOLD_SECONDS: Final = 60.0
"""How long a worker uses collateral without asking for it again. After that time, the cache's newer set is used."""
SIZE: Final = struct.Struct("!i")
"""The size before each message of a worker. Python reads pickles without a size from a file, but not from a stream."""
MAX_SETS: Final = 64
"""Sets of collateral that a worker keeps prepared: Intel has about 50 FMSPCs with SGX. A set has under 1 MB."""


class Setup(NamedTuple):
    """The first message to a worker, which answers None when it is ready."""

    policy: Policy[Any]
    root: TrustedRoot
    seconds: float
    """The time limit of one verification."""


class Request(NamedTuple):
    """One quote. The answer is a verdict, or None if the collateral of the quote's platform is needed."""

    quote: bytes
    report_data: bytes | None
    """The report data that the policy demands for this quote; None leaves the policy as it is."""
    now: datetime
    collateral: Collateral | None = None


class QuoteWorker:
    """Answers requests, with the collateral that earlier requests brought."""

    def __init__(self, setup: Setup, clock: Callable[[], float]) -> None:
        self._policy, self._root, self._clock = setup.policy, setup.root, clock
        self._prepared = functools.lru_cache(MAX_SETS)(lambda collateral: PreparedCollateral(collateral, setup.root))
        self._held: OrderedDict[bytes, tuple[PreparedCollateral, float]] = OrderedDict()
        """Collateral and the end of its use, keyed by the part of an authentic quote that certifies its key."""

    def answer(self, request: Request) -> Verdict[Any] | None:
        """Return the verdict on a request's quote, or None if its signatures hold and only collateral is missing."""
        quote, report_data, now, collateral = request
        policy = self._policy if report_data is None else replace(self._policy, report_data=report_data)
        try:
            frame = QuoteFrame.parse(quote)
            part, tee = frame.certifying_part, tee_of(frame.body)
        except MalformedError:
            part, tee = b"", policy.tee
        if tee is not policy.tee:
            return verify_quote(quote, self._root, None, policy, now)
        prepared, until = self._held.get(part, (None, 0.0))
        if collateral is not None:
            prepared = self._prepared(collateral)
            self._held[part] = (prepared, self._clock() + HOLD_SECONDS)
            self._held.move_to_end(part)
            if len(self._held) > MAX_KNOWN_KEYS:  # keys have under 64 KiB, as the quotes
                self._held.popitem(last=False)
        elif self._clock() >= until:
            return refusal_without_collateral(quote, policy, self._root, now)
        return verify_quote(quote, self._root, prepared, policy, now)


def serve(end: socket.socket, progress: socket.socket) -> None:
    requests = end.makefile("rb")
    setup: Setup = pickle.load(requests)  # noqa: S301 # from our own program
    worker = QuoteWorker(setup, time.monotonic)
    gc.freeze()
    gc.set_threshold(10_000)  # by default, the objects of one verification cause a collection, which takes 20 µs
    answers: list[Verdict[Any] | None] = []
    while True:
        data = pickle.dumps(answers, pickle.HIGHEST_PROTOCOL)
        end.sendall(SIZE.pack(len(data)) + data)
        answers = []
        for request in pickle.load(requests):  # noqa: S301 # from our own program
            # The timer's signal ends the process, also while native code holds the GIL.
            signal.setitimer(signal.ITIMER_REAL, setup.seconds)
            progress.send(b".")
            answers.append(worker.answer(request))
        signal.setitimer(signal.ITIMER_REAL, 0)


def main(end: socket.socket, progress: socket.socket) -> None:
    """Serve until the socket `end` ends. A signal to the process group does not end a worker."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with contextlib.suppress(EOFError, ConnectionError):
        serve(end, progress)


if __name__ == "__main__":
    main(*(socket.socket(fileno=int(descriptor)) for descriptor in sys.argv[1:]))
