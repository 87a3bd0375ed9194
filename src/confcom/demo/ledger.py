"""The device manager's state: the existing devices, their health, and the containers that hold devices."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from confcom.errors import ConfcomError
from confcom.kubelet_api.checkpoint import HeldDevices, encode_checkpoint


class AdmissionError(ConfcomError):
    """The kubelet rejects a pod; `what` is the text that a kubelet would give."""

    error_code = "pod-rejected"


@dataclass(slots=True)
class DeviceLedger:
    """Each resource's devices and their holders, according to the rules of pkg/kubelet/cm/devicemanager."""

    _resources: dict[str, Mapping[str, bool]] = field(default_factory=dict)
    """Keyed by resource: ID -> healthy, in the order of the device list."""
    _holdings: list[HeldDevices] = field(default_factory=list)

    def replace(self, resource: str, devices: Mapping[str, bool]) -> None:
        self._resources[resource] = devices

    def mark_unhealthy(self, resource: str) -> None:
        """Mark all devices of a resource unhealthy. The capacity stays, and allocatable becomes 0."""
        if resource in self._resources:
            self._resources[resource] = dict.fromkeys(self._resources[resource], False)

    def forget_devices(self) -> None:
        self._resources = {resource: {} for resource in self._resources}

    def capacity(self) -> dict[str, int]:
        return {name: len(devices) for name, devices in self._resources.items()}

    def allocatable(self) -> dict[str, int]:
        """Return the number of healthy devices (held or free), keyed by resource name."""
        return {name: sum(devices.values()) for name, devices in self._resources.items()}

    def allocated(self, resource: str) -> int:
        return sum(len(holding.ids) for holding in self._holdings if holding.resource == resource)

    def fits(self, requests: Mapping[str, int]) -> bool:
        """Return whether the requested numbers of devices are free, counted as the scheduler counts."""
        free = {name: count - self.allocated(name) for name, count in self.allocatable().items()}
        return all(count <= free.get(name, 0) for name, count in requests.items() if count)

    def checkpoint(self) -> bytes:
        return encode_checkpoint({name: self.healthy(name) for name in self._resources}, self._holdings)

    def allocate(self, pod: str, container: str, resource: str, count: int) -> tuple[str, ...]:
        """Return the IDs of free, healthy devices; none if no device plugin has offered the resource."""
        if resource not in self._resources:
            return ()
        if not (healthy := self.healthy(resource)):
            raise AdmissionError(
                f"no healthy devices present; cannot allocate unhealthy devices {resource}",
                why="its device plugin is gone or has not sent its list",
            )
        held = {device for holding in self._holdings if holding.resource == resource for device in holding.ids}
        free = [device for device in healthy if device not in held]
        if len(free) < count:
            raise AdmissionError(
                f"requested number of devices unavailable for {resource}. Requested: {count}, Available: {len(free)}"
            )
        chosen = tuple(free[:count])
        self._holdings.append(HeldDevices(pod, container, resource, chosen))
        return chosen

    def healthy(self, resource: str) -> list[str]:
        return [device for device, healthy in self._resources[resource].items() if healthy]

    def release(self, pod: str) -> None:
        self._holdings = [holding for holding in self._holdings if holding.pod != pod]
