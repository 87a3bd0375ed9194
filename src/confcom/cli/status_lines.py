"""What `confcom status` prints for people: as much as they read, however large the cluster is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from confcom.addon.daemon_pods import DaemonPod
from confcom.addon.node_checks import shown
from confcom.addon.node_status import NodeStatus
from confcom.addon.node_summary import NodeSummary, summarised
from confcom.addon.problems import ProblemGroup
from confcom.addon.status import AddOnStatus
from confcom.addon.workloads import WorkloadGroup, group_workloads

MOST_ROWS = 20
"""Nodes that have a row each: as many as a terminal of 24 lines shows at once, which everybody reads."""
MOST_GROUPS = 20
"""Different problems, doubts or workloads: with more than a screen of causes, the first one is mended first anyway."""
USUAL_WIDTH = 50
"""Of a column, unless half of its cells are wider. Names of cloud nodes take 20 to 45; DNS allows 253."""
_HEADER = ("NODE", "SGX", "EPC MiB", "USED", "DEVICE PLUGIN", "QUOTE HELPER", "PROVISION")
_ALL = "`confcom status --all-nodes` shows them all"


def status_lines(found: AddOnStatus, *, everything: bool = False) -> Iterator[str]:
    """For people.

    Args:
        found: the add-on.
        everything: whether each node has a row, and each problem and workload a line of its own.
    """
    if found.enabled:
        kind = "a SIMULATED platform: its quotes prove nothing about hardware" if found.simulated else "SGX hardware"
        yield f"confcom {found.version} in {found.namespace}, on {kind}"
        if found.updating:
            yield "An update is in progress."
    if found.nodes:
        yield ""
        yield from _rows(found.nodes) if everything or len(found.nodes) <= MOST_ROWS else _shortened(found.nodes)
    if found.other_nodes and found.enabled:
        yield f"{found.other_nodes} more without SGX"
    if found.problems:
        problems = map(str, found.problems) if everything else map(_problem, found.problem_groups)
        yield from _section("Wrong:", ([one] for one in problems), everything=everything)
    if found.doubts:
        doubts = map(str, found.doubts) if everything else map(_problem, found.doubt_groups)
        yield from _section("Not compared:", ([one] for one in doubts), everything=everything)
    if found.workloads:
        groups = [WorkloadGroup((one,)) for one in found.workloads] if everything else group_workloads(found.workloads)
        yield from _section("Workloads that need help:", map(_workload, groups), everything=everything)
    if found.ok:
        yield ""
        what = "The add-on is well" if found.workloads else "All is well"
        yield f"{what}, as far as it was compared." if found.doubts else f"{what}."


def _section(title: str, parts: Iterable[Sequence[str]], *, everything: bool) -> Iterator[str]:
    """A title, and what is below it, each part some lines."""
    told = list(parts)
    shown = told if everything else told[:MOST_GROUPS]
    yield ""
    yield title
    yield from (f"  {line}" for part in shown for line in part)
    if len(shown) < len(told):
        yield f"  and {len(told) - len(shown)} more of other kinds: {_ALL}"


def _problem(group: ProblemGroup) -> str:
    if not group.nodes:
        return group.text
    nodes = group.nodes[0] if len(group.nodes) == 1 else f"{len(group.nodes)} nodes ({shown(group.nodes)})"
    times = f"{group.count} times on " if group.count > len(group.nodes) else ""
    return f"{times}{nodes}: {'' if group.same else 'for example, '}{group.text}"


def _workload(group: WorkloadGroup) -> tuple[str, str]:
    first = group.first
    names = [f"{one.namespace}/{one.name}" for one in group.workloads]
    said = f"{first.trouble}: {': '.join(filter(None, (first.cause, first.message)))}"
    if len(names) == 1:
        return f"{first.kind} {names[0]} is {said}", f"  do: {first.remedy}"
    same = all(one.remedy == first.remedy for one in group.workloads)
    do = "do" if same else f"do, as for {names[0]}"
    return f"{len(names)} {first.kind}s ({shown(names)}) are {said}", f"  {do}: {first.remedy}"


def _shortened(nodes: Sequence[NodeStatus]) -> Iterator[str]:
    """Of many nodes: sums of those that are well, and rows of some that are not.

    Nodes whose kubelet is not well have no row, since the cluster knows nothing new of them.
    """
    yield from map(_summary, summarised(nodes))
    if silent := sum(not node.ready for node in nodes):
        yield f"{_count(silent)} not Ready"
    bad = [node for node in nodes if node.ready and not node.healthy]
    if bad:
        yield f"{_count(len(bad))} Ready, and not well:"
        yield ""
        yield from _rows(bad[:MOST_ROWS])
    if len(bad) > MOST_ROWS:
        yield f"and {len(bad) - MOST_ROWS} more that are not well: {_ALL}"


def _count(nodes: int) -> str:
    return "1 node is" if nodes == 1 else f"{nodes} nodes are"


def _summary(kind: NodeSummary) -> str:
    epc = str(kind.allocatable) if kind.allocatable == kind.capacity else f"{kind.allocatable} of {kind.capacity}"
    return (
        f"{_count(kind.nodes)} well: {kind.sgx}, {epc} MiB of EPC, {kind.used} used; "
        f"device plugin {_counted(kind.plugins, kind.nodes)}; quote helper {_counted(kind.helpers, kind.nodes)}; "
        f"provision device: {_counted(kind.provision, kind.nodes)}"
    )


def _counted(counts: Mapping[str, int], nodes: int) -> str:
    """With counts only if there are several; nodes that are in none of them are told too."""
    without = nodes - sum(counts.values())
    told = dict(counts) | ({"none": without} if without else {})
    if len(told) == 1:
        return next(iter(told))
    return ", ".join(f"{one} ({count})" for one, count in told.items())


def _rows(nodes: Iterable[NodeStatus]) -> Iterator[str]:
    return _table([_HEADER, *map(_row, nodes)])


def _row(node: NodeStatus) -> tuple[str, ...]:
    epc = node.epc
    amount = str(epc.allocatable) if epc.allocatable == epc.capacity else f"{epc.allocatable} of {epc.capacity}"
    sgx = node.sgx if node.ready else f"{node.sgx}, not Ready"
    return (
        node.name,
        sgx,
        amount,
        str(epc.used),
        _daemons(node.plugins),
        _daemons(node.helpers),
        node.provision,
    )


def _daemons(pods: Sequence[DaemonPod]) -> str:
    """Alike ones are counted: of those that a kubelet rejected, Kubernetes may leave dozens for minutes."""
    alike = Counter(f"{pod.state} {pod.version}" for pod in pods)
    return ", ".join(one if count == 1 else f"{one} ({count})" for one, count in alike.items()) or "none"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [_width([len(cell) for cell in column]) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _width(lengths: Sequence[int]) -> int:
    """Of a column: a cell that is much longer than the others moves the rest of its own row only."""
    usual = sorted(lengths)[len(lengths) // 2]
    return max(length for length in lengths if length <= max(usual, USUAL_WIDTH))
