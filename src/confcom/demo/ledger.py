"""The device manager's state: which devices exist, which are healthy, and which container holds which."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from confcom.errors import ConfcomError
from confcom.kubelet_api.checkpoint import HeldDevices, encode_checkpoint


class AdmissionError(ConfcomError):
    """The kubelet rejects a pod; `what` is the kubelet's text."""

    error_code = "pod-rejected"


@dataclass(frozen=True, slots=True)
class _Resource:
    healthy: dict[str, None] = field(default_factory=dict)
    """IDs in the order of the device list; the dict serves as an ordered set."""
    unhealthy: set[str] = field(default_factory=set)


@dataclass(slots=True)
class DeviceLedger:
    """The devices of each resource and their holders, by the rules of pkg/kubelet/cm/devicemanager."""

    _resources: dict[str, _Resource] = field(default_factory=dict)
    _holdings: list[HeldDevices] = field(default_factory=list)

    def replace(self, resource: str, devices: Mapping[str, bool]) -> None:
        """Replace the devices of a resource: ID -> healthy, in the list's order."""
        self._resources[resource] = _Resource(
            {device: None for device, healthy in devices.items() if healthy},
            {device for device, healthy in devices.items() if not healthy},
        )

    def mark_unhealthy(self, resource: str) -> None:
        """Mark all devices of a resource unhealthy: capacity stays, allocatable becomes 0."""
        if (known := self._resources.get(resource)) is not None:
            known.unhealthy.update(known.healthy)
            known.healthy.clear()

    def forget_devices(self) -> None:
        for resource in self._resources:
            self._resources[resource] = _Resource()

    def capacity(self) -> dict[str, int]:
        return {name: len(known.healthy) + len(known.unhealthy) for name, known in self._resources.items()}

    def allocatable(self) -> dict[str, int]:
        """Return the number of healthy devices, held or free, by resource name."""
        return {name: len(known.healthy) for name, known in self._resources.items()}

    def allocated(self, resource: str) -> int:
        return sum(len(holding.ids) for holding in self._holdings if holding.resource == resource)

    def fits(self, requests: Mapping[str, int]) -> bool:
        """Return whether so many devices are free, as the scheduler counts them."""
        allocatable = self.allocatable()
        return all(
            count <= allocatable.get(resource, 0) - self.allocated(resource)
            for resource, count in requests.items()
            if count
        )

    def checkpoint(self) -> bytes:
        return encode_checkpoint({name: known.healthy for name, known in self._resources.items()}, self._holdings)

    def allocate(self, pod: str, container: str, resource: str, count: int) -> tuple[str, ...]:
        """Allocate free, healthy devices to a container, and return their IDs.

        A resource that no plugin has offered gives none: the kubelet assumes that another component manages it.
        """
        known = self._resources.get(resource)
        if known is None:
            return ()
        if not known.healthy:
            raise AdmissionError(
                f"no healthy devices present; cannot allocate unhealthy devices {resource}",
                why="its device plugin is gone or has not sent its list",
            )
        held = {device for holding in self._holdings if holding.resource == resource for device in holding.ids}
        free = [device for device in known.healthy if device not in held]
        if len(free) < count:
            raise AdmissionError(
                f"requested number of devices unavailable for {resource}. Requested: {count}, Available: {len(free)}"
            )
        chosen = tuple(free[:count])
        self._holdings.append(HeldDevices(pod, container, resource, chosen))
        return chosen

    def release(self, pod: str) -> None:
        self._holdings = [holding for holding in self._holdings if holding.pod != pod]
