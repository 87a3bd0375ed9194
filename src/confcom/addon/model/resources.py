"""The extended resources that the device plugin offers, by the names that the chart gives them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from confcom.kubernetes.objects import KubernetesObject, amount, mapping, resource_names, text


@dataclass(frozen=True, slots=True)
class ResourceSet:
    """The resource names of one kind of node."""

    epc: str
    enclave: str
    provision: str
    helper: str

    @property
    def names(self) -> tuple[str, ...]:
        """All names of the set."""
        return (self.epc, self.enclave, self.provision, self.helper)


REAL = ResourceSet(
    epc="kubernetes.azure.com/sgx_epc_mem_in_MiB",
    enclave="sgx.intel.com/enclave",
    provision="sgx.intel.com/provision",
    helper="confcom.internal/quote_helper_epc_mem_in_MiB",
)
"""The names that existing manifests request."""

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
"""The current name of Intel's plugin for the same memory, in bytes; offering it too counts the memory twice."""


def offered(node: KubernetesObject) -> Mapping[str, int]:
    """Return our resources in a node's capacity; one at 0 was left behind by a plugin that is gone."""
    capacity = mapping(node, "status", "capacity")
    return {name: amount(str(quantity)) for name, quantity in capacity.items() if name in OURS}


def allocatable(node: KubernetesObject, resource: str) -> int:
    """Return a node's allocatable amount of a resource."""
    return amount(text(node, "status", "allocatable", resource))


def set_of(node: KubernetesObject) -> ResourceSet:
    """Return the names under which a node offers, or is to offer, its EPC.

    After a change of names (`simulated.besideHardware`) a node has both sets for a long time: the kubelet keeps the
    former resources for five minutes, and their keys at 0 afterwards.
    """
    there = offered(node)
    having = [
        *(names for names in SETS if allocatable(node, names.epc)),
        *(names for names in SETS if there.get(names.epc)),
        *(names for names in SETS if names.epc in there),
    ]
    return next(iter(having), REAL)


def uses_ours(pod: KubernetesObject) -> bool:
    """Return whether a pod requests any of our resources."""
    return any(resource_names(pod, OURS))
