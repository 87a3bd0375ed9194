"""What was measured of kubelet restarts, as a table and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict

from bench.cluster.restarts.measure import Restart, Results
from bench.cluster.restarts.nodes import IN_TURN, Group
from bench.summary import Spread
from bench.table import goal

GOAL_SECONDS = 0.1
"""That a restart beside Pods with EPC as capacity may take longer than one beside Pods with another plugin's device."""
_TITLE, _VALUE = 44, 28
_MEASURES: tuple[tuple[str, Callable[[Restart], float]], ...] = (
    ("first heartbeat in the API", lambda one: one.reported),
    ("new Pod admitted", lambda one: one.admitted),
    ("new Pod running", lambda one: one.new_pod),
)


def as_json(results: Results) -> dict[str, object]:
    """All of it, with every single value."""
    return {
        "plan": asdict(results.plan),
        "machine": results.machine,
        "load_average": results.load_average,
        "limits": results.limits,
        "restarts": [asdict(one) for one in results.restarts],
    }


def as_table(results: Results) -> str:
    """For people."""
    return "\n".join(_lines(results)) + "\n"


def _lines(results: Results) -> Iterator[str]:
    machine = results.machine
    yield f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}"
    runs = f"Kubernetes {machine['kubernetes']}, {machine['container_runtime']}"
    yield f"{runs}; {machine['nodes']} nodes on this machine, {results.plan.pods} Pods on each"
    yield f"load average {results.load_average[0]:.2f} before, {results.load_average[1]:.2f} after"
    yield ""
    yield "Restart of a kubelet, in turn; seconds from the start of the new one: median (lowest to highest)"
    yield f"  {'its Pods have':{_TITLE}}{'n':>4}" + "".join(f"{title:>{_VALUE}}" for title, _ in _MEASURES)
    for group in Group:
        if found := [one for one in results.restarts if one.group is group]:
            values = (_spread([measure(one) for one in found]) for _, measure in _MEASURES)
            title = f"{group}{_amount(results, group)}"
            yield f"  {title:{_TITLE}}{len(found):>4}" + "".join(f"{value:>{_VALUE}}" for value in values)
    yield ""
    yield "EPC as capacity, longer than another plugin's device in the same round: mean (its standard error)"
    for title, measure in _MEASURES:
        with_epc, other = ([measure(one) for one in results.restarts if one.group is group] for group in IN_TURN[:2])
        longer = [mine - its for mine, its in zip(with_epc, other, strict=True)]
        if longer:
            mean = statistics.fmean(longer)
            error = f"{statistics.stdev(longer) / len(longer) ** 0.5:.2f}" if len(longer) > 1 else "unknown"
            value = f"{mean:.2f} ({error})"
            yield f"  {title:{_TITLE}}{len(longer):>4}{value:>{_VALUE}}  {goal(mean, GOAL_SECONDS, ' s')}"


def _amount(results: Results, group: Group) -> str:
    return "".join(f": {count} each" for count in results.limits[group].values())


def _spread(values: list[float]) -> str:
    spread = Spread.of(values)
    return f"{spread.median:.2f} ({spread.lowest:.2f} to {spread.highest:.2f})"
