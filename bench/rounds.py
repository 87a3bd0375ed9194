"""The CPU that a quote costs each server, in alternating rounds beside the bare signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from bench.load import PreparedQuote, prepare, serve_all, target_of
from bench.machine import Cores, cpu_when_idle, on_core, resident_bytes, seconds_per_signature
from bench.serving import Server
from bench.summary import Latency, Spread

SIGNATURES = 1000
"""For one measurement, between those of two servers: 25 ms."""

T = TypeVar("T")


@dataclass(slots=True)
class Tally:
    """What one server was measured at, a value per round."""

    cpu_seconds: list[float] = field(default_factory=list)
    """Of the server, for one quote."""
    ratios: list[float] = field(default_factory=list)
    """To the bare signature, measured right before and after: the speed of a shared machine changes within seconds."""
    rates: list[float] = field(default_factory=list)
    """Quotes per second by the wall clock; bounded by the measuring clients too."""
    latencies: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    """Of the latencies of a round."""
    resident: list[int] = field(default_factory=list)
    """Bytes, at the end of a round."""
    sample: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def cpu(self) -> Spread:
        """CPU seconds for one quote."""
        return Spread.of(self.cpu_seconds)

    @property
    def ratio(self) -> Spread:
        """In bare signatures."""
        return Spread.of(self.ratios)

    @property
    def rate(self) -> Spread:
        """Quotes per second."""
        return Spread.of(self.rates)

    @property
    def latency(self) -> Latency:
        """Of all rounds."""
        return Latency.of(self.latencies)


@dataclass(frozen=True, slots=True)
class Rounds:
    """What all rounds gave.

    Args:
        signatures: CPU seconds of a bare signature, one for each server and round.
        tallies: by server.
    """

    signatures: list[float]
    tallies: dict[str, Tally]


def in_turn(sides: Sequence[T], number: int) -> Sequence[T]:
    """In one order in even rounds, and in the other in odd ones: a machine whose speed drifts does so for all."""
    return sides if number % 2 == 0 else sides[::-1]


def run_rounds(servers: Mapping[str, Server], *, cores: Cores, rounds: int, quotes: int, clients: int) -> Rounds:
    """Ask each server for the same number of quotes in every round, in one order and then in the other.

    Every server gets reports that it has not seen. They are made before, and shared by the servers of a round.
    """
    result = Rounds([], {key: Tally() for key in servers})
    target, size = target_of(next(iter(servers.values())).socket)
    with on_core(cores.clients):
        for number in range(rounds):
            prepared = prepare(target, size, quotes)
            before = _signature(cores)
            for key in in_turn(list(servers), number):
                tally = result.tallies[key]
                seconds = _measure(servers[key], prepared, clients, tally)
                after = _signature(cores)
                signature = (before + after) / 2
                before = after
                result.signatures.append(signature)
                tally.cpu_seconds.append(seconds)
                tally.ratios.append(seconds / signature)
    return result


def _measure(server: Server, prepared: list[PreparedQuote], clients: int, tally: Tally) -> float:
    before = cpu_when_idle(server.pid)
    served = serve_all(server.socket, prepared, clients=clients)
    used = cpu_when_idle(server.pid) - before
    tally.rates.append(len(prepared) / served.seconds)
    tally.latencies.extend(served.latencies)
    tally.medians.append(Latency.of(served.latencies).p50)
    tally.resident.append(resident_bytes(server.pid))
    tally.sample.extend(served.sample)
    return used / len(prepared)


def _signature(cores: Cores) -> float:
    with on_core(cores.server):
        return seconds_per_signature(SIGNATURES)
