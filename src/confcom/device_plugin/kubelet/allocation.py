"""What a container gets for the devices that the kubelet chose for it.

Pure, and the same for the same request: the kubelet keeps the answer and replays it when the container restarts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from confcom.device_plugin.discovery.epc_discovery import ENCLAVE_NODES, PROVISION_NODES, Discovery, Platform
from confcom.device_plugin.resources import Resource, ResourceKind
from confcom.errors import ConfcomError
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.device_list import all_below

EPC_VARIABLE = "CONFCOM_SGX_EPC_MIB"
"""A container's EPC budget in MiB. One number, never the device IDs: a list of them passes Linux's limit of 128 KiB
for one environment string at about 20 GiB of EPC."""
PLATFORM_VARIABLE = "CONFCOM_SGX_PLATFORM"
AESMD_DIRECTORY = "/var/run/aesmd"
"""Where AESM clients look for the socket. The directory is mounted, never the socket file: that would be stale after
the quote helper's next start."""
DEVICE_PERMISSIONS = "rw"
"""The driver needs both; a container never makes device nodes (m)."""


class AllocationError(ConfcomError):
    """The kubelet asked for devices that this resource does not have."""


@dataclass(frozen=True, slots=True)
class Allocator:
    """Answers Allocate for one resource.

    Args:
        resource: whose devices are asked for.
        platform: told to the container.
        container_nodes: the names under which a container gets the device node.
        host_node: the device node on the host.
        aesmd_directory: the host's directory with the AESM socket, or None if it does not come with this resource.
    """

    resource: Resource
    platform: Platform
    container_nodes: tuple[str, ...]
    host_node: str
    aesmd_directory: str | None

    @classmethod
    def of(cls, resource: Resource, discovery: Discovery, *, aesmd_directory: str | None) -> Allocator:
        """The allocator of one resource on a node where this was discovered.

        Args:
            resource: whose devices are asked for.
            discovery: what the node has.
            aesmd_directory: what tenants of EPC or the enclave device get beside it; None: they mount it themselves.
        """
        if resource.kind is ResourceKind.PROVISION:
            if discovery.provision_node is None:
                raise ValueError("no provision resource is planned on a node without a provision device")
            return cls(resource, discovery.platform, PROVISION_NODES, discovery.provision_node, None)
        # The quote helper makes that directory's socket, and mounts it by itself to write there.
        directory = None if resource.kind is ResourceKind.HELPER else aesmd_directory
        return cls(resource, discovery.platform, ENCLAVE_NODES, discovery.enclave_node, directory)

    def allocate(self, request: pb.AllocateRequest) -> pb.AllocateResponse:
        """One answer per container, at a cost in proportion to the IDs asked for.

        Raises:
            AllocationError: no, unknown or repeated device IDs.
        """
        containers = request.container_requests
        self._check([identifier for container in containers for identifier in container.devices_ids])
        return pb.AllocateResponse(
            container_responses=[self._container(len(container.devices_ids)) for container in containers]
        )

    def _container(self, count: int) -> pb.ContainerAllocateResponse:
        if not count:
            raise AllocationError(f"Allocate for {self.resource.name} names no device")
        envs = {PLATFORM_VARIABLE: str(self.platform)}
        if self.resource.kind in {ResourceKind.EPC, ResourceKind.HELPER}:
            envs[EPC_VARIABLE] = str(count)
        devices = [
            pb.DeviceSpec(container_path=name, host_path=self.host_node, permissions=DEVICE_PERMISSIONS)
            for name in self.container_nodes
        ]
        mounts = (
            []
            if self.aesmd_directory is None
            else [pb.Mount(container_path=AESMD_DIRECTORY, host_path=self.aesmd_directory, read_only=True)]
        )
        return pb.ContainerAllocateResponse(envs=envs, devices=devices, mounts=mounts)

    def _check(self, identifiers: Sequence[str]) -> None:
        if len(set(identifiers)) != len(identifiers):
            raise AllocationError(f"Allocate for {self.resource.name} names a device twice")
        if not all_below(identifiers, self.resource.count):
            unknown = next(one for one in identifiers if not all_below([one], self.resource.count))
            raise AllocationError(
                f"{self.resource.name} has no device {unknown[:16]!r}",
                why=f"this node has {self.resource.count} of them",
                remedy="the kubelet reads the current list anew when it is restarted",
            )
