"""The chart's objects: names, resources, the nodes that a DaemonSet selects, the flags of its containers. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from confcom.kubernetes.node_selection import selects
from confcom.kubernetes.objects import KubernetesObject, amount, labels_of, listing, mapping, text
from confcom.simulation.collateral_staging import Staging

RELEASE = "confcom"
"""The release's name, and the value of the name label on all objects of the chart."""
DEFAULT_NAMESPACE = "confcom-system"
NAME_LABEL = "app.kubernetes.io/name"
COMPONENT_LABEL = "app.kubernetes.io/component"
INSTANCE_LABEL = "app.kubernetes.io/instance"
VERSION_LABEL = "app.kubernetes.io/version"
_AZURE_SIZES = re.compile(r"standard_dc(?:(?:[124]s|8)_v2|[0-9]+d?s_v3)", re.IGNORECASE)
"""Azure's sizes with SGX (DCsv2, DCsv3 and DCdsv3), as in the label node.kubernetes.io/instance-type."""
SIMULATED_LABEL = "confcom.internal/simulated-sgx"
"""The label by which a user marks a node for simulation."""
NFD_LABEL = "feature.node.kubernetes.io/cpu-security.sgx.enabled"
"""The label that Node Feature Discovery puts on a node whose CPU and firmware have SGX enabled."""
EPC_NAMES_POLICY = "confcom-epc-names"
"""The MutatingAdmissionPolicy that counts Intel's name of EPC under ours."""
AESMD = "aesmd"
"""The sidecar with Intel's aesmd in the Pods of a quote helper for SGX hardware."""
FIELD_MANAGER = "confcom-controller"
"""The field manager of the controller's writes to the nodes' status."""
SUPPORT_FLAG = "--capacity-support"
"""The device plugin's flag whose values are those of CapacitySupport."""
VERSION_FLAG = "--api-server"
"""The device plugin's flag with the API server's version at the installation."""
STAGING_LABEL = "confcom.internal/staging"
"""The label with the staging of the simulated platform's collateral, on the DaemonSet of simulated quote helpers."""
REMOVAL_ANNOTATION = "confcom.internal/removal"
"""The annotation on a quote helper's Pod with the time at which its removal began, in seconds since 1970."""
POLICY_KINDS = (
    "MutatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy",
)
"""Kinds that can refuse Pods, in the order of removal: a binding without its policy would be an error for every Pod."""
EXACT_GROUPS = frozenset({"admissionregistration.k8s.io", "networking.k8s.io", "rbac.authorization.k8s.io"})
"""API groups of the chart's policies and permissions, which have the chart's fields only: an added selector switches a
policy off, and an added rule gives a permission."""


class Component(StrEnum):
    """The add-on's programs, by their component label: two node daemons, and two with a Deployment."""

    DEVICE_PLUGIN = "device-plugin"
    QUOTE_HELPER = "quote-helper"
    CONTROLLER = "controller"
    SIMULATED_PCS = "simulated-pcs"

    @property
    def words(self) -> str:
        return self.value.replace("-", " ")


NODE_DAEMONS = (Component.DEVICE_PLUGIN, Component.QUOTE_HELPER)


class SgxKind(StrEnum):
    HARDWARE = "hardware"
    SIMULATED = "simulated"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ResourceSet:
    epc: str
    enclave: str
    provision: str
    helper: str

    @property
    def names(self) -> tuple[str, ...]:
        return (self.epc, self.enclave, self.provision, self.helper)


REAL = ResourceSet(
    epc="kubernetes.azure.com/sgx_epc_mem_in_MiB",
    enclave="sgx.intel.com/enclave",
    provision="sgx.intel.com/provision",
    helper="confcom.internal/quote_helper_epc_mem_in_MiB",
)
SIMULATED = ResourceSet(
    epc="simulated.confcom.internal/sgx_epc_mem_in_MiB",
    enclave="simulated.confcom.internal/enclave",
    provision="simulated.confcom.internal/provision",
    helper="simulated.confcom.internal/quote_helper_epc_mem_in_MiB",
)
"""The names that simulated nodes offer in a cluster with hardware nodes (`simulated.besideHardware`)."""
SETS = (REAL, SIMULATED)
OURS = frozenset(name for names in SETS for name in names.names)
SHARED = frozenset({REAL.enclave, REAL.provision})
"""Names that other vendors' plugins offer too, also on nodes that never ran the add-on."""
INTEL_EPC = "sgx.intel.com/epc"
"""The name of Intel's plugin for the same memory, in bytes."""


def component_of(thing: KubernetesObject) -> Component | None:
    labels = labels_of(thing)
    if labels.get(NAME_LABEL) != RELEASE:
        return None
    # Beside hardware, the label of simulated nodes' DaemonSets has a suffix: device-plugin-simulated.
    label = text(labels, COMPONENT_LABEL)
    return next((one for one in Component if label == one or label.startswith(f"{one}-")), None)


def daemons_in(objects: Iterable[KubernetesObject]) -> tuple[KubernetesObject, ...]:
    return tuple(one for one in objects if one.get("kind") == "DaemonSet" and component_of(one))


def plugins_in(objects: Iterable[KubernetesObject], *, simulated: bool) -> tuple[KubernetesObject, ...]:
    found = (one for one in daemons_in(objects) if component_of(one) is Component.DEVICE_PLUGIN)
    return tuple(one for one in found if simulates(one) is simulated)


def pod_spec_of(workload: KubernetesObject) -> KubernetesObject:
    return mapping(workload, "spec", "template", "spec")


def simulates(daemon: KubernetesObject) -> bool:
    return any("--simulated" in (one.get("args") or ()) for one in listing(pod_spec_of(daemon), "containers"))


def flag_of(workload: KubernetesObject, flag: str) -> str:
    """Return the value of a flag (`--flag=value`) of a workload's containers; empty if none has it."""
    for one in listing(pod_spec_of(workload), "containers"):
        for word in one.get("args") or ():
            name, _, value = str(word).partition("=")
            if name == flag:
                return value
    return ""


def capacity_limit(workloads: Iterable[KubernetesObject]) -> int | None:
    """Return the maximum of what the controller writes to a node, in MiB (`controller.maxEpcMiBPerNode`)."""
    found = (flag_of(one, "--max-epc-mib") for one in workloads if component_of(one) is Component.CONTROLLER)
    return next((int(limit) for limit in found if limit.isdecimal()), None)


def has_controller(daemons: Iterable[KubernetesObject]) -> bool:
    return any(flag_of(daemon, SUPPORT_FLAG) == "supported" for daemon in daemons)


def staging_of(daemons: Iterable[KubernetesObject]) -> Staging:
    found = {labels_of(daemon).get(STAGING_LABEL) for daemon in daemons}
    return next((one for one in Staging if one in found), Staging.NONE)


def node_labels(daemons: Iterable[KubernetesObject]) -> tuple[str, ...]:
    """Return the labels (`KEY=VALUE`) by which these DaemonSets select their nodes."""
    selectors = (mapping(pod_spec_of(one), "nodeSelector").items() for one in daemons)
    return tuple(sorted({f"{key}={value}" for labels in selectors for key, value in labels}))


def sgx_kind(node: KubernetesObject) -> SgxKind:
    """Return the kind of SGX by a node's labels.

    Hardware takes precedence: a node with both labels has an SGX CPU, and the plugin refuses to simulate there.
    """
    labels = labels_of(node)
    if labels.get(NFD_LABEL) == "true" or _AZURE_SIZES.fullmatch(labels.get("node.kubernetes.io/instance-type", "")):
        return SgxKind.HARDWARE
    return SgxKind.SIMULATED if labels.get(SIMULATED_LABEL) == "true" else SgxKind.NONE


def offered(node: KubernetesObject) -> Mapping[str, int]:
    """Return our resources in a node's capacity; a plugin that is gone leaves them at 0."""
    capacity = mapping(node, "status", "capacity")
    return {name: amount(str(quantity)) for name, quantity in capacity.items() if name in OURS}


def allocatable(node: KubernetesObject, resource: str) -> int:
    return amount(text(node, "status", "allocatable", resource))


def written(node: KubernetesObject) -> frozenset[str]:
    """Return our resources in a node's capacity that the controller has written, and nobody since."""
    keys: set[str] = set()
    for entry in listing(node, "metadata", "managedFields"):
        if text(entry, "manager") == FIELD_MANAGER and text(entry, "subresource") == "status":
            keys |= {key.removeprefix("f:") for key in mapping(entry, "fieldsV1", "f:status", "f:capacity")}
    return frozenset(keys & offered(node).keys())


def set_of(node: KubernetesObject) -> ResourceSet:
    """Return the names under which a node offers, or is to offer, its EPC.

    After a change of names (`simulated.besideHardware`) a node has both sets: the kubelet keeps the former resources
    for five minutes, and their keys at 0 afterwards.
    """
    there = offered(node)
    having = [
        *(names for names in SETS if allocatable(node, names.epc)),
        *(names for names in SETS if there.get(names.epc)),
        *(names for names in SETS if names.epc in there),
    ]
    return next(iter(having), REAL)


def selected(daemons: Iterable[KubernetesObject], nodes: Iterable[KubernetesObject]) -> tuple[KubernetesObject, ...]:
    specs = [pod_spec_of(one) for one in daemons]
    return tuple(node for node in nodes if any(selects(spec, node) for spec in specs))


def tolerating(pod_specs: Sequence[KubernetesObject], taints: Sequence[str]) -> str:
    """Return the options of `confcom enable` and `update` that make daemons tolerate these taints."""
    # Helm replaces the element at an index: start behind the existing tolerations, which would be lost otherwise.
    first = min(len(listing(one, "tolerations")) for one in pod_specs)
    keys = dict.fromkeys(taint.partition("=")[0] for taint in taints)
    return " ".join(
        f"--set tolerations[{index}].key={key} --set tolerations[{index}].operator=Exists"
        for index, key in enumerate(keys, first)
    )
