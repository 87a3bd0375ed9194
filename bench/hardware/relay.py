"""The relay to aesmd beside asking a stand-in for aesmd directly: 2.5 ms for a quote, one after the other."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from bench.beside import Checkout, Pair, absent, milliseconds
from bench.load import prepare, serve_all, target_of
from bench.machine import Cores, on_core
from bench.measure import verify_sample
from bench.other_user import running_as, stopped
from bench.rounds import in_turn
from bench.serving import Bench, Server
from bench.summary import Latency, Spread
from confcom.quote_provider.state_directory import open_platform
from testkit.replay import wire

MISBEHAVING_UID = 65_530
"""Who sends only headers, or floods: a peer of its own, no user that a distribution has."""
FLOODING_CLIENTS = 16
"""Connections of the flood, each of which asks for the next quote at once."""
HEADERS = 8
"""Connections that send a header and nothing more; one that is closed is replaced."""
REPLACE_SECONDS = 0.05
"""Between looks at whether one was closed."""
FLOOD_QUOTES = 256
"""That the flood asks for again and again: its reports were made before."""
START_SECONDS = 20.0
"""For a peer to misbehave."""


@dataclass(frozen=True, slots=True)
class RelayPlan:
    """How much is measured; a quote takes 2.5 ms."""

    rounds: int = 7
    single: int = 200
    """Quotes of one client at a time, for each server and round."""
    loaded: int = 400
    """Quotes of `clients` at a time, for each server and round."""
    clients: int = 8
    beside: Checkout | None = None
    """Whose relay is measured in the same rounds."""


@dataclass(slots=True)
class RelayTally:
    """What one server was measured at."""

    medians: list[float] = field(default_factory=list)
    """Seconds of one client's quote, by round."""
    rates: list[float] = field(default_factory=list)
    """Quotes per second with several clients, by round."""
    latencies: list[float] = field(default_factory=list)
    """Of one client at a time, of all rounds."""
    beside: dict[str, list[list[float]]] = field(default_factory=dict)
    """The same by round, by what another peer does meanwhile; empty without root."""


@dataclass(frozen=True, slots=True)
class RelayResults:
    """What was measured, in seconds."""

    plan: RelayPlan
    direct: RelayTally
    relayed: RelayTally
    passed: RelayTally
    """By a relay that only passes bytes on: one client's medians only."""
    beside: dict[str, Latency]
    """One client's times by what another peer does meanwhile; empty without root."""
    verified: int
    pairs: list[Pair] = field(default_factory=list)
    """Beside the other checkout; empty without one."""

    @property
    def added(self) -> Spread:
        """What the relay adds to the median, by round."""
        return Spread.of(_differences(self.relayed.medians, self.direct.medians))

    @property
    def floor(self) -> Spread:
        """What passing bytes on adds to the median, by round."""
        return Spread.of(_differences(self.passed.medians, self.direct.medians))

    @property
    def above_floor(self) -> Spread:
        """What the relay adds to the median of passing bytes on, by round."""
        return Spread.of(_differences(self.relayed.medians, self.passed.medians))

    @property
    def throughput(self) -> Spread:
        """The relay's quotes per second, in those of asking directly, by round."""
        return Spread.of(_quotients(self.relayed.rates, self.direct.rates))


def measure_relay(plan: RelayPlan, directory: Path, *, say: Callable[[str], None]) -> RelayResults:
    """Measure it.

    Raises:
        WrongAnswerError: an answer is none, or a quote does not verify.
    """
    cores = Cores.choose()
    directory.chmod(0o755)  # the misbehaving peer is another user
    bench = Bench.create(directory, cores.server)
    direct, passed = RelayTally(), RelayTally()
    checkouts = [Checkout.this(), *([plan.beside] if plan.beside else [])]
    relayed = [RelayTally() for _ in checkouts]
    sample: list[tuple[bytes, bytes]] = []
    with contextlib.ExitStack() as stack:
        aesmd = stack.enter_context(bench.script("aesmd", core=cores.clients))
        pass_through = stack.enter_context(bench.script("pass_through", reads=aesmd.socket))
        helpers = [
            (stack.enter_context(_relay(bench, aesmd, f"relay-{number}", checkout)), tally)
            for number, (checkout, tally) in enumerate(zip(checkouts, relayed, strict=True))
        ]
        stack.enter_context(on_core(cores.clients))
        target, size = target_of(aesmd.socket)

        def ask(server: Server, quotes: int, clients: int) -> tuple[float, list[float]]:
            served = serve_all(server.socket, prepare(target, size, quotes), clients=clients)
            sample.extend(served.sample)
            return served.seconds, served.latencies

        say(f"{plan.rounds} rounds of the relay beside asking directly")
        for number in range(plan.rounds):
            for server, tally in in_turn([(aesmd, direct), (pass_through, passed), *helpers], number):
                _, latencies = ask(server, plan.single, 1)
                tally.medians.append(Latency.of(latencies).p50)
                tally.latencies.extend(latencies)
                if tally is not passed:
                    seconds, _ = ask(server, plan.loaded, plan.clients)
                    tally.rates.append(plan.loaded / seconds)
        if os.geteuid() == 0:
            say(f"{plan.rounds} rounds beside a peer that misbehaves")
            for number in range(plan.rounds):
                for name, misbehave in MISBEHAVIOUR.items():
                    for helper, tally in in_turn(helpers, number):
                        with _misbehaving(misbehave, helper.socket, cores.clients):
                            tally.beside.setdefault(name, []).append(ask(helper, plan.single, 1)[1])
    say("verifying the sample")
    return RelayResults(
        plan=plan,
        direct=direct,
        relayed=relayed[0],
        passed=passed,
        beside={name: Latency.of([*itertools.chain(*rounds)]) for name, rounds in relayed[0].beside.items()},
        verified=verify_sample(sample, bench.state_dir),
        pairs=_pairs(direct, *relayed) + _dcap_pairs(checkouts) if plan.beside else [],
    )


@contextlib.contextmanager
def _relay(bench: Bench, aesmd: Server, name: str, checkout: Checkout) -> Iterator[Server]:
    root = bench.directory / "root.pem"
    root.write_bytes(open_platform(bench.state_dir).pki.root.pem)
    flags = ("--provider", "aesmd", "--aesmd-socket", str(aesmd.socket), "--expected-root", str(root))
    with bench.helper(name, *flags, checkout=checkout) as helper:
        yield helper


@contextlib.contextmanager
def _misbehaving(
    misbehave: Callable[[Path, Connection], dict[str, int]] | None, path: Path, core: int
) -> Iterator[None]:
    if misbehave is None:
        yield
        return
    with running_as(MISBEHAVING_UID, "the misbehaving peer", functools.partial(misbehave, path), core=core) as child:
        child.receive(START_SECONDS)
        yield
        child.finish()


def _send_headers(path: Path, parent: Connection) -> dict[str, int]:
    """Hold connections that have sent the four bytes of a length."""
    header = prepare_header()
    held: list[socket.socket] = []
    opened = 0
    with contextlib.ExitStack() as stack:
        while not stopped(parent, REPLACE_SECONDS if opened else 0.0):
            held = [one for one in held if not _is_closed(one)]
            while len(held) < HEADERS:
                one = stack.enter_context(socket.socket(socket.AF_UNIX))
                one.connect(str(path))
                one.send(header)
                held.append(one)
                opened += 1
            if opened == HEADERS:
                parent.send(opened)
    return {"opened": opened}


def prepare_header() -> bytes:
    """The header of a request that never comes."""
    return wire.frame(bytes(64))[: wire.HEADER_SIZE]


def _is_closed(one: socket.socket) -> bool:
    try:
        return not one.recv(1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def _flood(path: Path, parent: Connection) -> dict[str, int]:
    """Ask for quotes as fast as there are answers."""
    target, size = target_of(path)
    prepared = prepare(target, size, FLOOD_QUOTES)
    ended = threading.Event()
    asked = 0

    def ask() -> None:
        nonlocal asked
        while not ended.is_set():
            asked += len(serve_all(path, prepared, clients=FLOODING_CLIENTS).latencies)

    flooding = threading.Thread(target=ask, daemon=True)
    flooding.start()
    parent.send(True)
    while not stopped(parent, REPLACE_SECONDS):
        pass
    ended.set()
    return {"asked": asked}


def _differences(minuends: list[float], subtrahends: list[float]) -> list[float]:
    return [mine - theirs for mine, theirs in zip(minuends, subtrahends, strict=True)]


def _quotients(dividends: list[float], divisors: list[float]) -> list[float]:
    return [mine / theirs for mine, theirs in zip(dividends, divisors, strict=True)]


def _pairs(direct: RelayTally, ours: RelayTally, theirs: RelayTally) -> list[Pair]:
    added = (milliseconds(_differences(tally.medians, direct.medians)) for tally in (ours, theirs))
    shares = (_quotients(tally.rates, direct.rates) for tally in (ours, theirs))
    return [
        Pair("relayed: p50", "ms", milliseconds(ours.medians), milliseconds(theirs.medians)),
        Pair("the relay adds to the median", "ms", *added),
        Pair("throughput, in that of asking directly", "x", *shares),
        *(
            Pair(f"relayed, {name}: p50", "ms", *(_medians(tally, name) for tally in (ours, theirs)))
            for name in ours.beside
        ),
    ]


def _medians(tally: RelayTally, name: str) -> list[float]:
    return milliseconds(Latency.of(each).p50 for each in tally.beside[name])


def _dcap_pairs(checkouts: list[Checkout]) -> list[Pair]:
    title = "child with the DCAP libraries"
    here, there = (checkout.lacks(["dcap"]) for checkout in checkouts)
    return [absent(title, here, there) or Pair(title, "", note="not measured")]


MISBEHAVIOUR = {
    "alone": None,
    "beside a peer that sends only headers": _send_headers,
    "beside a peer that floods": _flood,
}
"""What another peer does beside the client that is measured, by its name in the results."""
