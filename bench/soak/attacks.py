"""The attacks of `e2e.attacks`, one after the other, each a process that waits for its time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from bench.other_user import Work, stopped
from e2e.attacks.kinds import KINDS

UID = 65_530
"""An attacker without privileges: a peer of its own, no user that a distribution has."""
ROOT = 0
RECOVERY_SECONDS = 2.0
"""After an attack that took all memory, for its processes to end and the helper to see it."""
BACKLOG_FULL = "the backlog is full"
"""In the complaint of a client whose connect() failed with EAGAIN."""
NONE = "none"
"""A phase without any, by which the others are judged."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One of them.

    Args:
        kind: of `e2e.attacks.kinds`.
        uid: who attacks. Root can be any other user too.
        on_probes: whether it is probes and metrics that are attacked, and not the socket of AESM.
        takes_all: whether it takes all memory that clients share, as thousands of users at once: processes in no Pod
            can be them, and root in a Pod where Pods are not told apart. What it costs is told, and is no failure.
        fills_backlog: whether it connects faster than any helper can accept. The kernel then makes a connect() wait,
            and refuses one that may not wait with EAGAIN, before a helper sees it. That too is told, and is no failure.
    """

    kind: str
    uid: int = UID
    on_probes: bool = False
    takes_all: bool = False
    fills_backlog: bool = False


ATTACKS: tuple[Attack | None, ...] = (
    None,
    Attack("unread"),
    Attack("gone-peers-held", ROOT, fills_backlog=True),
    Attack("probes", ROOT, on_probes=True),
    Attack("effective-users", ROOT),
    Attack("unread-by-users", ROOT, takes_all=True),
    Attack("crowd-of-probes", ROOT, on_probes=True),
    Attack("incomplete"),
    Attack("incomplete-by-users", ROOT, takes_all=True),
    Attack("complaints", ROOT),
)
"""In this order, each for as long as the others: no update comes while probes are attacked, whose path is a helper's
own."""


@dataclass(frozen=True, slots=True)
class Phase:
    """The time of an attack, of CLOCK_MONOTONIC in seconds.

    Args:
        attack: which; None: there is none.
        begins: from when on.
        ends: until when.
    """

    attack: Attack | None
    begins: float
    ends: float

    @property
    def name(self) -> str:
        """For people."""
        return NONE if self.attack is None else self.attack.kind


def phases(begins: float, seconds: float) -> tuple[Phase, ...]:
    """All of them, which share the time."""
    part = seconds / len(ATTACKS)
    return tuple(
        Phase(attack, begins + number * part, begins + (number + 1) * part) for number, attack in enumerate(ATTACKS)
    )


def newest_probes(directory: Path) -> str:
    """Where the helper that started last is asked for its metrics."""
    return str(max(directory.glob("*.probes"), key=lambda path: path.stat().st_mtime))


def work(attack: Attack, phase: Phase, where: Callable[[], str]) -> Work:
    """The attack in its time; its result is what it did."""

    def run(parent: Connection) -> dict[str, int]:
        if stopped(parent, max(0.0, phase.begins - time.monotonic())):
            return {}
        counts = KINDS[attack.kind](where(), lambda: time.monotonic() >= phase.ends or stopped(parent))
        return dataclasses.asdict(counts)

    return run


def is_spared(moment: float, complaint: str, all_phases: Sequence[Phase]) -> bool:
    """Whether an attestation may fail so that began then, since an attack took all memory or filled the backlog."""
    refused = BACKLOG_FULL in complaint
    attacks = [
        phase
        for phase in all_phases
        if phase.attack is not None and (phase.attack.takes_all or (refused and phase.attack.fills_backlog))
    ]
    return any(phase.begins <= moment < phase.ends + RECOVERY_SECONDS for phase in attacks)


def in_phase(phase: Phase, moments: list[float]) -> Iterator[int]:
    """Indices of those moments that lie in a phase."""
    return (number for number, moment in enumerate(moments) if phase.begins <= moment < phase.ends)
