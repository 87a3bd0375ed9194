"""A campaign: many inputs against one target, what came of them counted, memory watched, findings made small."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing import get_context
from typing import Final, Protocol

from bench.machine import resident_bytes
from fuzz.corpus import Corpus
from fuzz.inputs import Input
from fuzz.mutations import Generator
from fuzz.oracle import Finding, Outcome
from fuzz.session_target import SessionTarget
from fuzz.shrink import shrink

BATCH: Final = 64
"""Inputs that run beside each other: enough for answers to be mixed up, if they can be."""

WARM_UP: Final = 20_000
"""Inputs before memory is measured the first time, at most a tenth: caches and pools of the allocator fill first."""

MAX_GROWTH: Final = 16 * 1024 * 1024
"""Bytes that a process may grow by after that: the allocator's own coming and going is less, and 34 bytes lost for each
of half a million inputs are more."""

MIN_DECODED: Final = 0.5
"""Share of inputs that must reach a decoded message, else the campaign tests little but the framing."""


class Target(Protocol):
    """What inputs are run against."""

    @property
    def corpus(self) -> Corpus:
        """Where inputs come from."""

    @property
    def pid(self) -> int:
        """The process whose memory counts."""

    def run(self, inputs: Sequence[Input]) -> list[Outcome | Finding]:
        """Run inputs beside each other, and judge each."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Args:
        seed: of the generator.
        first: index of the first input.
        count: how many.
        seconds: after which no more are begun, also if `count` is not reached.
    """

    seed: int
    first: int
    count: int
    seconds: float = float("inf")

    def shares(self, parts: int) -> list[Plan]:
        """The same inputs in several plans."""
        cuts = [self.first + self.count * part // parts for part in range(parts + 1)]
        return [Plan(self.seed, start, end - start, self.seconds) for start, end in pairwise(cuts)]


@dataclass(frozen=True, slots=True)
class FoundBug:
    """The first input that broke a rule."""

    finding: Finding
    index: int
    """-1: it is not about one input."""
    sent: Input | None
    alone: bool
    """Whether it breaks the rule by itself, and so was made small; else only beside the inputs around it."""


@dataclass(slots=True)
class Tally:
    """What came of a campaign."""

    name: str
    inputs: int = 0
    decoded: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    bugs: list[FoundBug] = field(default_factory=list)
    rss: list[tuple[int, int]] = field(default_factory=list)
    """Of each process: bytes after the warm-up, and at the end."""
    notes: dict[str, int | float] = field(default_factory=dict)
    """What else was counted."""

    @property
    def decoded_share(self) -> float:
        """Of all inputs."""
        return self.decoded / self.inputs if self.inputs else 0.0

    def found(self, rule: str, detail: str) -> None:
        """Something is wrong that is not about one input."""
        self.bugs.append(FoundBug(Finding(rule, detail), -1, None, alone=False))

    def add(self, other: Tally) -> None:
        """Count another process' share too."""
        self.inputs += other.inputs
        self.decoded += other.decoded
        self.seconds = max(self.seconds, other.seconds)
        self.outcomes += other.outcomes
        known = {bug.finding.rule for bug in self.bugs}
        self.bugs += [bug for bug in other.bugs if bug.finding.rule not in known]
        self.rss += other.rss


def run_campaign(name: str, plan: Plan, target: Target) -> Tally:
    """Run the inputs of a plan against a target; the name is the tally's."""
    tally, generator = Tally(name), Generator(target.corpus, plan.seed)
    started = time.monotonic()
    warm, before = min(WARM_UP, plan.count // 10), resident_bytes(target.pid)
    for start in range(plan.first, plan.first + plan.count, BATCH):
        if time.monotonic() - started >= plan.seconds:
            break
        indexes = range(start, min(start + BATCH, plan.first + plan.count))
        inputs = [generator.make(index) for index in indexes]
        for index, sent, result in zip(indexes, inputs, target.run(inputs), strict=True):
            _count(tally, index, sent, result, target)
        if tally.inputs - len(indexes) < warm <= tally.inputs:
            before = resident_bytes(target.pid)
    after = resident_bytes(target.pid)
    tally.seconds = time.monotonic() - started
    tally.rss.append((before, after))
    if after - before > MAX_GROWTH:
        tally.found("memory grows", f"from {before} to {after} bytes within {tally.inputs} inputs")
    return tally


def run_session_campaign(plan: Plan, processes: int) -> Tally:
    """Fuzz session, rules and service in this process, or in several."""
    if processes == 1:
        return _session_share(plan)
    with get_context("spawn").Pool(processes) as pool:
        first, *others = pool.map(_session_share, plan.shares(processes))
    for other in others:
        first.add(other)
    return first


def _session_share(plan: Plan) -> Tally:
    with SessionTarget() as target:
        return run_campaign("session and service, in process", plan, target)


def _count(tally: Tally, index: int, sent: Input, result: Outcome | Finding, target: Target) -> None:
    tally.inputs += 1
    if isinstance(result, Outcome):
        tally.outcomes[str(result)] += 1
        tally.decoded += result.decoded
        return
    rule = result.rule
    tally.outcomes[f"WRONG: {rule}"] += 1
    if rule in {bug.finding.rule for bug in tally.bugs}:
        return

    def still_fails(candidate: Input) -> bool:
        (again,) = target.run([candidate])
        return isinstance(again, Finding) and again.rule == rule

    alone = still_fails(sent)
    small = shrink(sent, still_fails) if alone else sent
    (again,) = target.run([small])
    tally.bugs.append(FoundBug(again if isinstance(again, Finding) else result, index, small, alone))
