"""The device plugin's composition root and entry point."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from prometheus_client import CollectorRegistry

from confcom.daemon.log_stream import LogMetrics, LogStream
from confcom.daemon.logs import configure_logging
from confcom.daemon.probe_server import ProbeServer
from confcom.daemon.probes import JSON, ProbeResponse, Readiness, Route, standard_routes
from confcom.daemon.readiness_log import ReadinessLog
from confcom.daemon.supervision import exit_status, run_daemon, run_unless, run_until_stopped
from confcom.device_plugin.discovery.device_nodes import Device
from confcom.device_plugin.discovery.device_watch import DeviceWatch, SgxSearch
from confcom.device_plugin.discovery.epc_discovery import Discovery
from confcom.device_plugin.discovery.host import HostFiles
from confcom.device_plugin.inventory import encode_inventory, encode_waiting
from confcom.device_plugin.kubelet.allocation import Allocator
from confcom.device_plugin.kubelet.endpoint import Endpoint, require_directory
from confcom.device_plugin.kubelet.epc_in_use import find_epc_in_use
from confcom.device_plugin.kubelet.kubelet_watch import KubeletWatch
from confcom.device_plugin.kubelet.registration import Registrar
from confcom.device_plugin.kubelet.servicer import ResourceServicer
from confcom.device_plugin.kubelet.socket_names import (
    SocketNames,
    refuse_second_plugin,
    remove_stale_sockets,
    unused_instance,
)
from confcom.device_plugin.metrics import PluginMetrics
from confcom.device_plugin.resources import (
    Resource,
    ResourceKind,
    ResourcePlan,
    plan_resources,
)
from confcom.device_plugin.settings import PluginSettings, parse_settings
from confcom.kubelet_api.device_list import encode_device_list
from confcom.kubelet_api.services import KUBELET_SOCKET_NAME
from confcom.kubernetes.epc_accounting import DEFAULT_MAX_EPC_DEVICES

_logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""Timeout of the orderly stop, which takes milliseconds; a kubelet with a half-open connection must not delay it."""


@dataclass(frozen=True, slots=True)
class DevicePlugin:
    """One node's device plugin, as `compose` makes it; `start` starts it."""

    discovery: Discovery
    plan: ResourcePlan
    registrars: tuple[Registrar, ...]
    watch: DeviceWatch

    async def start(self) -> None:
        """Start serving every resource, so that the kubelet's calls can be answered."""
        for registrar in self.registrars:
            await registrar.start()

    async def run(self, stop: asyncio.Event) -> None:
        """Keep every resource registered while its device is available, until `stop` is set."""
        running = [
            registrar.run_while(self.watch.availability[_device_of(resource)])
            for resource, registrar in zip(self.plan.resources, self.registrars, strict=True)
        ]
        await run_until_stopped(stop, self.watch.run(), *running)

    async def close(self) -> None:
        """End all streams and servers, and remove all sockets."""
        await asyncio.gather(*(registrar.end() for registrar in self.registrars))

    def not_ready_reason(self) -> str | None:
        """Return why the plugin is not ready, or None: a resource is not served, or no kubelet has watched it yet.

        An update ends the older plugin once this one is ready. One stream since start is enough for that. Up to 1.36
        the kubelet ends the newer plugin's stream when the older plugin ends, and an older plugin that was not ready
        at that moment would be deleted before the newer one is ready.
        """
        unserved = [registrar.resource_name for registrar in self.registrars if registrar.socket_path is None]
        if unserved:
            reasons = {availability.reason for availability in self.watch.availability.values() if availability.reason}
            return ": ".join([f"no socket is served for {', '.join(unserved)}", *sorted(reasons)])
        unknown = [registrar for registrar in self.registrars if not registrar.status.registrations]
        if unknown:
            names = ", ".join(registrar.resource_name for registrar in unknown)
            problems = sorted({registrar.status.problem for registrar in unknown})
            return ": ".join([f"the kubelet has not registered {names} yet", *problems])
        return None

    def inventory(self) -> bytes:
        """Return the document of `/inventory`."""
        states = [
            (resource, registrar.socket_path.name if registrar.socket_path else "", registrar.status)
            for resource, registrar in zip(self.plan.resources, self.registrars, strict=True)
        ]
        return encode_inventory(self.discovery, self.plan, states, self.watch.devices)


@dataclass(frozen=True, slots=True)
class WaitingPlugin:
    """A plugin that waits for SGX: live and not ready, with the reason."""

    search: SgxSearch

    def not_ready_reason(self) -> str | None:
        """Return why no SGX is offered."""
        return self.search.reason

    def inventory(self) -> bytes:
        """Return the document of `/inventory`, which has only the reason and the devices found so far."""
        return encode_waiting(self.search.reason, self.search.devices)


def compose(
    settings: PluginSettings,
    discovery: Discovery,
    *,
    metrics: PluginMetrics,
    instance: str,
    jitter: Callable[[], float],
    clock: Callable[[], float],
) -> DevicePlugin:
    """Plan the resources by what is in use of them, and return the plugin that serves them."""
    names = SocketNames(settings.device_plugin_dir, settings.installation, instance)
    resource_names = settings.resources.names
    in_use = find_epc_in_use(
        names,
        epc_resource=resource_names[ResourceKind.EPC],
        enclave_resource=resource_names[ResourceKind.ENCLAVE],
        epc_mib=discovery.epc_mib,
    )
    plan = plan_resources(discovery, settings.resources, in_use)
    metrics.record_discovery(discovery, plan)

    kubelet_socket = settings.device_plugin_dir / KUBELET_SOCKET_NAME
    kubelet_watch = KubeletWatch(kubelet_socket)

    def registrar_of(resource: Resource) -> Registrar:
        allocator = Allocator.of(resource, discovery, aesmd_directory=settings.aesmd_dir)
        list_bytes = encode_device_list(resource.count)
        metrics.list_bytes.labels(resource.name).set(len(list_bytes))

        numbers = itertools.count()

        def new_endpoint() -> Endpoint:
            servicer = ResourceServicer(allocator, list_bytes, metrics=metrics, clock=clock)
            return Endpoint(names.path(resource, next(numbers)), servicer)

        return Registrar(
            resource_name=resource.name,
            kubelet_socket=kubelet_socket,
            kubelet_watch=kubelet_watch,
            new_endpoint=new_endpoint,
            peers=names.peers(resource),
            yields=resource.kind in {ResourceKind.PROVISION, ResourceKind.HELPER},
            metrics=metrics,
            jitter=jitter,
            clock=clock,
        )

    watch = DeviceWatch(HostFiles(settings.host_root), discovery, metrics=metrics)
    return DevicePlugin(discovery, plan, tuple(registrar_of(resource) for resource in plan.resources), watch)


def probe_routes(
    target: Callable[[], DevicePlugin | WaitingPlugin], registry: CollectorRegistry, clock: Callable[[], float]
) -> dict[str, Route]:
    """Return the probe routes.

    Ready means that the kubelet has watched every resource at least once since start; `/inventory` has whether it
    watches them now.
    """
    readiness = Readiness()
    log = ReadinessLog(readiness.reason, clock)
    standard = standard_routes(readiness, registry, clock)

    def ready() -> ProbeResponse:
        readiness.reason = target().not_ready_reason()
        log.tell(readiness.reason)
        return standard["/readyz"]()

    def inventory() -> ProbeResponse:
        return ProbeResponse(target().inventory(), content_type=JSON)

    return standard | {"/readyz": ready, "/inventory": inventory}


async def serve(settings: PluginSettings, stop: asyncio.Event, registry: CollectorRegistry) -> None:
    """Run the plugin until `stop` is set.

    Raises:
        ConfcomError: the plugin cannot start. On a node without SGX it waits instead.
    """
    require_directory(settings.device_plugin_dir)
    metrics = PluginMetrics(registry)
    search = SgxSearch(HostFiles(settings.host_root), simulated_epc_mib=settings.simulated_epc_mib, metrics=metrics)
    target: DevicePlugin | WaitingPlugin = WaitingPlugin(search)
    probes = ProbeServer(probe_routes(lambda: target, registry, time.monotonic))
    try:
        if settings.probe_address is not None:
            address = await probes.start(settings.probe_address)
            _logger.info("answering probes", extra={"address": address})
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
        try:
            await plugin.start()
            await plugin.run(stop)
        finally:
            await plugin.close()
    finally:
        await probes.close()


def _log_discovery(plugin: DevicePlugin) -> None:
    plan = plugin.plan
    _logger.info(
        "SGX found",
        extra={
            "platform": plugin.discovery.platform,
            "epc_mib": plugin.discovery.epc_mib,
            "reason": plugin.discovery.reason,
            "accounting": plan.reason,
            "accounting_kind": plan.accounting.kind,
            "accounting_choice": plan.accounting.choice,
        },
    )
    if plan.doubt:
        _logger.warning(
            "what the kubelet has allocated is unknown", extra={"event": "epc-use-unknown", "reason": plan.doubt}
        )
    if plan.stall_seconds and plan.advertised_mib > DEFAULT_MAX_EPC_DEVICES:
        _logger.warning(
            "this number of devices stalls the kubelet after its restart",
            extra={"devices": plan.advertised_mib, "seconds_when_all_are_allocated": plan.stall_seconds},
        )


def _device_of(resource: Resource) -> Device:
    return Device.PROVISION if resource.kind is ResourceKind.PROVISION else Device.ENCLAVE


def main(arguments: Sequence[str], *, prog: str, environ: Mapping[str, str], stderr: TextIO) -> int:
    """Run the device plugin in the foreground until SIGTERM, SIGINT or SIGHUP; return the ExitCode."""

    def body(log: LogStream) -> int:
        settings = parse_settings(arguments, prog=prog, environ=environ)
        configure_logging(level=settings.log_level, log_format=settings.log_format, stream=log)
        registry = CollectorRegistry()
        LogMetrics(log, registry)
        return run_daemon(lambda stop: serve(settings, stop, registry), stop_deadline=STOP_SECONDS)

    return exit_status(body, stderr=stderr)
