"""Facts about the chart's objects: labels, kinds, flags, and the nodes that DaemonSets select. Pure."""

from collections.abc import Iterable, Sequence

from confcom.kubernetes.names import Component
from confcom.kubernetes.node import Node
from confcom.kubernetes.objects import KubernetesObject
from confcom.kubernetes.workload import Workload
from confcom.simulation.collateral_staging import Staging

EPC_NAMES_POLICY = "confcom-epc-names"
"""The MutatingAdmissionPolicy that changes requests for Intel's EPC resource to the add-on's resource."""
AESMD = "aesmd"
"""The name of the container that runs Intel's aesmd in a quote helper's Pod on SGX hardware."""
SUPPORT_FLAG = "--capacity-support"
"""The device plugin's flag that says whether the cluster can count EPC as capacity (CapacitySupport)."""
VERSION_FLAG = "--api-server"
"""The device plugin's flag with the API server's version at the time when helm rendered the chart."""
STAGING_LABEL = "confcom.internal/staging"
"""This label on the simulated quote helpers' DaemonSet has the chart's value simulated.staging (a Staging)."""
REMOVAL_ANNOTATION = "confcom.internal/removal"
"""This annotation on a quote helper's Pod has the time when the add-on's removal began, in Unix seconds."""
POLICY_KINDS = (
    "MutatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy",
)
"""Kinds that can refuse Pods, in the order of removal. A binding whose policy is missing refuses all Pods."""
EXACT_GROUPS = frozenset({"admissionregistration.k8s.io", "networking.k8s.io", "rbac.authorization.k8s.io"})
"""API groups of the chart's policies and permissions. An object of these groups may have only the chart's fields: an
added selector would switch a policy off, and an added rule would grant a permission."""
NODE_DAEMONS = (Component.DEVICE_PLUGIN, Component.QUOTE_HELPER)


def workloads_in(objects: Iterable[KubernetesObject]) -> tuple[Workload, ...]:
    found = (Workload.parse(thing) for thing in objects if thing.get("kind") in {"DaemonSet", "Deployment"})
    return tuple(workload for workload in found if workload.component)


def daemons_in(workloads: Iterable[Workload]) -> tuple[Workload, ...]:
    return tuple(workload for workload in workloads if workload.kind == "DaemonSet" and workload.component)


def plugins_in(daemons: Iterable[Workload], *, simulated: bool) -> tuple[Workload, ...]:
    found = (daemon for daemon in daemons if daemon.component is Component.DEVICE_PLUGIN)
    return tuple(daemon for daemon in found if daemon.simulates is simulated)


def capacity_limit(workloads: Iterable[Workload]) -> int | None:
    """Return the maximum EPC in MiB that the controller writes to a node (`controller.maxEpcMiBPerNode`)."""
    found = (each.flag("--max-epc-mib") for each in workloads if each.component is Component.CONTROLLER)
    return next((int(limit) for limit in found if limit.isdecimal()), None)


def has_controller(daemons: Iterable[Workload]) -> bool:
    return any(daemon.flag(SUPPORT_FLAG) == "supported" for daemon in daemons)


def staging_of(daemons: Iterable[Workload]) -> Staging:
    found = {daemon.labels.get(STAGING_LABEL) for daemon in daemons}
    return next((staging for staging in Staging if staging in found), Staging.NONE)


def node_labels(daemons: Iterable[Workload]) -> tuple[str, ...]:
    """Return the labels (`KEY=VALUE`) by which these DaemonSets select their nodes."""
    return tuple(sorted({f"{key}={value}" for each in daemons for key, value in each.selection.labels.items()}))


def selected(daemons: Iterable[Workload], nodes: Iterable[Node]) -> tuple[Node, ...]:
    selections = [daemon.selection for daemon in daemons]
    return tuple(node for node in nodes if any(each.selects(node) for each in selections))


def tolerating(daemons: Sequence[Workload], taints: Iterable[str]) -> str:
    """Return the options of `confcom enable` and `update` that make daemons tolerate these taints."""
    # `--set` replaces the list's element at an index, so the first index must follow the existing tolerations.
    first = min(len(daemon.selection.tolerations) for daemon in daemons)
    keys = dict.fromkeys(taint.partition("=")[0] for taint in taints)
    return " ".join(
        f"--set tolerations[{index}].key={key} --set tolerations[{index}].operator=Exists"
        for index, key in enumerate(keys, first)
    )
