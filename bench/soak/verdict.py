"""Whether a soak was passed, and what it showed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from bench.soak.attacks import Phase, in_phase, is_spared
from bench.soak.run import Soaked, SoakPlan
from bench.soak.well_behaved import Tally
from bench.summary import Latency

MOST_STALL_SECONDS = 0.05
"""Nothing may block the helper's event loop for longer. Both measures of it are bounds from above: a probe takes
several turns of the loop, and the helper's own look counts the time in which others had the CPU. So only what both
show fails."""


def failures_of(soaked: Soaked) -> list[str]:
    """Everything that should not have happened, a line each."""
    return list(_failures(soaked))


def _failures(soaked: Soaked) -> Iterator[str]:
    for name, tally in soaked.tallies.items():
        yield from (f"{name}: {complaint}" for complaint in _complaints(soaked, tally))
    for helper in soaked.helpers[:-1]:
        if helper.exit_code != 0:
            yield f"the helper that served {helper.name} ended with {helper.exit_code}"
    for helper in soaked.helpers:
        if helper.killed:
            yield f"the helper that served {helper.name} needed more memory than its limit, and was killed"
        yield from (f"the helper that served {helper.name}: {complaint}" for complaint in helper.complaints)
        if helper.late_looks and helper.longest_stall > MOST_STALL_SECONDS:
            yield f"the event loop of the helper that served {helper.name} stalled for {helper.longest_stall:.3f} s"
    yield from (f"a quote does not verify: {line}" for line in soaked.unverified)


def _complaints(soaked: Soaked, tally: Tally) -> Iterator[str]:
    for began, complaint in tally.failures:
        if not is_spared(began, complaint, soaked.phases):
            yield f"{complaint} ({began - soaked.changed_at:+.3f} s from the change of the quoting enclave)"
    early = sum(began < soaked.changed_at for began in tally.renewals)
    if early:
        yield f"told 42 {early} times before the quoting enclave changed"
    if not tally.attestations:
        yield "never attested"


def _latency_in(soaked: Soaked, phase: Phase) -> Latency:
    tallies = soaked.tallies.values()
    return Latency.of([tally.latencies[number] for tally in tallies for number in in_phase(phase, tally.moments)])


def _failed_in(soaked: Soaked, phase: Phase) -> int:
    began = [moment for tally in soaked.tallies.values() for moment, _ in tally.failures]
    return len([*in_phase(phase, began)])


def as_json(plan: SoakPlan, soaked: Soaked, machine: dict[str, object]) -> dict[str, object]:
    """All but the quotes and the single latencies."""
    return {
        "plan": {"seconds": plan.seconds, "attestations_per_second": plan.rate, "program": plan.program is not None},
        "machine": machine,
        "failures": failures_of(soaked),
        "well_behaved": {
            name: {
                "attestations": tally.attestations,
                "calls": tally.calls,
                "late": tally.late,
                "failures": len(tally.failures),
                "renewals_after_42": len(tally.renewals),
                "latency": asdict(Latency.of(tally.latencies)),
            }
            for name, tally in soaked.tallies.items()
        },
        "misbehaving": soaked.misbehaving,
        "attacks": [
            {
                "attack": phase.name,
                "seconds": phase.ends - phase.begins,
                "did": soaked.attacks.get(phase.name, {}),
                "failures": _failed_in(soaked, phase),
                "latency": asdict(_latency_in(soaked, phase)),
            }
            for phase in soaked.phases
        ],
        "helpers": [asdict(helper) for helper in soaked.helpers],
        "verified": soaked.verified,
    }


def as_table(plan: SoakPlan, soaked: Soaked) -> str:
    """For people."""
    return "\n".join(_lines(plan, soaked)) + "\n"


def _lines(plan: SoakPlan, soaked: Soaked) -> Iterator[str]:
    yield f"Well-behaved clients, {plan.seconds:g} s, {plan.rate:g} attestations per second of each (ms)"
    yield f"{'attested':>37}{'calls':>8}{'failed':>8}{'after 42':>9}{'late':>6}{'p50':>8}{'p99':>8}{'longest':>9}"
    for name, tally in soaked.tallies.items():
        took = Latency.of(tally.latencies)
        yield (
            f"  {name:26}{tally.attestations:9}{tally.calls:8}{len(tally.failures):8}{len(tally.renewals):9}"
            f"{tally.late:6}{took.p50 * 1e3:8.2f}{took.p99 * 1e3:8.2f}{took.longest * 1e3:9.1f}"
        )
    yield f"Well-behaved clients, attack by attack (ms){'calls':>8}{'failed':>8}{'p50':>8}{'p99':>8}{'longest':>9}"
    for phase in soaked.phases:
        took, failed = _latency_in(soaked, phase), _failed_in(soaked, phase)
        did = ", ".join(f"{name} {count}" for name, count in soaked.attacks.get(phase.name, {}).items())
        yield (
            f"  {phase.name:41}{took.count:8}{failed:8}"
            f"{took.p50 * 1e3:8.2f}{took.p99 * 1e3:8.2f}{took.longest * 1e3:9.1f}  {did}"
        )
    yield "Misbehaving clients: connections, and of them refused or cut"
    for kind, counts in soaked.misbehaving.items():
        yield f"  {kind:26}{counts['connections']:9}{counts['refused']:8}"
    yield "Quote helpers, one after the other"
    for helper in soaked.helpers:
        memory = [size / 1e6 for _, size in helper.resident] or [0.0]
        yield f"  {helper.name}"
        yield (
            f"    memory {memory[0]:.1f} MB at first, {max(memory):.1f} at most, {memory[-1]:.1f} at last; "
            f"{helper.probes} probes, the slowest {helper.slowest_probe * 1e3:.0f} ms, "
            f"{helper.longest_stall * 1e3:.0f} ms without waiting for the CPU; {helper.late_looks} late looks"
        )
        yield f"    {helper.highest / 1e6:.1f} MB of its control group at most, {helper.killed} killed for memory"
        dropped = ", ".join(f"{reason} {count}" for reason, count in helper.dropped.items() if count)
        yield f"    closed without an answer: {dropped or 'none'}"
        if helper.exit_code is not None:
            yield f"    stopped in {helper.stop_seconds:.1f} s, exit code {helper.exit_code}"
    yield f"{soaked.verified} quotes were verified in full; of all, it was checked that they are over their report."
    failures = failures_of(soaked)
    yield f"{len(failures)} failures"
    yield from (f"  {line}" for line in failures[:MOST_LINES])


MOST_LINES = 20
"""Of failures in the table; the JSON has all."""
