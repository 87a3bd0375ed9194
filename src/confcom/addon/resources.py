"""The resources that the device plugin offers, under the names that the chart gives them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from confcom.addon.objects import KubernetesObject, amount, mapping, resource_names, text


@dataclass(frozen=True, slots=True)
class ResourceSet:
    """The names of one kind of node."""

    epc: str
    enclave: str
    provision: str
    helper: str

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (self.epc, self.enclave, self.provision, self.helper)


REAL = ResourceSet(
    epc="kubernetes.azure.com/sgx_epc_mem_in_MiB",
    enclave="sgx.intel.com/enclave",
    provision="sgx.intel.com/provision",
    helper="confcom.internal/quote_helper_epc_mem_in_MiB",
)
"""What every manifest in the wild asks for."""

SIMULATED = ResourceSet(
    epc="simulated.confcom.internal/sgx_epc_mem_in_MiB",
    enclave="simulated.confcom.internal/enclave",
    provision="simulated.confcom.internal/provision",
    helper="simulated.confcom.internal/quote_helper_epc_mem_in_MiB",
)
"""What simulated nodes offer beside hardware nodes (`simulated.besideHardware`)."""

SETS = (REAL, SIMULATED)
OURS = frozenset(name for names in SETS for name in names.names)

SHARED = frozenset({REAL.enclave, REAL.provision})
"""Those of ours that other vendors' plugins offer too, on nodes that never were ours."""

INTEL_EPC = "sgx.intel.com/epc"
"""Today's name for the same memory, in bytes: whoever offers it counts it a second time."""


def offered(node: KubernetesObject) -> Mapping[str, int]:
    """Our resources in a node's capacity; one at 0 is what a plugin that is gone has left."""
    capacity = mapping(node, "status", "capacity")
    return {name: amount(str(quantity)) for name, quantity in capacity.items() if name in OURS}


def allocatable(node: KubernetesObject, resource: str) -> int:
    """How much of a resource the kubelet says pods may have."""
    return amount(text(node, "status", "allocatable", resource))


def set_of(node: KubernetesObject) -> ResourceSet:
    """The names under which a node offers, or is to offer, its EPC.

    After another choice of names (`simulated.besideHardware`) it has both for long: the kubelet keeps the former ones
    for five minutes, and then their keys at 0.
    """
    there = offered(node)
    having = [
        *(names for names in SETS if allocatable(node, names.epc)),
        *(names for names in SETS if there.get(names.epc)),
        *(names for names in SETS if names.epc in there),
    ]
    return next(iter(having), REAL)


def uses_ours(pod: KubernetesObject) -> bool:
    """Whether a pod asks for any resource of ours."""
    return any(name in OURS for name in resource_names(pod))
