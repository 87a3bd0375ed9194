"""Allocate responses for one container, merged as the kubelet merges them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.playground.api.views import DeviceView, MountView


@dataclass(frozen=True, slots=True)
class Allocation:
    """The merged Allocate responses; cached for a container's life and reused at each of its restarts."""

    envs: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[DeviceView, ...] = ()
    mounts: tuple[MountView, ...] = ()


def merge(responses: Iterable[pb.ContainerAllocateResponse]) -> Allocation:
    """Merge the responses for each resource; the first response that sets a variable or a path wins.

    The kubelet does the same (pkg/kubelet/cm/devicemanager, deviceRunContainerOptions).
    """
    envs: dict[str, str] = {}
    devices: dict[str, DeviceView] = {}
    mounts: dict[str, MountView] = {}
    for response in responses:
        for name, value in response.envs.items():
            envs.setdefault(name, value)
        for device in response.devices:
            devices.setdefault(
                device.container_path, DeviceView(device.container_path, device.host_path, device.permissions)
            )
        for mount in response.mounts:
            view = MountView(mount.container_path, mount.host_path, mount.read_only, source="Allocate")
            mounts.setdefault(mount.container_path, view)
    return Allocation(envs, tuple(devices.values()), tuple(mounts.values()))
