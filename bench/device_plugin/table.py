"""What was measured of device plugins, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict

from bench.beside import pairs_as_json, pairs_as_table
from bench.device_plugin.measure import CONFCOM, FEW, GO, MANY, NodeResult, PluginResults, PluginSummary
from bench.summary import Spread
from bench.table import GOAL_RESIDENT, goal

GOAL_START = 0.12
"""Seconds from exec() to registered."""
GOAL_ALLOCATE = 0.0005
"""Seconds, the median of Allocate for 10 devices and for 1,024: it runs inside of the kubelet's sync loop."""
GOAL_REREGISTER = 0.1
"""Seconds from a lost stream to the answer to the next Register."""
GOAL_FLAT = 1.5
"""Allocate's median on the largest node, in that on the smallest. A cost that grew with the devices would be a hundred
times higher; what is left is what one machine does in two minutes."""

_COLUMNS = {CONFCOM: "confcom", GO: "minimal Go plugin"}


def plugins_as_json(results: PluginResults) -> dict[str, object]:
    """All of it; times are seconds, memory is bytes."""
    return {
        "plan": asdict(results.plan) | {"beside": results.plan.beside and str(results.plan.beside.source)},
        "machine": results.machine,
        "load_average": results.load_average,
        "without_go": results.without_go,
        "nodes": [asdict(node) | {"pairs": pairs_as_json(node.pairs)} for node in results.nodes],
    }


def plugins_as_table(results: PluginResults) -> str:
    """For people; medians of rounds, with the lowest and the highest."""
    pairs = [pair for node in results.nodes for pair in node.pairs]
    return "\n".join(_lines(results)) + "\n" + pairs_as_table(pairs)


def _lines(results: PluginResults) -> Iterator[str]:
    plan = results.plan
    yield "Device plugin: a measuring kubelet at the other end; medians of rounds, the lowest and the highest"
    few, many = f"{plan.allocations} Allocate of {FEW}", f"{plan.allocations // 4} of {MANY:,}"
    yield f"  in each round {few} and {many}, and {plan.streams} more streams"
    yield f"  load average {results.load_average[0]:.2f} before, {results.load_average[1]:.2f} after"
    if results.without_go:
        yield f"  without the Go plugin: {results.without_go}"
    for node in results.nodes:
        yield ""
        yield from _node_lines(node, with_goals=node.mib in plan.mib)
    if len(results.nodes) > 1:
        smallest, largest = (results.nodes[at].plugins[CONFCOM].allocate_p50[FEW].median for at in (0, -1))
        yield ""
        title = f"Allocate of {FEW}, p50: {results.nodes[-1].mib:,} MiB beside {results.nodes[0].mib:,} MiB"
        yield _row(title, f"{largest / smallest:.2f}x", "", goal(largest / smallest, GOAL_FLAT, "x"))


def _node_lines(node: NodeResult, *, with_goals: bool) -> Iterator[str]:
    columns = [_COLUMNS[key] if key in node.plugins else "" for key in _COLUMNS]
    yield _row(f"{node.mib:,} MiB ({node.rounds} round{'s' if node.rounds > 1 else ''})", *columns, "").lstrip()

    def row(title: str, of: Callable[[PluginSummary], Spread], unit: str, scale: float, most: float = 0.0) -> str:
        cells = [_spread(of(node.plugins[key]), unit, scale) if key in node.plugins else "" for key in _COLUMNS]
        shown = goal(of(node.plugins[CONFCOM]).median * scale, most * scale, f" {unit}") if most and with_goals else ""
        return _row(title, *cells, shown)

    yield row("exec() to registered, all resources", lambda of: of.start, "ms", 1e3, GOAL_START)
    yield row("CPU of it", lambda of: of.start_cpu, "ms", 1e3)
    yield row("Register to first list received whole", lambda of: of.first_list, "ms", 1e3)
    for size in node.plugins[CONFCOM].allocate_p50:
        yield row(f"Allocate of {size:,}, p50", lambda of, size=size: of.allocate_p50[size], "ms", 1e3, GOAL_ALLOCATE)
        yield row(f"Allocate of {size:,}, p99", lambda of, size=size: of.allocate_p99[size], "ms", 1e3)
    yield row("stream lost to registered again", lambda of: of.reregister, "ms", 1e3, GOAL_REREGISTER)
    yield row("plugin's CPU for one more stream and its list", lambda of: of.stream_cpu, "ms", 1e3)
    yield row("resident memory", lambda of: of.resident, "MB", 1e-6, GOAL_RESIDENT)


def _row(title: str, *cells: str) -> str:
    return (f"  {title:48}" + "".join(f"{cell:>28}" for cell in cells[:-1]) + f"  {cells[-1]}").rstrip()


def _spread(spread: Spread, unit: str, scale: float) -> str:
    def digits(value: float) -> str:
        return f"{value * scale:.{2 if value * scale < 10 else 1}f}"

    return f"{digits(spread.median)} {unit} ({digits(spread.lowest)} to {digits(spread.highest)})"
