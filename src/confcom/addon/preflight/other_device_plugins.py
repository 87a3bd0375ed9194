"""Preflight check of resource names: other device plugins, and other providers of the nodes' EPC. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from confcom.addon.model.chart_objects import Plan, pod_spec_of
from confcom.addon.model.node_selection import selects
from confcom.addon.model.problems import shown
from confcom.addon.model.resources import INTEL_EPC, OURS, allocatable, offered
from confcom.addon.preflight.findings import Check, Finding
from confcom.kubernetes.objects import KubernetesObject, listing, name_of, namespace_of, text

NFD_RESOURCES = "nfd.node.kubernetes.io/extended-resources"
"""The annotation in which Node Feature Discovery lists the extended resources that it maintains on a node."""
_OTHER_PLUGINS = ("sgx-device-plugin", "sgx-plugin", "sgx_device_plugin")
"""Substrings of the image names of the SGX device plugins of AKS, Alibaba and Intel."""


def check_owners(
    plan: Plan, nodes: Sequence[KubernetesObject], others: Sequence[KubernetesObject], *, installed: bool
) -> Iterator[Finding]:
    """Check whether another provider offers these resources on the nodes of the plan.

    Args:
        plan: what is to be installed.
        nodes: all nodes of the cluster.
        others: DaemonSets that do not belong to this installation.
        installed: whether the add-on is already installed, and therefore owns the resource names.
    """
    chosen = plan.selected(nodes)
    found = [*_other_plugins(chosen, others), *_nfd(chosen)]
    if not installed and not found:
        found += _unknown_owner(chosen)
    yield from found
    if not found:
        yield Finding.ok(Check.OWNERS, "no other plugin offers them", code="resources-free")


def _other_plugins(nodes: Sequence[KubernetesObject], others: Sequence[KubernetesObject]) -> Iterator[Finding]:
    for daemon in others:
        images = [text(one, "image") for one in listing(pod_spec_of(daemon), "containers")]
        is_plugin = any(word in image.rpartition("/")[2] for image in images for word in _OTHER_PLUGINS)
        where = [name_of(node) for node in nodes if selects(pod_spec_of(daemon), node)]
        if is_plugin and where:
            name = f"{namespace_of(daemon)}/{name_of(daemon)}"
            yield Finding.failed(
                Check.OWNERS,
                f"another SGX device plugin runs on {shown(where)}: the DaemonSet {name}",
                why="both would offer the same EPC, and Kubernetes would allocate it twice",
                remedy=f"remove that DaemonSet (kubectl delete daemonset -n {namespace_of(daemon)} {name_of(daemon)}; "
                "on AKS: "
                "az aks disable-addons -a confcom), or keep it off these nodes",
                code="other-device-plugin",
            )


def _nfd(nodes: Sequence[KubernetesObject]) -> Iterator[Finding]:
    listed = {
        name_of(node): {one.strip() for one in text(node, "metadata", "annotations", NFD_RESOURCES).split(",")}
        for node in nodes
    }
    ours = {node: names & OURS for node, names in listed.items() if names & OURS}
    if ours:
        names = sorted(set().union(*ours.values()))
        yield Finding.failed(
            Check.OWNERS,
            f"Node Feature Discovery offers {', '.join(names)} on {shown(list(ours))}",
            why="it would repeatedly overwrite the device plugin's count",
            remedy="remove these names from extendedResources of your NodeFeatureRules (kubectl get nodefeaturerules)",
            code="nfd-offers-resource",
        )
    counted = [node for node, names in listed.items() if INTEL_EPC in names]
    if counted:
        yield Finding.warning(
            Check.OWNERS,
            f"Node Feature Discovery offers {INTEL_EPC} on {shown(counted)}",
            why="both names stand for the same memory: Kubernetes would allocate it twice",
            remedy=f"remove {INTEL_EPC} from extendedResources of your NodeFeatureRules, or ask for one name only",
            code="nfd-offers-epc",
        )


def _unknown_owner(nodes: Sequence[KubernetesObject]) -> Iterator[Finding]:
    # Less than five minutes after a plugin ended, its resources are still in capacity, but allocatable is 0.
    held = {name_of(node): own for node in nodes if (own := {one for one in offered(node) if allocatable(node, one)})}
    if held:
        names = sorted(set().union(*held.values()))
        yield Finding.failed(
            Check.OWNERS,
            f"{shown(list(held))} offers {', '.join(names)} already",
            why="another device plugin registered these names",
            remedy="if an earlier installation was just removed, wait 10 seconds; otherwise find that plugin:  "
            f"kubectl get pods -A --field-selector spec.nodeName={next(iter(held))}",
            code="resource-offered-already",
        )
