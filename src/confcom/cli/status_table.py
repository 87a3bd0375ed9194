"""The text output of `confcom status`: the table of nodes and its columns, problems, and workloads.

Large clusters get summaries, so that the output stays readable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from confcom.addon.daemons.daemon_pods import DaemonPod
from confcom.addon.model.epc_accounting import PluginEpc
from confcom.addon.model.problems import ProblemGroup, shown
from confcom.addon.status.node_status import NodeStatus
from confcom.addon.status.node_summary import NodeSummary, summarised
from confcom.addon.status.status import AddOnStatus
from confcom.addon.workloads.workloads import WorkloadGroup, group_workloads

MAX_ROWS = 20
"""The most nodes that have a row each: as many as a terminal of 24 lines shows at once."""
MAX_GROUPS = 20
"""The most problems, doubts or workloads in a section; people fix the first of so many before they read the others."""
USUAL_WIDTH = 50
"""Width of a column, unless half of its cells are wider. Names of cloud nodes take 20 to 45; DNS allows 253."""
_HEADER = (
    "NODE",
    "SGX",
    "EPC MiB FOUND",
    "OFFERED",
    "REQUESTED",
    "FREE",
    "COUNTED AS",
    "DEVICE PLUGIN",
    "QUOTE HELPER",
    "PROVISION",
)
_UNKNOWN = "?"
_ALL = "`confcom status --all-nodes` shows them all"


def status_lines(found: AddOnStatus, *, everything: bool = False) -> Iterator[str]:
    """Return the lines that describe the add-on for people.

    Args:
        found: the add-on's status.
        everything: whether each node has a row, and each problem and workload a line of its own.
    """
    if found.enabled:
        kind = "a SIMULATED platform: its quotes prove nothing about hardware" if found.simulated else "SGX hardware"
        yield f"confcom {found.version} in {found.namespace}, on {kind}"
        yield from (f"Quotes of hardware nodes: by {one.provider}" for one in found.hardware_helpers)
        yield from (f"Note: {note.text}" for note in found.notes)
        if found.updating:
            yield "An update is in progress."
    if found.nodes:
        yield ""
        yield from _rows(found.nodes) if everything or len(found.nodes) <= MAX_ROWS else _summarised_nodes(found.nodes)
    if found.other_nodes and found.enabled:
        yield f"{found.other_nodes} more without SGX"
    if found.problems:
        problems = map(str, found.problems) if everything else map(_problem_line, found.problem_groups)
        yield from _section("Wrong:", ([one] for one in problems), everything=everything)
    if found.doubts:
        doubts = map(str, found.doubts) if everything else map(_problem_line, found.doubt_groups)
        yield from _section("Not compared:", ([one] for one in doubts), everything=everything)
    if found.workloads:
        groups = [WorkloadGroup((one,)) for one in found.workloads] if everything else group_workloads(found.workloads)
        yield from _section("Workloads that need help:", map(_workload_lines, groups), everything=everything)
    if found.ok:
        yield ""
        what = "The add-on is well" if found.workloads else "All is well"
        yield f"{what}, as far as it was compared." if found.doubts else f"{what}."


def _section(title: str, parts: Iterable[Sequence[str]], *, everything: bool) -> Iterator[str]:
    """Return a title and the indented lines of its parts; without `everything`, of the first MAX_GROUPS parts."""
    all_parts = list(parts)
    first_parts = all_parts if everything else all_parts[:MAX_GROUPS]
    yield ""
    yield title
    yield from (f"  {line}" for part in first_parts for line in part)
    if len(first_parts) < len(all_parts):
        yield f"  and {len(all_parts) - len(first_parts)} more of other kinds: {_ALL}"


def _problem_line(group: ProblemGroup) -> str:
    if not group.nodes:
        return group.text
    nodes = group.nodes[0] if len(group.nodes) == 1 else f"{len(group.nodes)} nodes ({shown(group.nodes)})"
    times = f"{group.count} times on " if group.count > len(group.nodes) else ""
    return f"{times}{nodes}: {'' if group.same else 'for example, '}{group.text}"


def _workload_lines(group: WorkloadGroup) -> tuple[str, str]:
    first = group.first
    names = [f"{one.namespace}/{one.name}" for one in group.workloads]
    trouble = f"{first.trouble}: {': '.join(filter(None, (first.cause.what, first.message)))}"
    if len(names) == 1:
        return f"{first.kind} {names[0]} is {trouble}", f"  do: {first.cause.remedy}"
    same = all(one.cause.remedy == first.cause.remedy for one in group.workloads)
    do = "do" if same else f"do, as for {names[0]}"
    return f"{len(names)} {first.kind}s ({shown(names)}) are {trouble}", f"  {do}: {first.cause.remedy}"


def _summarised_nodes(nodes: Sequence[NodeStatus]) -> Iterator[str]:
    """Return summaries of the nodes that are well, and rows of at most MAX_ROWS that are not.

    Nodes that are not Ready are only counted, since the cluster has no new information about them.
    """
    yield from map(_summary_line, summarised(nodes))
    if not_ready := sum(not node.ready for node in nodes):
        yield f"{_nodes_are(not_ready)} not Ready"
    bad = [node for node in nodes if node.ready and not node.healthy]
    if bad:
        yield f"{_nodes_are(len(bad))} Ready, and not well:"
        yield ""
        yield from _rows(bad[:MAX_ROWS])
    if len(bad) > MAX_ROWS:
        yield f"and {len(bad) - MAX_ROWS} more that are not well: {_ALL}"


def _nodes_are(nodes: int) -> str:
    return "1 node is" if nodes == 1 else f"{nodes} nodes are"


def _summary_line(kind: NodeSummary) -> str:
    epc = str(kind.allocatable) if kind.allocatable == kind.capacity else f"{kind.allocatable} of {kind.capacity}"
    return (
        f"{_nodes_are(kind.nodes)} well: {kind.sgx}, {epc} MiB of EPC, {kind.used} requested; "
        f"device plugin {_with_counts(kind.plugins, kind.nodes)}; "
        f"quote helper {_with_counts(kind.helpers, kind.nodes)}; "
        f"provision device: {_with_counts(kind.provision, kind.nodes)}"
    )


def _with_counts(counts: Mapping[str, int], nodes: int) -> str:
    """Return the values, with their counts if there are several; nodes without a value are counted as "none"."""
    without = nodes - sum(counts.values())
    values = dict(counts) | ({"none": without} if without else {})
    if len(values) == 1:
        return next(iter(values))
    return ", ".join(f"{value} ({count})" for value, count in values.items())


def _rows(nodes: Iterable[NodeStatus]) -> Iterator[str]:
    return _table([_HEADER, *map(_row, nodes)])


def _row(node: NodeStatus) -> tuple[str, ...]:
    epc = node.epc
    amount = str(epc.allocatable) if epc.allocatable == epc.capacity else f"{epc.allocatable} of {epc.capacity}"
    sgx = node.sgx if node.ready else f"{node.sgx}, not Ready"
    return (
        node.name,
        sgx,
        _UNKNOWN if epc.plugin is None else str(epc.plugin.found),
        amount,
        str(epc.used),
        str(epc.free),
        _counted(epc.plugin),
        _daemon_cell(node.plugins),
        _daemon_cell(node.helpers),
        node.provision,
    )


def _counted(plugin: PluginEpc | None) -> str:
    return _UNKNOWN if plugin is None else f"{plugin.kind} ({plugin.choice})"


def _daemon_cell(pods: Sequence[DaemonPod]) -> str:
    """Return the states of a node's daemon Pods, equal ones once with their count.

    For minutes, Kubernetes may keep dozens of Pods that a kubelet rejected.
    """
    counts = Counter(f"{pod.state} {pod.version}" for pod in pods)
    return ", ".join(state if count == 1 else f"{state} ({count})" for state, count in counts.items()) or "none"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [_column_width([len(cell) for cell in column]) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _column_width(lengths: Sequence[int]) -> int:
    """Return a column's width; a cell that is much longer than the others shifts only the rest of its own row."""
    usual = sorted(lengths)[len(lengths) // 2]
    return max(length for length in lengths if length <= max(usual, USUAL_WIDTH))
