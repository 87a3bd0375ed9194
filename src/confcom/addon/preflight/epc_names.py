"""Preflight check of the policy that rewrites Intel's name of EPC: where it must be off, and the finding then. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from confcom.addon.model.chart_objects import EPC_NAMES_POLICY, Plan
from confcom.addon.model.problems import shown
from confcom.addon.model.resources import INTEL_EPC, REAL
from confcom.addon.preflight.findings import Check, Finding
from confcom.addon.preflight.other_device_plugins import NFD_RESOURCES
from confcom.addon.preflight.versions import major_minor
from confcom.kubernetes.objects import KubernetesObject, amount, mapping, name_of, text

MUTATE = "admission.mutate"
"""The chart's value that says whether Pods are changed."""
FIRST_KUBERNETES = (1, 36)
"""The first version that serves MutatingAdmissionPolicy as v1."""


def offering_intel_epc(nodes: Iterable[KubernetesObject]) -> list[str]:
    """Return the nodes for which somebody else offers EPC by Intel's name: a plugin, or Node Feature Discovery."""
    return [name_of(node) for node in nodes if _has_intel_epc(node) or INTEL_EPC in _of_nfd(node)]


def leaves_names(values: KubernetesObject, nodes: Sequence[KubernetesObject]) -> bool:
    """Return whether Pods are left as they are because somebody else offers Intel's name, and no value decides it.

    Args:
        values: the values that are set in addition to the chart's defaults.
        nodes: all nodes of the cluster.
    """
    return not mapping(values, "admission").get("mutate") and bool(offering_intel_epc(nodes))


def check_epc_names(plan: Plan, nodes: Sequence[KubernetesObject], kubernetes: str) -> Iterator[Finding]:
    """Tell whether Pods that request EPC by Intel's name get it, and what to do if not.

    Args:
        plan: what is to be installed.
        nodes: all nodes of the cluster: the policy is about all Pods.
        kubernetes: the API server's version.
    """
    others = offering_intel_epc(nodes)
    version = major_minor(kubernetes)
    if EPC_NAMES_POLICY in plan.policies:
        if others:
            yield Finding.warning(
                Check.OWNERS,
                f"{shown(others)} offers {INTEL_EPC}, and Pods that request it will be changed to request {REAL.epc}",
                why=f"{MUTATE} is on",
                remedy=f"leave them as they are with --set {MUTATE}=off, or label the namespaces of Pods for these "
                "nodes: kubectl label namespace NAMESPACE confcom.internal/epc-names=unchanged",
                code="epc-names-of-others-replaced",
            )
    elif others:
        yield Finding.warning(
            Check.OWNERS,
            f"Pods that request {INTEL_EPC} stay as they are: {shown(others)} offers it",
            why="such a Pod may be meant for these nodes",
            remedy=f"request {REAL.epc} (in MiB) for nodes of the add-on; if nobody else is to offer {INTEL_EPC}, "
            f"remove that, and enable with --set {MUTATE}=auto",
            code="epc-names-of-others",
        )
    elif version is not None and version < FIRST_KUBERNETES:
        yield Finding.ok(
            Check.OWNERS,
            f"Kubernetes {'.'.join(map(str, version))} cannot count {INTEL_EPC} (in bytes) as {REAL.epc} (in MiB): "
            f"for 10Mi of the former, Pods have to request 10 of the latter",
            code="epc-names-not-replaced",
        )


def _has_intel_epc(node: KubernetesObject) -> bool:
    return amount(text(node, "status", "capacity", INTEL_EPC)) > 0


def _of_nfd(node: KubernetesObject) -> set[str]:
    return {one.strip() for one in text(node, "metadata", "annotations", NFD_RESOURCES).split(",")}
