"""What an attack did to its victim and to the daemons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bench.summary import Latency
from e2e.load.attestation import Attestation

MIB = 1024 * 1024
MOST_REASONS = 3
"""Of failures in a table."""


@dataclass(frozen=True, slots=True)
class Period:
    """A victim's attestations of some time.

    Args:
        name: what was then.
        made: how many began.
        failures: what the client would complain about.
        latency: of single calls, those that failed included.
    """

    name: str
    made: int
    failures: tuple[str, ...]
    latency: Latency

    @classmethod
    def of(cls, name: str, attestations: Iterable[Attestation], began: float, ended: float) -> Period:
        """Of those that began in this time."""
        here = [one for one in attestations if began <= one.began < ended]
        failures = tuple(one.failure for one in here if one.failure)
        return cls(name, len(here), failures, Latency.of([seconds for one in here for seconds in one.seconds]))


@dataclass(frozen=True, slots=True)
class DaemonSeen:
    """What became of a daemon meanwhile.

    Args:
        name: which.
        restarts: how many more than before.
        unhealthy: probes of the kubelet that failed.
        stayed_ready: whether its Pod's condition never changed.
        memory: bytes of its Pod, sample by sample.
        highest: bytes at most, by the kernel's own count.
        limit: bytes that it may use.
        log_lines: how many it wrote.
    """

    name: str
    restarts: int
    unhealthy: int
    stayed_ready: bool
    memory: tuple[int, ...]
    highest: int
    limit: int
    log_lines: int

    @property
    def complaints(self) -> list[str]:
        """What should not have happened."""
        found = []
        if self.restarts:
            found.append(f"{self.name}: {self.restarts} restarts")
        if self.unhealthy:
            found.append(f"{self.name}: {self.unhealthy} failed probes")
        if not self.stayed_ready:
            found.append(f"{self.name}: was not ready all the time")
        return found


def table(periods: Sequence[Period], daemons: Sequence[DaemonSeen]) -> Iterator[str]:
    """For people: times of calls in milliseconds, memory in MiB."""
    yield f"{'victim':16}{'attested':>9}{'failed':>8}{'calls':>8}{'p50':>9}{'p99':>9}{'longest':>10}"
    for period in periods:
        took = period.latency
        yield (
            f"{period.name:16}{period.made:9}{len(period.failures):8}{took.count:8}"
            f"{took.p50 * 1e3:9.2f}{took.p99 * 1e3:9.2f}{took.longest * 1e3:10.1f}"
        )
    for period in periods:
        for reason, count in Counter(period.failures).most_common(MOST_REASONS):
            yield f"  failed, {period.name}: {count} times {reason}"
    yield (
        f"{'daemon':16}{'restarts':>9}{'failed probes':>15}{'ready':>8}{'memory at first':>17}{'sampled':>9}"
        f"{'highest':>9}{'limit':>7}{'log lines':>11}"
    )
    for one in daemons:
        first, most = (one.memory[0], max(one.memory)) if one.memory else (0, 0)
        yield (
            f"{one.name:16}{one.restarts:9}{one.unhealthy:15}{'always' if one.stayed_ready else 'no':>8}"
            f"{first / MIB:17.1f}{most / MIB:9.1f}{one.highest / MIB:9.1f}{one.limit / MIB:7.0f}{one.log_lines:11}"
        )
