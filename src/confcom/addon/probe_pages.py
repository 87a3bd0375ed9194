"""Pages of the daemons' probe servers: the device plugins' inventories, and the simulated roots in use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TypeVar

from confcom.addon.daemon_pods import DaemonPod, PodState
from confcom.addon.login import Cluster
from confcom.addon.problems import OptionalReads, Problem, shown
from confcom.addon.simulated_root import SERVED, RootFacts, read_facts, root_of_metrics, secret_name
from confcom.kubernetes.inventory import Inventory
from confcom.kubernetes.names import Component
from confcom.kubernetes.node import Node
from confcom.kubernetes.workload import Workload

MAX_PLUGINS = 20
"""Maximum number of device plugins that are asked for their inventory; plugins of full nodes come first."""
MAX_HELPERS = 20
"""Maximum number of quote helpers that are asked for their root: the oldest and the newest, half of each."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ProbePages:
    """Reads the probe pages of ready daemons, several at once."""

    cluster: Cluster
    pool: futures.Executor
    reads: OptionalReads

    def inventories(
        self, nodes: Iterable[Node], pods: Iterable[DaemonPod], used: Mapping[tuple[str, str], int]
    ) -> Mapping[str, Inventory]:
        """Return each node's inventory of EPC by its device plugin; `used` has the requests of Pods."""
        ready = (pod for pod in pods if pod.state is PodState.READY)
        plugins = {pod.node: pod for pod in ready if pod.component is Component.DEVICE_PLUGIN}
        # Only a full node's plugin knows whether the node is to have less EPC than its Pods request.
        full = {node.name for node in nodes if 0 < used.get((node.name, node.resources.epc), 0) >= node.epc_mib}
        ordered = sorted(plugins.values(), key=lambda pod: pod.node not in full)
        what = "the EPC that its device plugin found"
        if unasked := [pod.node for pod in ordered[MAX_PLUGINS:] if pod.node in full]:
            why = f"{shown(unasked)} are full too, and only {MAX_PLUGINS} plugins are asked"
            self.reads.failures.append(Problem(f"{what}: {why}", code="not-read"))
        found = self._ask(what, ordered[:MAX_PLUGINS], "inventory", Inventory.from_json)
        return {node: one for node, one in found.items() if one.accounting.kind and one.epc.mib}

    def roots(self, secret: str, workloads: Sequence[Workload], pods: Iterable[DaemonPod], now: datetime) -> RootFacts:
        """Return the Secret's root, and the roots in use by quote helpers and simulated PCS that mount it."""
        mounting = [workload for workload in workloads if secret_name([workload]) == secret]
        owners = {workload.name for workload in mounting}
        ready = [pod for pod in pods if pod.state is PodState.READY]
        helpers = [pod for pod in ready if pod.component is Component.QUOTE_HELPER and pod.owner in owners]
        if len(helpers) > MAX_HELPERS:
            helpers = [*helpers[: MAX_HELPERS // 2], *helpers[-MAX_HELPERS // 2 :]]
        roots = dict(self._ask("the simulated root of its quote helper", helpers, "metrics", root_of_metrics))
        unread = [pod.node for pod in helpers if pod.node not in roots]
        if any(workload.component is Component.SIMULATED_PCS for workload in mounting):
            serving = [pod for pod in ready if pod.component is Component.SIMULATED_PCS]
            served = self._ask("the root of the simulated PCS", serving, "metrics", root_of_metrics)
            roots.update((SERVED, root) for root in served.values())
        return replace(read_facts(self.cluster, secret, now), roots=roots, unread=shown(unread))

    def _ask(
        self, what: str, pods: Sequence[DaemonPod], page: str, parse: Callable[[str], R | None]
    ) -> Mapping[str, R]:
        def ask(pod: DaemonPod) -> R | None:
            read = partial(self.cluster.api.probe_page, pod.name, self.cluster.namespace, page)
            return self.reads.read(what, lambda: parse(read()), default=None, node=pod.node)

        return {pod.node: answer for pod, answer in zip(pods, self.pool.map(ask, pods), strict=True) if answer}
