"""The device manager's state: which devices exist, which are healthy, and which container holds which."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from confcom.errors import ConfcomError
from confcom.kubelet_api.checkpoint import HeldDevices, encode_checkpoint
from confcom.playground.api.views import Event, LedgerLine

MAX_EVENTS = 200
"""Limit for stored events: enough to see the latest changes, and the state stays small."""


class AdmissionError(ConfcomError):
    """The kubelet rejects a pod that is bound to the node; `what` is the kubelet's text."""

    error_code = "pod-rejected"
    pod_reason = "UnexpectedAdmissionError"
    """The reason in the pod's status."""

    @property
    def pod_message(self) -> str:
        """The message in the pod's status."""
        return f"Pod was rejected: Allocate failed due to {self.what}, which is unexpected"


class OutOfResourceError(AdmissionError):
    """The node's status has too little of the resource (the kubelet's predicate admission)."""

    error_code = "out-of-resource"

    def __init__(self, resource: str, count: int) -> None:
        super().__init__(
            f"Node didn't have enough resource: {resource}, requested: {count}, used: 0, capacity: 0",
            why="its device plugin has been gone for long",
            remedy="start the device plugin",
        )
        self.pod_reason = f"OutOf{resource}"

    @property
    def pod_message(self) -> str:
        """The predicate's message."""
        return f"Pod was rejected: {self.what}"


@dataclass(slots=True)
class _Resource:
    healthy: dict[str, None] = field(default_factory=dict)
    """IDs in the order of the device list; the dict serves as an ordered set."""
    unhealthy: set[str] = field(default_factory=set)


@dataclass(slots=True)
class DeviceLedger:
    """The device manager's state, with the rules of Kubernetes 1.36 (pkg/kubelet/cm/devicemanager)."""

    _resources: dict[str, _Resource] = field(default_factory=dict)
    _holdings: list[HeldDevices] = field(default_factory=list)
    _removed: dict[str, None] = field(default_factory=dict)
    """Resources whose plugin did not return in time; an ordered set."""
    _allocated_names: set[str] = field(default_factory=set)
    """Resources with held devices; updated only when a pod requests a device, so it may be out of date."""
    _events: deque[Event] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS))

    def replace(self, resource: str, devices: Mapping[str, bool]) -> None:
        """Replace the devices of a resource by a new device list.

        Args:
            resource: its name.
            devices: ID -> healthy, in the list's order.
        """
        self._removed.pop(resource, None)
        self._resources[resource] = _Resource(
            {device: None for device, healthy in devices.items() if healthy},
            {device for device, healthy in devices.items() if not healthy},
        )

    def mark_unhealthy(self, resource: str) -> None:
        """Mark all devices of a resource unhealthy, since its plugin is gone: capacity stays, allocatable becomes 0."""
        if (known := self._resources.get(resource)) is not None:
            known.unhealthy.update(known.healthy)
            known.healthy.clear()

    def remove(self, resource: str) -> None:
        """Remove a resource whose plugin did not return: the node's status keeps it, with 0 devices.

        Allocations stay until their pods end.
        """
        if self._resources.pop(resource, None) is not None:
            self._removed[resource] = None

    def forget_devices(self) -> None:
        """Forget the devices but not the resources and allocations, as a restarted kubelet does.

        A kubelet restores these two from its checkpoint; devices return only with a new device list.
        """
        for resource in self._resources:
            self._resources[resource] = _Resource()
        self._allocated_names = {holding.resource for holding in self._holdings}

    @property
    def resources(self) -> tuple[str, ...]:
        """Names of the resources on the node."""
        return tuple(self._resources)

    def capacity(self) -> dict[str, int]:
        """Return the number of devices, healthy or not, by resource name."""
        counts = {name: len(known.healthy) + len(known.unhealthy) for name, known in self._resources.items()}
        return counts | dict.fromkeys(self._removed, 0)

    def allocatable(self) -> dict[str, int]:
        """Return the number of healthy devices, held or free, by resource name."""
        return {name: len(known.healthy) for name, known in self._resources.items()} | dict.fromkeys(self._removed, 0)

    def allocated(self, pod: str | None = None) -> dict[str, int]:
        """Return the number of held devices by resource name, of one pod or of all."""
        total: dict[str, int] = {}
        for holding in self._holdings:
            if pod is None or holding.pod == pod:
                total[holding.resource] = total.get(holding.resource, 0) + len(holding.ids)
        return total

    def checkpoint(self) -> bytes:
        """Return the kubelet's checkpoint."""
        healthy = {name: known.healthy for name, known in self._resources.items()}
        return encode_checkpoint(healthy, self._holdings)

    def lines(self) -> tuple[LedgerLine, ...]:
        """Return one line per container and resource."""
        return tuple(LedgerLine(held.pod, held.container, held.resource, len(held.ids)) for held in self._holdings)

    def events(self) -> tuple[Event, ...]:
        """Return the allocations and releases, oldest first."""
        return tuple(self._events)

    def allocate(self, pod: str, container: str, resource: str, count: int) -> tuple[str, ...]:
        """Allocate free, healthy devices to a container.

        Returns:
            The devices' IDs. None for a resource that no plugin has ever offered: the kubelet assumes that another
            component manages it, and runs the pod without it.

        Raises:
            AdmissionError: too few devices are free, the plugin has been gone for long, or no device is healthy.
        """
        known = self._resources.get(resource)
        if known is None and resource not in self._allocated_names:
            if resource in self._removed:
                raise OutOfResourceError(resource, count)
            return ()
        self._allocated_names = {holding.resource for holding in self._holdings}
        if known is None:
            raise AdmissionError(
                f"cannot allocate unregistered device {resource}",
                why="its device plugin has been gone for long, and a pod held its devices until a while ago",
                remedy="start the device plugin",
            )
        if not known.healthy:
            raise AdmissionError(
                f"no healthy devices present; cannot allocate unhealthy devices {resource}",
                why="its device plugin is gone or has not sent its list",
                remedy="start the device plugin again",
            )
        held = {device for holding in self._holdings if holding.resource == resource for device in holding.ids}
        free = [device for device in known.healthy if device not in held]
        if len(free) < count:
            raise AdmissionError(
                f"requested number of devices unavailable for {resource}. Requested: {count}, Available: {len(free)}",
            )
        chosen = tuple(free[:count])
        holding = HeldDevices(pod, container, resource, chosen)
        self._holdings.append(holding)
        self._allocated_names.add(resource)
        self._record("Allocated", holding)
        return chosen

    def release(self, pod: str) -> None:
        """Release the devices of a pod that has ended."""
        released = [holding for holding in self._holdings if holding.pod == pod]
        self._holdings = [holding for holding in self._holdings if holding.pod != pod]
        for holding in released:
            self._record("Released", holding)

    def _record(self, reason: str, holding: HeldDevices) -> None:
        known = self._resources.get(holding.resource, _Resource())
        held = self.allocated().get(holding.resource, 0)
        done = "allocated to" if reason == "Allocated" else "released by"
        message = (
            f"{len(holding.ids)} {holding.resource} {done} {holding.pod}/{holding.container}; "
            f"{held} of {len(known.healthy) + len(known.unhealthy)} are held"
        )
        event = Event(reason, holding.pod, holding.container, holding.resource, len(holding.ids), message)
        self._events.append(event)
