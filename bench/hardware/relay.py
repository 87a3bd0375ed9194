"""The relay to aesmd beside asking a stand-in for aesmd directly: 2.5 ms for a quote, one after the other."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from bench.load import prepare, serve_all, target_of
from bench.machine import Cores, on_core
from bench.measure import verify_sample
from bench.other_user import running_as, stopped
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


@dataclass(slots=True)
class RelayTally:
    """What one server was measured at."""

    medians: list[float] = field(default_factory=list)
    """Seconds of one client's quote, by round."""
    rates: list[float] = field(default_factory=list)
    """Quotes per second with several clients, by round."""
    latencies: list[float] = field(default_factory=list)
    """Of one client at a time, of all rounds."""


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

    @property
    def added(self) -> Spread:
        """What the relay adds to the median, by round."""
        return _differences(self.relayed.medians, self.direct.medians)

    @property
    def floor(self) -> Spread:
        """What passing bytes on adds to the median, by round."""
        return _differences(self.passed.medians, self.direct.medians)

    @property
    def above_floor(self) -> Spread:
        """What the relay adds to the median of passing bytes on, by round."""
        return _differences(self.relayed.medians, self.passed.medians)

    @property
    def throughput(self) -> Spread:
        """The relay's quotes per second, in those of asking directly, by round."""
        return Spread.of([mine / theirs for mine, theirs in zip(self.relayed.rates, self.direct.rates, strict=True)])


def measure_relay(plan: RelayPlan, directory: Path, *, say: Callable[[str], None]) -> RelayResults:
    """Measure it.

    Raises:
        WrongAnswerError: an answer is none, or a quote does not verify.
    """
    cores = Cores.choose()
    directory.chmod(0o755)  # the misbehaving peer is another user
    bench = Bench.create(directory, cores.server)
    direct, relayed, passed = RelayTally(), RelayTally(), RelayTally()
    beside: dict[str, list[float]] = {}
    sample: list[tuple[bytes, bytes]] = []
    with (
        bench.script("aesmd", core=cores.clients) as aesmd,
        bench.script("pass_through", reads=aesmd.socket) as pass_through,
        _relay(bench, aesmd) as helper,
        on_core(cores.clients),
    ):
        target, size = target_of(aesmd.socket)

        def ask(server: Server, quotes: int, clients: int) -> tuple[float, list[float]]:
            served = serve_all(server.socket, prepare(target, size, quotes), clients=clients)
            sample.extend(served.sample)
            return served.seconds, served.latencies

        say(f"{plan.rounds} rounds of the relay beside asking directly")
        for number in range(plan.rounds):
            pairs = [(aesmd, direct), (pass_through, passed), (helper, relayed)]
            for server, tally in pairs if number % 2 == 0 else pairs[::-1]:
                _, latencies = ask(server, plan.single, 1)
                tally.medians.append(Latency.of(latencies).p50)
                tally.latencies.extend(latencies)
                if tally is not passed:
                    seconds, _ = ask(server, plan.loaded, plan.clients)
                    tally.rates.append(plan.loaded / seconds)
        if os.geteuid() == 0:
            say(f"{plan.rounds} rounds beside a peer that misbehaves")
            for _ in range(plan.rounds):
                for name, misbehave in MISBEHAVIOUR.items():
                    with _misbehaving(misbehave, helper.socket, cores.clients):
                        beside.setdefault(name, []).extend(ask(helper, plan.single, 1)[1])
    say("verifying the sample")
    return RelayResults(
        plan=plan,
        direct=direct,
        relayed=relayed,
        passed=passed,
        beside={name: Latency.of(seconds) for name, seconds in beside.items()},
        verified=verify_sample(sample, bench.state_dir),
    )


@contextlib.contextmanager
def _relay(bench: Bench, aesmd: Server) -> Iterator[Server]:
    root = bench.directory / "root.pem"
    root.write_bytes(open_platform(bench.state_dir).pki.root.pem)
    flags = ("--provider", "aesmd", "--aesmd-socket", str(aesmd.socket), "--expected-root", str(root))
    with bench.helper("relay", *flags) as helper:
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


def _differences(minuends: list[float], subtrahends: list[float]) -> Spread:
    return Spread.of([mine - theirs for mine, theirs in zip(minuends, subtrahends, strict=True)])


MISBEHAVIOUR = {
    "alone": None,
    "beside a peer that sends only headers": _send_headers,
    "beside a peer that floods": _flood,
}
"""What another peer does beside the client that is measured, by its name in the results."""
