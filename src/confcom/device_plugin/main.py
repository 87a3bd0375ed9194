"""The device plugin's composition root and entry point."""

import asyncio
import itertools
import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TextIO

from prometheus_client import CollectorRegistry

from confcom.daemon.common_metrics import ReadinessMetrics
from confcom.daemon.probe_server import JSON, ProbeResponse, Route, serve_probes, standard_routes
from confcom.daemon.readiness_log import NotReady, ReadinessLog
from confcom.daemon.supervision import exit_status, run_daemon, run_until_stopped
from confcom.device_plugin.allocation import Allocator
from confcom.device_plugin.device_nodes import Device
from confcom.device_plugin.device_watch import NOT_EXAMINED, DeviceWatch, SgxSearch
from confcom.device_plugin.endpoint import Endpoint, require_directory
from confcom.device_plugin.epc import Discovery
from confcom.device_plugin.epc_in_use import find_epc_in_use
from confcom.device_plugin.host import HostFiles
from confcom.device_plugin.kubelet_socket import KubeletWatch
from confcom.device_plugin.metrics import PluginMetrics
from confcom.device_plugin.registration import Registrar, run_unless
from confcom.device_plugin.resources import Resource, ResourceKind, ResourcePlan, plan_resources
from confcom.device_plugin.settings import PluginSettings, parse_settings
from confcom.device_plugin.socket_names import SocketNames, refuse_second_plugin, remove_stale_sockets, unused_instance
from confcom.errors import UnavailableError
from confcom.kubelet_api.device_list import encode_device_list
from confcom.kubelet_api.services import KUBELET_SOCKET_NAME
from confcom.kubernetes.epc_accounting import DEFAULT_MAX_EPC_DEVICES, EpcInUse
from confcom.kubernetes.inventory import Inventory

_logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""Timeout of the orderly stop, which takes milliseconds unless the kubelet's connection is half-open."""
CONFIRM_SECONDS = 5.0
"""Seconds from a registration until the kubelet certainly has the list; the longest list takes 0.2 s."""


@dataclass(frozen=True, slots=True)
class DevicePlugin:
    discovery: Discovery
    plan: ResourcePlan
    registrars: tuple[Registrar, ...]
    watch: DeviceWatch
    find_in_use: Callable[[], EpcInUse]

    async def run(self, stop: asyncio.Event) -> None:
        running = [
            registrar.run_while(self.watch.availability[_device_of(resource)])
            for resource, registrar in zip(self.plan.resources, self.registrars, strict=True)
        ]
        try:
            await run_until_stopped(stop, self.watch.run(), self._confirm(stop), *running)
        finally:
            await asyncio.gather(*(registrar.end() for registrar in self.registrars))

    async def _confirm(self, stop: asyncio.Event) -> None:
        """Fail if, during this plugin's start, an older plugin allocated devices that this plugin lacks."""
        count = sum(one.count for one in self.plan.resources if one.kind is ResourceKind.EPC)
        registered = not count
        while not registered:
            registered = bool(self.registrars[0].status.registrations)  # EPC's
            await asyncio.sleep(CONFIRM_SECONDS)
        if count and (held := self.find_in_use().held_count) > count:
            raise UnavailableError(
                f"containers hold devices up to number {held}, and this instance has {count}",
                error_code="devices-allocated-meanwhile",
                why="an older instance allocated them while this one was starting with fewer",
                remedy="none: the next start counts them",
            )
        await stop.wait()

    @property
    def problem(self) -> NotReady | None:
        """Return why the plugin is not ready (a device is lost, or a resource was not registered yet), or None.

        One stream since the start makes a resource ready. In an update, the older plugin is deleted once the
        newer plugin is ready, or at once if the older one is not ready. Up to 1.36 the kubelet ends the newer
        plugin's stream when the older one ends, so readiness must not depend on the present stream.
        """
        problems = {device: one.problem for device, one in self.watch.availability.items() if one.problem}
        if lost := [one for one in self.plan.resources if _device_of(one) in problems]:
            names = ", ".join(one.name for one in lost)
            reason = ": ".join([f"no socket is served for {names}", *sorted({*map(str, problems.values())})])
            return NotReady(reason, code=problems[_device_of(lost[0])].code)
        if unknown := [registrar for registrar in self.registrars if not registrar.status.registrations]:
            names = ", ".join(registrar.resource_name for registrar in unknown)
            causes = sorted({registrar.status.problem for registrar in unknown})
            reason = ": ".join([f"the kubelet has not registered {names} yet", *causes])
            return NotReady(reason, code=unknown[0].status.code)
        return None

    def inventory(self) -> Inventory:
        resources = tuple(
            {
                "name": resource.name,
                "kind": resource.kind,
                "count": resource.count,
                "socket": registrar.socket_path.name if registrar.socket_path else "",
                **asdict(registrar.status),
            }
            for resource, registrar in zip(self.plan.resources, self.registrars, strict=True)
        )
        found = self.discovery
        return Inventory(
            platform=found.platform,
            registered=all(registrar.status.registered for registrar in self.registrars),
            epc=found.epc,
            accounting=self.plan.offer,
            devices=self.watch.devices.to_json(enclave=found.enclave_node, provision=found.provision_node),
            resources=resources,
        )


def compose(
    settings: PluginSettings,
    discovery: Discovery,
    *,
    metrics: PluginMetrics,
    instance: str,
    jitter: Callable[[], float],
    clock: Callable[[], float],
) -> DevicePlugin:
    names = SocketNames(settings.device_plugin_dir, settings.installation, instance)
    find_in_use = partial(find_epc_in_use, names, settings.resources.names, discovery.epc.mib)
    plan = plan_resources(discovery, settings.resources, find_in_use())
    metrics.record_discovery(discovery, plan.offer)

    kubelet = KubeletWatch(settings.device_plugin_dir / KUBELET_SOCKET_NAME)

    def registrar_of(resource: Resource) -> Registrar:
        allocator = Allocator(resource, discovery, settings.aesmd_mount)
        list_bytes = encode_device_list(resource.count)
        metrics.list_bytes.labels(resource.name).set(len(list_bytes))

        numbers = itertools.count()

        def new_endpoint() -> Endpoint:
            return Endpoint(names.path(resource, next(numbers)), allocator, list_bytes, metrics, clock)

        return Registrar(
            resource_name=resource.name,
            kubelet=kubelet,
            new_endpoint=new_endpoint,
            peers=names.peers(resource),
            yields=resource.kind in {ResourceKind.PROVISION, ResourceKind.HELPER},
            metrics=metrics,
            jitter=jitter,
            clock=clock,
        )

    watch = DeviceWatch(HostFiles(settings.host_root), discovery, metrics=metrics)
    return DevicePlugin(discovery, plan, tuple(map(registrar_of, plan.resources)), watch, find_in_use)


def probe_routes(
    target: Callable[[], DevicePlugin | SgxSearch], registry: CollectorRegistry, clock: Callable[[], float]
) -> dict[str, Route]:
    """Return the plugin's probe routes. A plugin that waits for SGX is live, but not ready."""
    log = ReadinessLog(NOT_EXAMINED, clock)

    def problem() -> NotReady | None:
        return log.tell(target().problem)

    registry.register(ReadinessMetrics("device_plugin", problem))
    routes = standard_routes(problem, registry)
    return routes | {"/inventory": lambda: ProbeResponse(target().inventory().to_json(), content_type=JSON)}


async def serve(settings: PluginSettings, stop: asyncio.Event, registry: CollectorRegistry) -> None:
    """Run the plugin until `stop` is set; wait for SGX if needed; ConfcomError if the plugin cannot start."""
    require_directory(settings.device_plugin_dir)
    metrics = PluginMetrics(registry)
    search = SgxSearch(HostFiles(settings.host_root), simulated_epc_mib=settings.simulated_epc_mib, metrics=metrics)
    target: DevicePlugin | SgxSearch = search
    with serve_probes(probe_routes(lambda: target, registry, time.monotonic), settings.probe_address):
        discovery = await run_unless(stop.wait(), search.find())
        if discovery is None:
            return
        plugin = compose(
            settings,
            discovery,
            metrics=metrics,
            instance=unused_instance(settings.device_plugin_dir, secrets.randbelow),
            jitter=random.SystemRandom().random,
            clock=time.monotonic,
        )
        _log_discovery(plugin)
        refuse_second_plugin(settings.device_plugin_dir, plugin.plan.claimed_names, settings.installation)
        if removed := remove_stale_sockets(settings.device_plugin_dir):
            _logger.info("removed the sockets of earlier instances", extra={"sockets": removed})
        target = plugin
        await plugin.run(stop)


def _log_discovery(plugin: DevicePlugin) -> None:
    plan, offer, epc = plugin.plan, plugin.plan.offer, plugin.discovery.epc
    found = {"platform": plugin.discovery.platform, "epc_mib": epc.mib, "reason": epc.reason}
    counted = {"accounting": offer.reason, "accounting_kind": offer.kind, "accounting_choice": offer.choice}
    _logger.info("SGX found", extra={**found, **counted})
    if plan.doubt:
        extra = {"event": "epc-use-unknown", "reason": plan.doubt}
        _logger.warning("what the kubelet has allocated is unknown", extra=extra)
    if offer.kubelet_stall_seconds and offer.advertised_mib > DEFAULT_MAX_EPC_DEVICES:
        stall = {"devices": offer.advertised_mib, "seconds_when_all_are_allocated": offer.kubelet_stall_seconds}
        _logger.warning("this number of devices stalls the kubelet after its restart", extra=stall)


def _device_of(resource: Resource) -> Device:
    return Device.PROVISION if resource.kind is ResourceKind.PROVISION else Device.ENCLAVE


def main(arguments: Sequence[str], *, prog: str, environ: Mapping[str, str], stderr: TextIO) -> int:
    def body(settings: PluginSettings, registry: CollectorRegistry) -> int:
        return run_daemon(lambda stop: serve(settings, stop, registry), stop_deadline=STOP_SECONDS)

    return exit_status(lambda: parse_settings(arguments, prog=prog, environ=environ), body, stderr=stderr)
