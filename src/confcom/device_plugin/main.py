"""The device plugin's composition root: what it finds, what it serves, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from prometheus_client import CollectorRegistry

from confcom.daemon.logs import configure_logging
from confcom.daemon.probes import JSON, ProbeResponse, ProbeServer, Readiness, Route, standard_routes
from confcom.daemon.supervision import exit_status, run_daemon, run_until_stopped
from confcom.daemon.unix_socket import MAX_PATH_BYTES
from confcom.device_plugin.allocation import Allocator
from confcom.device_plugin.discovery import Discovery, discover
from confcom.device_plugin.endpoint import (
    TOKEN_BYTES,
    Endpoint,
    refuse_second_plugin,
    remove_stale_sockets,
    socket_name,
)
from confcom.device_plugin.host import HostFiles
from confcom.device_plugin.inventory import ResourceState, encode_inventory
from confcom.device_plugin.metrics import PluginMetrics
from confcom.device_plugin.registration import Registrar
from confcom.device_plugin.resources import DEFAULT_MAX_EPC_DEVICES, Resource, ResourcePlan, plan_resources
from confcom.device_plugin.servicer import ResourceServicer
from confcom.device_plugin.settings import PluginSettings, parse_settings
from confcom.errors import SettingsError
from confcom.kubelet_api.device_list import encode_device_list
from confcom.kubelet_api.services import KUBELET_SOCKET_NAME

_logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""Ending takes milliseconds; a kubelet that keeps a connection half open does not hold us up."""


@dataclass(frozen=True, slots=True)
class DevicePlugin:
    """One node's plugin, composed and not yet started."""

    discovery: Discovery
    plan: ResourcePlan
    registrars: tuple[Registrar, ...]

    async def start(self) -> None:
        """Serve every resource. From here on the kubelet could be answered."""
        for registrar in self.registrars:
            await registrar.start()

    async def close(self) -> None:
        """End every stream and server, and leave no socket behind."""
        await asyncio.gather(*(registrar.close() for registrar in self.registrars))

    def hindrance(self) -> str | None:
        """Why a kubelet that dials now would not be answered, or None; being registered is not ours alone to decide."""
        unserved = [registrar.resource_name for registrar in self.registrars if registrar.socket_path is None]
        return f"no socket is served for {', '.join(unserved)}" if unserved else None

    def inventory(self) -> bytes:
        """The document behind `/inventory`."""
        states = [
            ResourceState(resource, registrar.socket_path.name if registrar.socket_path else "", registrar.status)
            for resource, registrar in zip(self.plan.resources, self.registrars, strict=True)
        ]
        return encode_inventory(self.discovery, self.plan, states)


def compose(
    settings: PluginSettings,
    *,
    metrics: PluginMetrics,
    new_token: Callable[[], str],
    jitter: Callable[[], float],
    clock: Callable[[], float],
) -> DevicePlugin:
    """Discover, plan, and put the parts together.

    Args:
        settings: what was asked for.
        metrics: where the parts count.
        new_token: a name part that nobody used before.
        jitter: random numbers in [0, 1).
        clock: monotonic seconds.

    Raises:
        ConfcomError: there is nothing to offer here, or it cannot be offered.
    """
    discovery = discover(HostFiles(settings.host_root), simulated_epc_mib=settings.simulated_epc_mib)
    plan = plan_resources(discovery, settings.resources)
    metrics.record_discovery(discovery, plan)

    def registrar_of(resource: Resource) -> Registrar:
        allocator = Allocator.of(resource, discovery, aesmd_directory=settings.aesmd_dir)
        list_bytes = encode_device_list(resource.count)
        metrics.list_bytes.labels(resource.name).set(len(list_bytes))

        def new_endpoint() -> Endpoint:
            path = settings.device_plugin_dir / socket_name(resource, settings.installation, new_token())
            _require_short(path)
            return Endpoint(path, ResourceServicer(allocator, list_bytes, metrics=metrics, clock=clock))

        return Registrar(
            resource_name=resource.name,
            kubelet_socket=settings.device_plugin_dir / KUBELET_SOCKET_NAME,
            new_endpoint=new_endpoint,
            metrics=metrics,
            jitter=jitter,
            clock=clock,
        )

    return DevicePlugin(discovery, plan, tuple(registrar_of(resource) for resource in plan.resources))


def probe_routes(plugin: DevicePlugin, registry: CollectorRegistry) -> dict[str, Route]:
    """The probes: ready means that a kubelet could be answered now; `/inventory` says whether it has registered us."""
    readiness = Readiness()
    standard = standard_routes(readiness, registry)

    def ready() -> ProbeResponse:
        readiness.reason = plugin.hindrance()
        return standard["/readyz"]()

    def inventory() -> ProbeResponse:
        return ProbeResponse(plugin.inventory(), content_type=JSON)

    return standard | {"/readyz": ready, "/inventory": inventory}


async def serve(settings: PluginSettings, stop: asyncio.Event) -> None:
    """Run the plugin until `stop` is set.

    Raises:
        ConfcomError: it cannot start.
    """
    registry = CollectorRegistry()
    plugin = compose(
        settings,
        metrics=PluginMetrics(registry),
        new_token=lambda: secrets.token_hex(TOKEN_BYTES),
        jitter=random.SystemRandom().random,
        clock=time.monotonic,
    )
    _logger.info(
        "SGX found",
        extra={
            "platform": plugin.discovery.platform,
            "epc_mib": plugin.discovery.epc_mib,
            "reason": plugin.discovery.reason,
            "accounting": plugin.plan.reason,
        },
    )
    if settings.resources.max_epc_devices > DEFAULT_MAX_EPC_DEVICES < plugin.plan.advertised_mib:
        _logger.warning(
            "so many devices stall the kubelet after its restart",
            extra={"devices": plugin.plan.advertised_mib, "seconds_when_all_are_allocated": plugin.plan.stall_seconds},
        )
    refuse_second_plugin(settings.device_plugin_dir, plugin.plan.resources, settings.installation)
    probes = ProbeServer(probe_routes(plugin, registry))
    try:
        if settings.probe_address is not None:
            address = await probes.start(settings.probe_address)
            _logger.info("answering probes on %s", address)
        if removed := remove_stale_sockets(settings.device_plugin_dir):
            _logger.info("removed sockets that earlier instances left", extra={"sockets": removed})
        await plugin.start()
        await run_until_stopped(stop, *(registrar.run() for registrar in plugin.registrars))
    finally:
        await plugin.close()
        await probes.close()


def main(arguments: Sequence[str], *, prog: str, environ: Mapping[str, str], stderr: TextIO) -> int:
    """Run the device plugin in the foreground until SIGTERM, SIGINT or SIGHUP.

    Args:
        arguments: the command line without the program's name.
        prog: the program's name, for help and errors.
        environ: the process environment.
        stderr: where logs and errors go.

    Returns:
        The exit code (confcom.errors.ExitCode).
    """

    def body() -> int:
        settings = parse_settings(arguments, prog=prog, environ=environ)
        configure_logging(level=settings.log_level, log_format=settings.log_format, stream=stderr)
        return run_daemon(lambda stop: serve(settings, stop), stop_deadline=STOP_SECONDS)

    return exit_status(body, stderr=stderr)


def _require_short(path: Path) -> None:
    size = len(os.fsencode(path))
    if size > MAX_PATH_BYTES:
        raise SettingsError(
            f"the device plugin's socket path is {size} bytes long: {path}",
            why=f"a unix socket's path has at most {MAX_PATH_BYTES} bytes here",
            remedy="give a --device-plugin-dir with a shorter path",
        )
