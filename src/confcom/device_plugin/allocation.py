"""The answers to Allocate: what a container gets for the devices that the kubelet chose for it.

Equal requests get equal answers. The kubelet stores an answer, and uses it again when the container restarts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from confcom.device_plugin.epc import ENCLAVE_NODES, PROVISION_NODES, Discovery
from confcom.device_plugin.resources import Resource, ResourceKind
from confcom.errors import ConfcomError
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.device_list import all_below
from confcom.kubernetes.names import AESM_DIRECTORY

EPC_VARIABLE = "CONFCOM_SGX_EPC_MIB"
"""The variable with a container's EPC in MiB. It has a number, not the device IDs: from about 20 GiB of EPC
on, a list of IDs would exceed Linux's limit of 128 KiB for one environment string."""
PLATFORM_VARIABLE = "CONFCOM_SGX_PLATFORM"
DEVICE_PERMISSIONS = "rw"
"""The driver needs read and write access. Containers create no device nodes, so `m` is not needed."""


class AllocationError(ConfcomError):
    """The kubelet asked for devices that this resource does not have."""

    error_code = "devices-refused"


@dataclass(frozen=True, slots=True)
class Allocator:
    resource: Resource
    discovery: Discovery
    mounts_aesmd: bool

    def allocate(self, request: pb.AllocateRequest) -> pb.AllocateResponse:
        """Return one answer per container; AllocationError if devices are missing, unknown or repeated."""
        containers = request.container_requests
        self._check([identifier for container in containers for identifier in container.devices_ids])
        return pb.AllocateResponse(
            container_responses=[self._container(len(container.devices_ids)) for container in containers]
        )

    def _container(self, count: int) -> pb.ContainerAllocateResponse:
        if not count:
            raise AllocationError(f"Allocate for {self.resource.name} names no device")
        kind, envs = self.resource.kind, {PLATFORM_VARIABLE: str(self.discovery.platform)}
        if kind in {ResourceKind.EPC, ResourceKind.HELPER}:
            envs[EPC_VARIABLE] = str(count)
        host_node, container_nodes = self.discovery.enclave_node, ENCLAVE_NODES
        if kind is ResourceKind.PROVISION:
            host_node, container_nodes = self.discovery.provision_node or "", PROVISION_NODES
        devices = [
            pb.DeviceSpec(container_path=name, host_path=host_node, permissions=DEVICE_PERMISSIONS)
            for name in container_nodes
        ]
        mounts = []
        # The quote helper gets no mount here: its Pod mounts the directory writable, to create the socket.
        if self.mounts_aesmd and kind in {ResourceKind.EPC, ResourceKind.ENCLAVE}:
            mounts.append(pb.Mount(container_path=AESM_DIRECTORY, host_path=AESM_DIRECTORY, read_only=True))
        return pb.ContainerAllocateResponse(envs=envs, devices=devices, mounts=mounts)

    def _check(self, identifiers: Sequence[str]) -> None:
        if len(set(identifiers)) != len(identifiers):
            raise AllocationError(f"Allocate for {self.resource.name} names a device twice")
        if not all_below(identifiers, self.resource.count):
            unknown = next(one for one in identifiers if not all_below([one], self.resource.count))
            raise AllocationError(
                f"{self.resource.name} has no device {unknown[:16]!r}",
                why=f"this node has {self.resource.count} of them",
                remedy="restart the kubelet, which then reads the current list",
            )
