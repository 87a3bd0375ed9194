"""Remove the add-on's resource names (keys) from the nodes' status after the device plugins have ended.

A kubelet keeps a resource for five minutes after its plugin has gone, then reports 0 and forgets the resource, but its
key stays in the node's status. The kubelet does not know a resource that the controller wrote, so this resource's key
is removed at once. Keys are removed, not set to 0: a kubelet that starts and finds 0 ends Pods with EPC.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from confcom.addon.api import NODE, Api, ClusterAccessError, at_once
from confcom.addon.command import AddOn, Mark, Row
from confcom.addon.problems import shown
from confcom.addon.readiness import POLL_SECONDS, NotReadyError, retry_while_unreachable
from confcom.kubernetes.names import SHARED
from confcom.kubernetes.node import Node
from confcom.kubernetes.objects import KubernetesObject, mapping, name_of

KUBELET_KEEPS_SECONDS = 300.0
"""Time for which a kubelet keeps a plugin's resources after the plugin's end (endpointStopGracePeriod)."""
REPORT_SECONDS = 10.0
"""The longest time until the API shows a change in a kubelet (nodeStatusUpdateFrequency)."""
FOREIGN_AFTER_SECONDS = REPORT_SECONDS + 60.0
"""If a resource is still allocatable this long after our plugin's end, another plugin offers it. The time allows for
a busy kubelet, which reports up to a minute late."""
CLEANING_SECONDS = KUBELET_KEEPS_SECONDS + FOREIGN_AFTER_SECONDS
"""Time after the plugins' end within which all keys must be removed; idle kubelets need one minute less."""
SETTLED_SECONDS = REPORT_SECONDS + 1.0
"""Time after which a removed key does not come back. A restarted kubelet reports 0 at once, and in every later report
until five minutes have passed."""


class Stage(StrEnum):
    REMOVABLE = "to be removed"
    """The node's status has the amount 0, or the controller wrote the resource."""
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
    """The reason why an attempt to remove the keys failed; empty if no attempt failed."""


def node_keys(node: Node, *, ours: bool = False, passed: float = 0) -> NodeKeys:
    """Return the state that the add-on's keys have on a node `passed` seconds after our plugin's end.

    Names in SHARED count as ours only if the node also has, or had (`ours`), a name that only we use.
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
    """Return a JSON patch (RFC 6902) that removes each key whose value is 0 or was written by the controller.

    A test precedes each removal, so that the whole patch fails if a plugin has come back in the meantime.
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
    """Remove all removable keys; return the state of nodes that had keys or that have other plugins' resources.

    `ours` has the nodes on which an earlier call found a resource name that only the add-on uses.
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
        except ClusterAccessError as error:  # a test in the patch failed, or admission refuses it
            return error.why or error.what
        return ""

    failures = dict(zip(patches, at_once(patch, patches), strict=True))
    return tuple(replace(one, failure=failures.get(one.node, "")) for one in found)


def clean_nodes(add_on: AddOn, plugins_ended: float, *, settled: float = SETTLED_SECONDS) -> None:
    """Remove our resources' keys from the nodes' status, and wait until every kubelet has forgotten them.

    `plugins_ended` is the time by `add_on.clock` when the plugins ended. For `settled` seconds after the
    plugins' end, kubelets may report keys again. Nodes that never had the add-on are not changed.
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
