"""The program of a worker process of `confcom.service`: it verifies quotes until its socket ends.

The worker fetches nothing, keeps no file, and ends itself if a verification exceeds its time limit.
"""

from __future__ import annotations

import gc
import pickle
import signal
import socket
import struct
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import IO, Final, NamedTuple, TypeVar

from confcom.errors import ConfcomError, MalformedError
from confcom.sgx.collateral_json import PlatformKind
from confcom.sgx.quote import QuoteFrame
from confcom.verify.checks.dcap_qvl_appraisal import load_dcap_qvl
from confcom.verify.policy import Policy
from confcom.verify.prepared_collateral import (
    MAX_KNOWN_KEYS,
    MAX_KNOWN_PART,
    Collateral,
    PreparedCollateral,
    platform_kind,
)
from confcom.verify.trust import TrustedRoot
from confcom.verify.verdict import Verdict, unusable
from confcom.verify.verifier import refusal_without_collateral, verify_quote

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

LENGTH: Final = struct.Struct("!I")
"""The size of a message in bytes, before each message. Messages are pickled; an empty one says that a worker is ready."""
HOLD_SECONDS: Final = 60.0
"""How long a worker uses collateral before it asks for it again: what the cache discards is used no longer than that."""
MAX_PLATFORM_KINDS: Final = 64
"""Kinds of platforms whose collateral a worker holds: Intel has about 50 FMSPCs with SGX, and a set has under 1 MB."""


class Setup(NamedTuple):
    """What a worker needs once."""

    policy: Policy
    root: TrustedRoot
    seconds: float
    """The time limit of one verification."""


class Request(NamedTuple):
    """One quote. The answer is a verdict, an error, or None if the collateral of the quote's platform is needed."""

    quote: bytes
    report_data: bytes | None
    """The report data that the policy demands for this quote; None leaves the policy as it is."""
    now: datetime
    collateral: Collateral | None = None


Answer = Verdict | ConfcomError | None


class _HeldCollateral(NamedTuple):
    prepared: PreparedCollateral
    until: float


class QuoteWorker:
    """Answers requests, with the collateral that earlier requests brought."""

    def __init__(self, setup: Setup, clock: Callable[[], float]) -> None:
        self._policy, self._root = setup.policy, setup.root
        self._clock = clock
        self._held: OrderedDict[PlatformKind, _HeldCollateral] = OrderedDict()
        self._kinds: OrderedDict[bytes, PlatformKind] = OrderedDict()
        """The kind of platform, keyed by what certifies the quote's attestation key; for quotes whose signatures held."""

    def answer(self, request: Request) -> Answer:
        quote, now = request.quote, request.now
        policy = self._policy
        if request.report_data is not None:
            policy = policy.for_report_data(request.report_data)
        part = _certifying_part(quote)
        kind = self._kinds.get(part)
        if kind is None or self._usable(kind) is None:
            refusal = refusal_without_collateral(quote, policy, self._root, now)
            if refusal is not None:
                return refusal
            try:
                kind = platform_kind(quote)
            except MalformedError as error:
                return unusable("a PCK certificate that names its platform", error, code="format")
            if len(part) <= MAX_KNOWN_PART:
                _put(self._kinds, part, kind, MAX_KNOWN_KEYS)
        if request.collateral is not None:
            try:
                self._hold(kind, request.collateral, now)
            except MalformedError as error:
                return error
        prepared = self._usable(kind)
        return None if prepared is None else verify_quote(quote, self._root, prepared, policy, now)

    def _usable(self, kind: PlatformKind) -> PreparedCollateral | None:
        held = self._held.get(kind)
        return held.prepared if held is not None and self._clock() < held.until else None

    def _hold(self, kind: PlatformKind, collateral: Collateral, now: datetime) -> None:
        held = self._held.get(kind)
        same = held is not None and held.prepared.collateral == collateral
        prepared = held.prepared if held is not None and same else collateral.prepared(self._root, now)
        _put(self._held, kind, _HeldCollateral(prepared, self._clock() + HOLD_SECONDS), MAX_PLATFORM_KINDS)


def _put(memory: OrderedDict[_Key, _Value], key: _Key, value: _Value, most: int) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > most:
        memory.popitem(last=False)


def _certifying_part(quote: bytes) -> bytes:
    try:
        return QuoteFrame.parse(quote).certifying_part
    except MalformedError:
        return b""


def receive(stream: IO[bytes]) -> bytes:
    """Return the next message; EOFError at the stream's end."""
    header = stream.read(LENGTH.size)
    if len(header) < LENGTH.size:
        raise EOFError
    return stream.read(*LENGTH.unpack(header))


def framed(message: bytes) -> bytes:
    """Return a message with its length before it."""
    return LENGTH.pack(len(message)) + message


def serve(connection: socket.socket) -> None:
    """Answer the requests of a socket in their order, until it ends."""
    with connection, connection.makefile("rb") as requests:
        setup: Setup = pickle.loads(receive(requests))
        worker = QuoteWorker(setup, time.monotonic)
        load_dcap_qvl()
        gc.freeze()
        connection.sendall(framed(b""))
        while True:
            request: Request = pickle.loads(receive(requests))
            # The timer's signal ends the process, also while native code holds the GIL.
            signal.setitimer(signal.ITIMER_REAL, setup.seconds)
            answer = worker.answer(request)
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.sendall(framed(pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)))


def main(descriptor: int) -> None:
    """Serve the socket of this descriptor; the socket's end alone ends a worker in order."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    try:
        serve(socket.socket(fileno=descriptor))
    except (EOFError, ConnectionError):
        return


if __name__ == "__main__":
    main(int(sys.argv[1]))
