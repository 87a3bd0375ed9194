"""Inspects the host periodically: waits until the node has SGX, then detects lost and returned devices.

Resources, IDs and paths are decided once. A lost device ends the streams to the kubelet; no list is shortened.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from confcom.daemon.readiness_log import NotReady
from confcom.device_plugin.device_nodes import Device, HostDevices, NodeState, Problem, inspect_devices
from confcom.device_plugin.epc import Discovery, EpcSource, NoSgxError, Platform, discover, find_driver
from confcom.device_plugin.host import HostFiles
from confcom.device_plugin.metrics import PluginMetrics
from confcom.kubernetes.inventory import EpcOffer, FoundEpc, Inventory

_logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
"""Seconds between inspections: few enough for a person who has loaded a driver and waits. An inspection takes
a dozen calls of stat and one read of mountinfo, which has thousands of lines on a busy node."""
DEBOUNCE_POLLS = 3
"""Number of consecutive inspections (at least 4 s) that must find a lost device before it counts as present.
udev sets a new node's owner and mode late, and a driver update loads and unloads the driver more than once.
This limits a flapping device to one registration per 6 s. A loss counts at the first inspection, because
containers that start after the loss would fail."""


NOT_EXAMINED: Final = NotReady("the node has not been examined yet", code="node-not-examined")
JUST_APPEARED: Final = NotReady(
    "SGX has just appeared; the plugin offers it after several successful checks", code="sgx-just-appeared"
)


@dataclass(slots=True)
class DeviceAvailability:
    problem: Problem | None = None
    """The reason why the device is unavailable; None if it is available."""
    available: asyncio.Event = field(default_factory=asyncio.Event)
    unavailable: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.available.set()

    def mark_unavailable(self, problem: Problem) -> None:
        self.problem = problem
        self.available.clear()
        self.unavailable.set()

    def mark_available(self) -> None:
        self.problem = None
        self.unavailable.clear()
        self.available.set()


@dataclass(slots=True)
class SgxSearch:
    """A search that waits until the node has SGX, since the system may load a driver late."""

    host: HostFiles
    simulated_epc_mib: int | None
    metrics: PluginMetrics
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    problem: NotReady = NOT_EXAMINED
    devices: HostDevices = field(default_factory=HostDevices)

    async def find(self) -> Discovery:
        """Inspect the host until the discovery is complete, or equal DEBOUNCE_POLLS times: udev may be at work."""
        found = self._inspect()
        if found is not None and found.provision_node is not None:
            return found
        seen = 1
        while found is None or seen < DEBOUNCE_POLLS:
            await self.sleep(POLL_SECONDS)
            before, found = found, self._inspect()
            seen = seen + 1 if found == before else 1
        return found

    def inventory(self) -> Inventory:
        return Inventory(
            platform=Platform.HARDWARE,
            registered=False,
            epc=FoundEpc(EpcSource.NONE, self.problem.reason),
            accounting=EpcOffer(None, None, None, reason=self.problem.reason),
            devices=self.devices.to_json(enclave=None, provision=None),
            resources=(),
        )

    def _inspect(self) -> Discovery | None:
        found: Discovery | None = None
        problem = JUST_APPEARED
        try:
            found = discover(self.host, simulated_epc_mib=self.simulated_epc_mib)
        except NoSgxError as error:
            problem = NotReady(str(error), code=error.error_code)
            if problem != self.problem:
                extra = {"event": "no-sgx", "reason": problem.reason, "code": problem.code}
                _logger.warning("no SGX to offer yet", extra=extra)
        self.problem = problem
        if found is None or found.platform is Platform.HARDWARE:
            self.devices = inspect_devices(self.host)
            self.metrics.record_devices(self.devices, offered=(Device.ENCLAVE,))
        return found


@dataclass(slots=True)
class DeviceWatch:
    """Inspects the driver and the devices found at the start periodically, and updates each device's availability."""

    host: HostFiles
    discovery: Discovery
    metrics: PluginMetrics
    devices: HostDevices = field(default_factory=HostDevices)
    availability: dict[Device, DeviceAvailability] = field(init=False)
    _paths: dict[Device, str] = field(init=False)
    _seen: Counter[Device] = field(default_factory=Counter)
    """Keyed by device: the number of latest inspections in a row that found the device."""
    _logged_problems: dict[Device, tuple[str, ...]] = field(default_factory=dict)
    _logged_late: set[Device] = field(default_factory=set)

    def __post_init__(self) -> None:
        paths = {Device.ENCLAVE: self.discovery.enclave_node, Device.PROVISION: self.discovery.provision_node}
        self._paths = {device: path for device, path in paths.items() if path is not None}
        self.availability = {device: DeviceAvailability() for device in self._paths}

    async def run(self) -> None:
        while True:
            self.poll()
            await asyncio.sleep(POLL_SECONDS)

    def poll(self) -> None:
        if self.discovery.platform is Platform.SIMULATED:
            self._look_for_hardware()
            return
        self.devices = inspect_devices(self.host, expected=self._paths.values())
        self.metrics.record_devices(self.devices, offered=tuple(self._paths))
        for node in self.devices.nodes:
            self._log_problems(node)
            if node.device in self._paths:
                self._update_availability(node.device, self._paths[node.device])
            elif node.path is not None and node.device not in self._logged_late:
                self._logged_late.add(node.device)
                _logger.warning(
                    "a new SGX device has appeared since the start; restart the plugin to offer it",
                    extra={"event": "device-appeared", "device": node.device, "path": node.path},
                )

    def _look_for_hardware(self) -> None:
        self.devices = HostDevices(find_driver(self.host), ())
        if self.devices.driver is None or self.availability[Device.ENCLAVE].unavailable.is_set():
            return
        problem = Problem(
            f"{self.devices.driver} shows that an SGX driver was loaded after this simulated plugin started",
            "remove the simulation label from this node, and restart the plugin without --simulated",
            code="simulated-on-hardware",
        )
        _logger.error(
            "the simulated plugin stopped offering resources, because this node has SGX hardware",
            extra={"event": problem.code, "reason": str(problem)},
        )
        for availability in self.availability.values():
            availability.mark_unavailable(problem)

    def _update_availability(self, device: Device, path: str) -> None:
        availability = self.availability[device]
        self._seen[device] = self._seen[device] + 1 if self.devices.has(path) else 0
        if not self._seen[device] and availability.available.is_set():
            loss = self._loss(device, path)
            availability.mark_unavailable(loss)
            extra = {"event": "device-lost", "device": device, "reason": str(loss)}
            _logger.error("SGX device lost", extra=extra)
        elif self._seen[device] >= DEBOUNCE_POLLS and availability.unavailable.is_set():
            _logger.info("SGX device back", extra={"event": "device-back", "device": device, "path": path})
            availability.mark_available()

    def _loss(self, device: Device, path: str) -> Problem:
        if self.devices.driver is None:
            what = f"the SGX driver of {path} is no longer loaded"
            return Problem(what, "load the driver again", code="driver-unloaded")
        if other := self.devices.node(device).path:
            what = f"the driver's device is {other}, but was {path} at start"
            return Problem(what, "restart the plugin", code="device-moved")
        what = f"{path} is no longer a character device"
        return Problem(what, "check udev, and which program removed the device", code="device-removed")

    def _log_problems(self, node: NodeState) -> None:
        """Log each new problem once, and the end of all problems once. A missing device has no problems."""
        if node.path is None:
            return
        logged, now = self._logged_problems.get(node.device, ()), tuple(problem.what for problem in node.problems)
        self._logged_problems[node.device] = now
        for problem in node.problems:
            if problem.what not in logged:
                new = {"event": "device-problem", "device": node.device, **problem.to_json()}
                _logger.warning("an SGX device is not usable", extra=new)
        if logged and not now:
            extra = {"event": "device-usable", "device": node.device, "path": node.path}
            _logger.info("an SGX device is usable again", extra=extra)
