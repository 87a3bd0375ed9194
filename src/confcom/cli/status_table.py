"""The text output of `confcom status`: nodes, problems and workloads, with summaries in large clusters."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from confcom.addon.daemon_pods import DaemonPod
from confcom.addon.problems import ProblemGroup, grouped, shown
from confcom.addon.status import AddOnStatus, NodeStatus
from confcom.addon.tenants import TenantWorkload

MAX_NODES = 20
"""Maximum number of nodes with a row each; a terminal of 24 lines shows this many rows at once."""
MAX_ROWS = 10
"""Maximum rows of a table of workloads or many nodes, and lines of a section: the output has 50 lines."""
USUAL_WIDTH = 50
"""Maximum column width unless half the cells are wider. Cloud nodes' names have 20 to 45 characters, at most 253."""
NODE_COLUMNS = (
    *("NODE", "SGX", "EPC MiB FOUND", "OFFERED", "REQUESTED", "FREE"),
    *("COUNTED AS", "DEVICE PLUGIN", "QUOTE HELPER"),
)
WORKLOAD_COLUMNS = ("NAMESPACE", "WORKLOAD", "PODS", "NODES", "EPC MiB", "STATE")
_ALL = "`confcom status -o json` has them all"


def status_lines(status: AddOnStatus) -> Iterator[str]:
    if status.version:
        kind = "a SIMULATED platform: its quotes prove nothing about hardware" if status.simulated else "SGX hardware"
        yield f"confcom {status.version} in {status.namespace}, on {kind}"
        yield from (f"Note: {note.text}" for note in status.notes)
        if status.updating:
            yield "An update is in progress."
    if status.nodes:
        yield ""
        few = len(status.nodes) <= MAX_NODES
        yield from _table(NODE_COLUMNS, map(node_row, status.nodes)) if few else _summarised(status.nodes)
    if status.other_nodes and status.enabled:
        yield f"{status.other_nodes} more without SGX"
    yield from _section("Wrong:", status.problem_groups)
    pods = {pod.name for node in status.nodes for pod in (*node.plugins, *node.helpers)}
    yield from _section("Not compared:", grouped(status.not_compared, pods))
    yield from _workload_lines(status.workloads)
    if status.ok:
        yield ""
        what = "The add-on is well" if any(one.trouble for one in status.workloads) else "All is well"
        yield f"{what}, as far as it was compared." if status.not_compared else f"{what}."


def _section(title: str, groups: Sequence[ProblemGroup]) -> Iterator[str]:
    if groups:
        yield from ("", title)
    yield from (f"  {group_line(group)}" for group in groups[:MAX_ROWS])
    if len(groups) > MAX_ROWS:
        yield f"  and {len(groups) - MAX_ROWS} more of other kinds: {_ALL}"


def group_line(group: ProblemGroup) -> str:
    if not group.nodes:
        return group.text
    nodes = group.nodes[0] if len(group.nodes) == 1 else f"{len(group.nodes)} nodes ({shown(group.nodes)})"
    times = f"{group.count} times on " if group.count > len(group.nodes) else ""
    return f"{times}{nodes}: {'' if group.same else 'for example, '}{group.text}"


def _summarised(nodes: Sequence[NodeStatus]) -> Iterator[str]:
    """Yield summaries of healthy nodes, and rows of at most MAX_ROWS nodes that are Ready but not healthy.

    Nodes that are not Ready are only counted, since the cluster knows nothing new about these nodes.
    """
    kinds = defaultdict[tuple[str, str], list[NodeStatus]](list)
    for node in nodes:
        if node.healthy:
            kinds[node.sgx, node.epc.resource].append(node)
    yield from map(_summary_line, kinds.values())
    if not_ready := sum(not node.ready for node in nodes):
        yield f"{_nodes_are(not_ready)} not Ready"
    bad = [node for node in nodes if node.ready and not node.healthy]
    if bad:
        yield f"{_nodes_are(len(bad))} Ready, and not well:"
        yield ""
        yield from _table(NODE_COLUMNS, map(node_row, bad[:MAX_ROWS]))
    if len(bad) > MAX_ROWS:
        yield f"and {len(bad) - MAX_ROWS} more that are not well: {_ALL}"


def _nodes_are(nodes: int) -> str:
    return "1 node is" if nodes == 1 else f"{nodes} nodes are"


def _summary_line(nodes: Sequence[NodeStatus]) -> str:
    capacity, allocatable = (sum(getattr(node.epc, part) for node in nodes) for part in ("capacity", "allocatable"))
    used = [node.epc.used for node in nodes if node.epc.used is not None]
    return (
        f"{_nodes_are(len(nodes))} well: {nodes[0].sgx}, {_of(allocatable, capacity)} MiB of EPC, "
        f"{_known(sum(used) if len(used) == len(nodes) else None)} requested; "
        f"device plugin {_versions(node.plugins for node in nodes)}; "
        f"quote helper {_versions(node.helpers for node in nodes)}"
    )


def _versions(pods: Iterable[Sequence[DaemonPod]]) -> str:
    counts = Counter(some[-1].version if some else "none" for some in pods)
    return ", ".join(version if len(counts) == 1 else f"{version} ({count})" for version, count in counts.items())


def _of(part: int, whole: int) -> str:
    return str(part) if part == whole else f"{part} of {whole}"


def _known(amount: int | None) -> str:
    return "?" if amount is None else str(amount)


def node_row(node: NodeStatus) -> tuple[str, ...]:
    epc = node.epc
    return (
        node.name,
        node.sgx if node.ready else f"{node.sgx}, not Ready",
        _known(epc.plugin.epc.mib if epc.plugin else None),
        _of(epc.allocatable, epc.capacity),
        _known(epc.used),
        _known(epc.free),
        f"{epc.plugin.accounting.kind} ({epc.plugin.accounting.choice})" if epc.plugin else "?",
        _daemon_cell(node.plugins),
        _daemon_cell(node.helpers),
    )


def _daemon_cell(pods: Sequence[DaemonPod]) -> str:
    # Equal states appear once: for minutes, Kubernetes may keep dozens of Pods that a kubelet rejected.
    counts = Counter(f"{pod.state} {pod.version}" for pod in pods)
    return ", ".join(state if count == 1 else f"{state} ({count})" for state, count in counts.items()) or "none"


def _workload_lines(workloads: Sequence[TenantWorkload]) -> Iterator[str]:
    first, rest = workloads[:MAX_ROWS], workloads[MAX_ROWS:]
    if first:
        yield ""
        yield from _table(WORKLOAD_COLUMNS, map(workload_row, first))
    if rest:
        yield f"and {len(rest)} more with {sum(one.epc_mib for one in rest)} MiB of EPC: {_ALL}"
    causes: dict[tuple[str, str], list[TenantWorkload]] = {}
    for one in first:
        if one.trouble:
            causes.setdefault((one.trouble, one.cause), []).append(one)
    for (trouble, cause), alike in causes.items():
        yield f"  {shown([f'{one.kind} {one.namespace}/{one.name}' for one in alike])}: {trouble}: {cause}"
        yield f"    do{f', as for {alike[0].name}' if len(alike) > 1 else ''}: {alike[0].remedy}"


def workload_row(one: TenantWorkload) -> tuple[str, ...]:
    counts = (one.pods, one.nodes, one.epc_mib)
    use = "in use" if one.epc_mib else "in use, without EPC: only devices, and what it takes is not counted"
    return (one.namespace, f"{one.kind} {one.name}", *map(str, counts), one.trouble or use)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    cells = [header, *rows]
    widths = [_column_width([len(cell) for cell in column]) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _column_width(lengths: Sequence[int]) -> int:
    """Return a column's width. A cell that is much longer than others shifts the rest of the cell's row."""
    usual = sorted(lengths)[len(lengths) // 2]
    return max(length for length in lengths if length <= max(usual, USUAL_WIDTH))
