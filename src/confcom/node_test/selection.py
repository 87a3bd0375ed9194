"""The nodes that quote helpers select, their kinds, and which of these nodes a run tests. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from confcom.addon.daemon_pods import DaemonPod
from confcom.addon.problems import shown
from confcom.errors import ConfcomError, ExitCode
from confcom.kubernetes.names import Component
from confcom.kubernetes.node import Node
from confcom.kubernetes.objects import KubernetesObject, listing, mapping, text
from confcom.kubernetes.workload import Workload

NODES_OF_A_KIND = 3
"""Nodes of one kind have the same images and settings. A second and third node show a fault of one machine."""
_NO_AESMD_MOUNT = "--no-aesmd-mount"
"""The device plugin's flag with which containers get no AESM directory (`devicePlugin.aesmdMount=false`)."""


class NodeTestError(ConfcomError):
    """The chosen nodes cannot be tested, or the user lacks permissions for it; nothing was made."""

    exit_code = ExitCode.REFUSED


@dataclass(frozen=True, slots=True)
class Target:
    node: Node
    simulated: bool
    kind: tuple[object, ...]
    """Equal for nodes that have the same platform, accounting and revisions of both daemons."""
    template: KubernetesObject
    """The spec of the quote helper's Pods, from which the test Pod takes image, pull secrets and tolerations."""
    mounts_aesmd: bool
    """Whether the device plugin mounts the AESM directory; if not, the test Pod needs a hostPath."""

    @property
    def pull_secrets(self) -> Sequence[str]:
        return [text(one, "name") for one in listing(self.template, "imagePullSecrets")]

    @property
    def healthy(self) -> bool:
        """Whether the node is Ready and not cordoned."""
        return self.node.ready and all(taint.key != "node.kubernetes.io/unschedulable" for taint in self.node.taints)


def targets(
    nodes: Iterable[Node], daemon_sets: Iterable[KubernetesObject], pods: Iterable[DaemonPod]
) -> tuple[Target, ...]:
    """Return the nodes that a quote helper's DaemonSet selects; `pods` are the daemons' Pods, oldest first."""
    parsed = [(Workload.parse(one), mapping(one, "spec", "template", "spec")) for one in daemon_sets]
    helpers = [(work, spec) for work, spec in parsed if work.component is Component.QUOTE_HELPER]
    plugins = [work for work, _ in parsed if work.component is Component.DEVICE_PLUGIN]
    revisions = {(pod.node, pod.component): pod.revision for pod in pods}
    found = []
    for node in nodes:
        for helper, template in [one for one in helpers if one[0].selection.selects(node)][:1]:
            flags = {flag for plugin in plugins if plugin.selection.selects(node) for flag in plugin.arguments}
            of_node = [revisions.get((node.name, one), "") for one in (Component.DEVICE_PLUGIN, Component.QUOTE_HELPER)]
            kind = (helper.simulates, node.resources.epc in node.written, *of_node)
            found.append(Target(node, helper.simulates, kind, template, _NO_AESMD_MOUNT not in flags))
    return tuple(found)


def select(found: Sequence[Target], names: Sequence[str], *, everything: bool) -> tuple[Target, ...]:
    """Return the named nodes; else all nodes, or of each kind up to three, nodes without trouble first."""
    if not found:
        what, remedy = "no node has a quote helper", "`confcom status` says why; `confcom enable` installs the add-on"
        raise NodeTestError(what, error_code="no-tested-nodes", remedy=remedy)
    by_name = {target.node.name: target for target in found}
    if missing := [name for name in names if name not in by_name]:
        what, remedy = f"no quote helper selects {shown(missing)}", "check the names with `confcom status -o json`"
        raise NodeTestError(what, error_code="node-not-tested", remedy=remedy)
    if names:
        return tuple(by_name[name] for name in dict.fromkeys(names))
    if everything:
        return tuple(found)
    of_kind: dict[tuple[object, ...], list[Target]] = {}
    for target in sorted(found, key=lambda one: not one.healthy):
        of_kind.setdefault(target.kind, []).append(target)
    return tuple(target for alike in of_kind.values() for target in alike[:NODES_OF_A_KIND])
