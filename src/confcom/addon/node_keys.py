"""The add-on's resource names in the nodes' status, and their removal after the device plugins have ended.

The kubelet keeps a resource for five minutes after its plugin has gone, then reports 0 and forgets it; the key stays in
the node's status. The kubelet does not know a resource that the controller has written: its key is removed at once. A
key is removed and never set to 0: at the kubelet's next start, a 0 ends Pods that still run with the resource.
"""

from collections.abc import Collection, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, replace
from enum import StrEnum

from confcom.addon.api import AT_ONCE, NODE, Api, ClusterAccessError
from confcom.addon.command import AddOn, Mark, Row
from confcom.addon.problems import shown
from confcom.addon.readiness import POLL_SECONDS, NotReadyError, retry_while_unreachable
from confcom.kubernetes.names import SHARED
from confcom.kubernetes.node import Node
from confcom.kubernetes.objects import KubernetesObject, mapping, name_of

KUBELET_KEEPS_SECONDS = 300.0
"""The kubelet's endpointStopGracePeriod."""
REPORT_SECONDS = 10.0
"""The kubelet's nodeStatusUpdateFrequency: the longest delay until the kubelet's state is in the API."""
FOREIGN_AFTER_SECONDS = REPORT_SECONDS + 60.0
"""A resource that is still allocatable this long after our plugin's end is offered by another plugin: a busy kubelet
reports up to a minute late."""
CLEANING_SECONDS = KUBELET_KEEPS_SECONDS + FOREIGN_AFTER_SECONDS
"""Deadline of the removal, from the plugins' end; idle kubelets need five minutes and REPORT_SECONDS."""
SETTLED_SECONDS = REPORT_SECONDS + 1.0
"""Time after which a removed key does not come back: a restarted kubelet reports 0 at once and in every later report,
until its five minutes are over."""


class Stage(StrEnum):
    REMOVABLE = "to be removed"
    """The resource is at 0, or was written by the controller."""
    KEPT = "kept by the kubelet"
    SILENT = "the kubelet does not report"


@dataclass(frozen=True, slots=True)
class NodeKeys:
    node: str
    stage: Stage
    names: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    """Resources that another device plugin offers on this node; they are not removed."""
    failure: str = ""
    """The API server's reason for refusing to remove the keys."""


def node_keys(node: Node, *, ours: bool = False, passed: float = 0) -> NodeKeys:
    """Return the add-on's keys on a node, `passed` seconds after our plugin's end.

    `ours`: whether the node's status once had a name that only the add-on uses; a name in it now counts anyway.
    """
    left = node.capacity
    if not ours and left.keys() <= SHARED:
        return NodeKeys(node.name, Stage.KEPT)
    served = {name for name in left if node.ready and node.allocatable.get(name) and name not in node.written}
    others = served if passed >= FOREIGN_AFTER_SECONDS else set()
    names = left.keys() - others
    stage = Stage.KEPT if node.ready else Stage.SILENT
    if node.written or not any(left[name] for name in names):
        stage = Stage.REMOVABLE
    return NodeKeys(node.name, stage, tuple(sorted(names)), tuple(sorted(others)))


def removal(node: KubernetesObject) -> Sequence[Mapping[str, str]]:
    """Return the JSON patch (RFC 6902) that removes the keys that are at 0, or written by the controller.

    Each removal is preceded by a test, so that the whole patch fails if a plugin has come back meanwhile.
    """
    patch, parsed = [], Node.parse(node)
    removable = parsed.written | {name for name, count in parsed.capacity.items() if not count}
    for part in ("capacity", "allocatable"):
        for name, quantity in mapping(node, "status", part).items():
            if name in removable:
                path = f"/status/{part}/{name.replace('~', '~0').replace('/', '~1')}"
                patch += [{"op": "test", "path": path, "value": str(quantity)}, {"op": "remove", "path": path}]
    return patch


def remove_keys(api: Api, ours: Collection[str] = (), passed: float = 0) -> tuple[NodeKeys, ...]:
    """Remove the keys that can be removed now; return the nodes that had keys, or have other plugins' resources.

    `ours` are nodes whose status had, at an earlier call, a resource name that only the add-on uses.
    """
    found, patches = list[NodeKeys](), dict[str, Sequence[Mapping[str, str]]]()
    for node in api.list(NODE):
        keys = node_keys(Node.parse(node), ours=name_of(node) in ours, passed=passed)
        if keys.names or keys.others:
            found.append(keys)
        if keys.names and keys.stage is Stage.REMOVABLE:
            patches[keys.node] = removal(node)

    def patch(node: str) -> str:
        try:
            api.patch_node_status(node, patches[node])
        except ClusterAccessError as error:  # a plugin came back, the kubelet reported, or admission refuses
            return error.why or error.what
        return ""

    with futures.ThreadPoolExecutor(AT_ONCE) as pool:
        failures = dict(zip(patches, pool.map(patch, patches), strict=True))
    return tuple(replace(one, failure=failures.get(one.node, "")) for one in found)


def clean_nodes(add_on: AddOn, plugins_ended: float, *, settled: float = SETTLED_SECONDS) -> None:
    """Wait until every kubelet has forgotten our resources, and remove their keys from the nodes' status.

    `plugins_ended` is the time of the plugins' end on the clock. Kubelets may report new keys for `settled` seconds.
    Nodes that never had the add-on are not changed.
    """
    ours = set[str]()

    def ask() -> tuple[float, tuple[NodeKeys, ...]]:
        passed = add_on.clock() - plugins_ended
        return passed, remove_keys(add_on.cluster.api, ours, passed)

    title = f"Kubelets keep a resource for {KUBELET_KEEPS_SECONDS / 60:.0f} minutes after its plugin has ended"
    table = add_on.reporter.table(f"{title}, and report every {REPORT_SECONDS:.0f} s")
    while True:
        passed, found = retry_while_unreachable(add_on, ask, table.show, timeout=CLEANING_SECONDS)
        left = [one for one in found if one.names]
        ours |= {one.node for one in left}
        if any(one.stage is Stage.REMOVABLE for one in left):
            settled = min(passed, KUBELET_KEEPS_SECONDS) + SETTLED_SECONDS
        table.show(_rows(left), note=f"{passed:.0f} s of at most {CLEANING_SECONDS:.0f} s")
        if not left and passed >= settled:
            break
        if left and passed >= CLEANING_SECONDS:
            raise NotReadyError(
                "the nodes' status still contains resources of the add-on",
                error_code="resources-left-on-nodes",
                why="; ".join(f"{row.subject}: {row.text}" for row in _rows(left)),
                remedy="run `confcom disable` again when their kubelets report, and when nothing (a permission, a "
                "webhook, a policy) keeps you from patching nodes/status",
            )
        add_on.sleep(POLL_SECONDS)
    for one in found:
        if one.others:
            add_on.reporter.say(f"Left on {one.node}: {', '.join(one.others)}, which another device plugin offers.")


def _rows(left: Sequence[NodeKeys]) -> list[Row]:
    alike: dict[tuple[str, Mark], list[str]] = {}
    for one in left:
        state = f"{one.stage}: {', '.join(one.names)}" + (f"; not removed: {one.failure}" if one.failure else "")
        mark = Mark.BAD if one.stage is Stage.SILENT or one.failure else Mark.WAITING
        alike.setdefault((state, mark), []).append(one.node)
    return [Row(shown(nodes), state, mark) for (state, mark), nodes in alike.items()]
