"""The controller's composition root and entry point."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TextIO

from prometheus_client import CollectorRegistry

from confcom.controller.api_server.applying import Applier
from confcom.controller.api_server.cluster_api import ClusterApi, connect
from confcom.controller.api_server.following import Follower, NodeSink, PodSink
from confcom.controller.limits_and_deadlines import STALE_SECONDS, STOP_SECONDS
from confcom.controller.metrics import ControllerMetrics
from confcom.controller.plugins.inventory_client import InventoryClient
from confcom.controller.plugins.plugin_asker import PluginAsker
from confcom.controller.reconcile.state import ClusterState
from confcom.controller.settings import ControllerSettings, parse_settings
from confcom.daemon.log_stream import LogMetrics, LogStream
from confcom.daemon.logs import configure_logging
from confcom.daemon.probe_server import ProbeServer
from confcom.daemon.probes import ProbeResponse, Readiness, Route, standard_routes
from confcom.daemon.readiness_log import ReadinessLog
from confcom.daemon.supervision import exit_status, run_daemon, run_until_stopped

_logger = logging.getLogger(__name__)


class Controller:
    """The controller's parts, connected to each other.

    Args:
        settings: what is configured.
        api: the API server.
        inventories: asks the plugins.
        metrics: counts.
        instance: the name of this Pod, for Events.
    """

    def __init__(
        self,
        settings: ControllerSettings,
        api: ClusterApi,
        inventories: InventoryClient,
        *,
        metrics: ControllerMetrics,
        instance: str,
    ) -> None:
        clock, jitter, rules = time.monotonic, random.SystemRandom().random, settings.rules
        state = ClusterState(rules, clock)
        self._applier = Applier(
            state,
            api,
            rules=rules,
            release=settings.release,
            metrics=metrics,
            instance=instance,
            clock=clock,
            utc_now=lambda: datetime.now(UTC),
        )
        changed = self._applier.wake
        self._asker = PluginAsker(
            state, inventories.fetch, metrics=metrics, answered=changed, clock=clock, jitter=jitter
        )
        nodes = NodeSink(state, rules.resources)
        pods = PodSink(state, rules.resources, settings.release, self._asker.wake)
        self._followers = {
            name: Follower(name, source, sink, metrics=metrics, changed=changed, clock=clock, jitter=jitter)
            for name, source, sink in (("nodes", api.nodes, nodes), ("pods", api.pods, pods))
        }
        ages = {
            name: lambda follower=follower: clock() - follower.last_contact
            for name, follower in self._followers.items()
        }
        metrics.show(state.plugins_by_accounting, ages)

    async def run(self, stop: asyncio.Event) -> None:
        """Reconcile until `stop` is set."""
        synced = [follower.synced for follower in self._followers.values()]
        followers = [follower.run() for follower in self._followers.values()]
        await run_until_stopped(stop, *followers, self._asker.run(), self._applier.run(synced))

    def not_ready_reason(self) -> str | None:
        """Return why the controller is not ready, or None: what it knows is not there yet, or old."""
        for name, follower in self._followers.items():
            age = time.monotonic() - follower.last_contact
            if not follower.synced.is_set() or age > STALE_SECONDS:
                what = "have not been listed yet" if not follower.synced.is_set() else f"are not known for {age:.0f} s"
                return ": ".join(part for part in (f"{name} {what}", follower.problem) if part)
        return None


def probe_routes(controller: Controller, registry: CollectorRegistry) -> dict[str, Route]:
    """Return the probe routes."""
    readiness = Readiness()
    log = ReadinessLog(readiness.reason, time.monotonic)
    standard = standard_routes(readiness, registry, time.monotonic)

    def ready() -> ProbeResponse:
        readiness.reason = controller.not_ready_reason()
        log.tell(readiness.reason)
        return standard["/readyz"]()

    return standard | {"/readyz": ready}


async def serve(
    settings: ControllerSettings, stop: asyncio.Event, registry: CollectorRegistry, environ: Mapping[str, str]
) -> None:
    """Run the controller until `stop` is set.

    Raises:
        ConfcomError: it cannot start. While the API server is away it waits instead.
    """
    api = connect(settings.kubeconfig, settings.rules.resources, environ)
    inventories = InventoryClient(settings.plugin_port)
    metrics = ControllerMetrics(registry)
    controller = Controller(settings, api, inventories, metrics=metrics, instance=environ.get("HOSTNAME", ""))
    probes = ProbeServer(probe_routes(controller, registry))
    try:
        if settings.probe_address is not None:
            address = await probes.start(settings.probe_address)
            _logger.info("answering probes", extra={"address": address})
        await controller.run(stop)
    finally:
        await probes.close()
        await inventories.close()
        await api.close()


def main(arguments: Sequence[str], *, prog: str, environ: Mapping[str, str], stderr: TextIO) -> int:
    """Run the controller in the foreground until SIGTERM, SIGINT or SIGHUP.

    Returns:
        The exit code (confcom.errors.ExitCode).
    """

    def body(log: LogStream) -> int:
        settings = parse_settings(arguments, prog=prog, environ=environ)
        configure_logging(level=settings.log_level, log_format=settings.log_format, stream=log)
        # It logs each request, of which there are thousands.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        registry = CollectorRegistry()
        LogMetrics(log, registry)
        return run_daemon(lambda stop: serve(settings, stop, registry, environ), stop_deadline=STOP_SECONDS)

    return exit_status(body, stderr=stderr)
