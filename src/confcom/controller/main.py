"""The controller's composition root and entry point."""

import asyncio
import logging
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TextIO

from prometheus_client import CollectorRegistry

from confcom.controller.api_server import Connection, Informer, connect
from confcom.controller.facts import node_facts, plugin_pod
from confcom.controller.metrics import ControllerMetrics
from confcom.controller.node_patches import NODES, NodePatches
from confcom.controller.plugin_inventories import Fetch, PluginInventories, fetch_inventory
from confcom.controller.settings import ControllerSettings, parse_settings
from confcom.controller.state import NOTHING, UNKNOWN, ClusterState
from confcom.daemon.common_metrics import ReadinessMetrics
from confcom.daemon.probe_server import Route, serve_probes, standard_routes
from confcom.daemon.readiness_log import NotReady, ReadinessLog
from confcom.daemon.supervision import exit_status, run_daemon, run_until_stopped
from confcom.kubernetes.epc_accounting import AccountingKind
from confcom.kubernetes.objects import KubernetesObject, name_of

DEEPEST = 12_000
"""Python's recursion limit, which must allow the 10,000 levels of JSON that an API server accepts. CPython 3.12 reads
fewer levels, whatever limit is set (1,500 in 3.12.1). The controller's image must not have that version."""
STALE_SECONDS = 180.0
"""Seconds without contact to the API server until the controller is unready: twice QUIET_SECONDS, and a retry."""
STARTING = NotReady("starting", code="objects-not-listed")
STOP_SECONDS = 5.0
"""Timeout in seconds of the orderly stop, which takes milliseconds."""


@dataclass(frozen=True, slots=True)
class Controller:
    patches: NodePatches
    inventories: PluginInventories
    informers: Sequence[Informer]

    async def run(self, stop: asyncio.Event) -> None:
        synced = [informer.synced for informer in self.informers]
        informers = [informer.run() for informer in self.informers]
        await run_until_stopped(stop, *informers, self.inventories.run(), self.patches.run(synced))

    def problem(self) -> NotReady | None:
        """Return why the controller is not ready (its data is incomplete or stale); None if it is ready."""
        for one in self.informers:
            if not one.synced.is_set():
                why = one.problem or "no answer yet"
                return NotReady(f"{one.name} have not been listed yet: {why}", code="objects-not-listed")
            if (age := time.monotonic() - one.last_contact) > STALE_SECONDS:
                why = one.problem or "no event"
                return NotReady(f"{one.name} are not known for {age:.0f} s: {why}", code="objects-stale")
        return None


def assemble(
    settings: ControllerSettings, connection: Connection, fetch: Fetch, metrics: ControllerMetrics
) -> Controller:
    clock, jitter, release = time.monotonic, random.SystemRandom().random, settings.installation
    state = ClusterState(settings.rules, clock)
    patches = NodePatches(state, connection, release, metrics, clock)
    inventories = PluginInventories(state, fetch, metrics, patches.wake, clock, jitter)

    def take_node(node: KubernetesObject) -> None:
        state.set_node(node_facts(node, settings.rules.resources))

    def take_pod(pod: KubernetesObject) -> None:
        plugin = plugin_pod(pod, release)
        if plugin is None:
            state.remove_plugin(name_of(pod))
        elif state.set_plugin(plugin):
            inventories.ask(plugin)

    path, labels = f"api/v1/namespaces/{release.namespace}/pods", release.selector
    parts = (connection, metrics, patches.wake, clock, jitter)
    informers = [Informer("pods", path, labels, labels, take_pod, state.remove_plugin, state.plugins, *parts)]
    # The list has no selector: a node that lost its label while no controller ran still has its key.
    informers += [
        Informer("nodes", NODES, "", selector, take_node, state.doubt_node, state.nodes, *parts)
        for selector in settings.node_selector
    ]
    for accounting in (*AccountingKind, NOTHING, UNKNOWN):
        metrics.plugins.labels(accounting).set_function(partial(state.count_plugins, accounting))
    return Controller(patches, inventories, informers)


def probe_routes(controller: Controller, registry: CollectorRegistry) -> dict[str, Route]:
    log = ReadinessLog(STARTING, time.monotonic)

    def problem() -> NotReady | None:
        return log.tell(controller.problem())

    registry.register(ReadinessMetrics("controller", problem))
    return standard_routes(problem, registry)


async def serve(settings: ControllerSettings, stop: asyncio.Event, registry: CollectorRegistry) -> None:
    """Run the controller until `stop` is set, even without an API server; ConfcomError if it cannot start."""
    sys.setrecursionlimit(DEEPEST)
    client = connect(settings.kubeconfig)
    fetch = partial(fetch_inventory, port=settings.plugin_port)
    controller = assemble(settings, Connection(client), fetch, ControllerMetrics(registry))
    try:
        with serve_probes(probe_routes(controller, registry), settings.probe_address):
            await controller.run(stop)
    finally:
        await client.aclose()


def main(arguments: Sequence[str], *, prog: str, environ: Mapping[str, str], stderr: TextIO) -> int:
    def body(settings: ControllerSettings, registry: CollectorRegistry) -> int:
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs each request
        return run_daemon(lambda stop: serve(settings, stop, registry), stop_deadline=STOP_SECONDS)

    return exit_status(lambda: parse_settings(arguments, prog=prog, environ=environ), body, stderr=stderr)
