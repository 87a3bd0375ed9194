"""Which resources the node advertises, and how many devices of each. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from confcom.device_plugin.discovery import Discovery

EPC_RESOURCE = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
"""AKS' name, which manifests in the wild use; one device is one MiB."""
ENCLAVE_RESOURCE = "sgx.intel.com/enclave"
PROVISION_RESOURCE = "sgx.intel.com/provision"
"""The names of Intel's device plugin; one device is one container that may use the device node."""

DEFAULT_MAX_EPC_DEVICES = 2_048
"""A 1.36 kubelet stalls after a restart in proportion to devices times allocated ones: 0.4 s at 2,048 fully allocated,
1.75 s at 4,096 (measured)."""
NODE_USERS = 1_024
"""How many containers at once may use a device node. The node is not scarce: it only must never run out before the
kubelet's own limit of pods (110 by default)."""


class ResourceKind(StrEnum):
    """What one device of a resource stands for."""

    EPC = "epc"
    """One MiB of EPC, and the enclave device."""
    ENCLAVE = "enclave"
    """Use of the enclave device."""
    PROVISION = "provision"
    """Use of the provision device: an enclave may then ask for the platform's provisioning key."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One extended resource of the node."""

    kind: ResourceKind
    name: str
    count: int


@dataclass(frozen=True, slots=True)
class ResourcePlan:
    """What is advertised, and what is not, with the reason."""

    resources: tuple[Resource, ...]
    advertised_mib: int
    held_back_mib: int
    reason: str


def plan_resources(discovery: Discovery, *, max_epc_devices: int = DEFAULT_MAX_EPC_DEVICES) -> ResourcePlan:
    """Device accounting: one device per MiB of EPC up to a maximum; the two device nodes beside it.

    Args:
        discovery: what the node has.
        max_epc_devices: devices, so MiB, to advertise at most.
    """
    total = discovery.epc_mib
    advertised = min(total, max_epc_devices)
    held_back = total - advertised
    resources = [
        Resource(ResourceKind.EPC, EPC_RESOURCE, advertised),
        Resource(ResourceKind.ENCLAVE, ENCLAVE_RESOURCE, NODE_USERS),
    ]
    if discovery.provision_node is not None:
        resources.append(Resource(ResourceKind.PROVISION, PROVISION_RESOURCE, NODE_USERS))
    reason = (
        f"{held_back} of {total} MiB are held back: a device per MiB is advertised for at most {max_epc_devices} MiB"
        if held_back
        else f"all {total} MiB are advertised, a device per MiB"
    )
    return ResourcePlan(tuple(resources), advertised, held_back, reason)
