"""The facts by which the add-on is judged, read once: of the whole cluster for `status`, of its daemons for waiting.

Nodes and Pods are reduced while they are read: 5,000 nodes and 20,000 Pods are 200 MB of JSON.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from confcom.addon import api as kinds
from confcom.addon import chart_objects as chart
from confcom.addon import daemon_pods, drift
from confcom.addon.api import AT_ONCE, ClusterAccessError
from confcom.addon.daemon_pods import DaemonPod, PodState, Warned, daemon_pod
from confcom.addon.epc import PluginEpc, plugin_epc
from confcom.addon.helm import Helm, Revision
from confcom.addon.login import Cluster
from confcom.addon.owned_objects import is_helms, owned_objects
from confcom.addon.problems import Problem, shown
from confcom.addon.simulated_root import SERVED, RootFacts, read_facts, root_of_metrics, secret_name
from confcom.addon.tenants import TenantPod, TenantWorkload, refused_workloads, tenant_pod, used_by_node
from confcom.errors import ConfcomError
from confcom.kubernetes import objects
from confcom.kubernetes.names import Component, component
from confcom.kubernetes.node import Node
from confcom.kubernetes.objects import KubernetesObject, name_of, namespace_of, number, text
from confcom.kubernetes.workload import Workload

MAX_LOGS = 8
"""Limit of the logs that are read: many failing Pods fail for the same reason."""
MAX_PLUGINS = 20
"""Limit of the device plugins that are asked for their inventories, those of the fullest nodes first."""
MAX_HELPERS = 20
"""Limit of the quote helpers that are asked for their root: half of them the oldest, which have the oldest root."""
REFUSED_MINUTES = 20
"""Controllers repeat a refused creation every 17 minutes at least: older events are about the past."""

R = TypeVar("R")
Now = Callable[[], datetime]
UTC_NOW: Final[Now] = partial(datetime.now, UTC)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The cluster at about one moment."""

    namespace: str
    cluster: Mapping[str, str] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()
    daemon_sets: tuple[Workload, ...] = ()
    deployments: Mapping[Component, Workload] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)
    """By DaemonSet, the revision label of the Pods that are made from its newest template."""
    pods: tuple[DaemonPod, ...] = ()
    """The add-on's own Pods, oldest first."""
    warnings: Mapping[str, Warned] = field(default_factory=dict)
    """By object of the add-on's namespace, the latest warning event."""
    epc_pods: tuple[TenantPod, ...] | None = None
    """Tenants' Pods with the add-on's resources; None if they were not read."""
    inventories: Mapping[str, PluginEpc] = field(default_factory=dict)
    refused: tuple[TenantWorkload, ...] = ()
    root: RootFacts | None = None
    """None if no quote helper simulates, or if it was not read."""
    history: tuple[Revision, ...] = ()
    drift: drift.Comparison = field(default_factory=drift.Comparison)
    left: tuple[str, ...] = ()
    """Kind and name of the add-on's objects that are in no record of helm."""
    not_read: tuple[Problem, ...] = ()


def read_daemons(cluster: Cluster) -> Snapshot:
    """Read the nodes and the add-on's namespace."""
    reader = _Reader(cluster)
    base = reader.own_objects()
    reader.sort_pods(cluster.api.list(kinds.POD, cluster.namespace), base.warnings)
    return reader.with_pods(replace(base, nodes=reader.nodes()))


def read_root(cluster: Cluster, secret: str, now: Now = UTC_NOW) -> RootFacts:
    """Read the root in a Secret, and those of the quote helpers and of the simulated PCS that mount it."""
    reader = _Reader(cluster, now)
    base = reader.own_objects()
    reader.sort_pods(cluster.api.list(kinds.POD, cluster.namespace), base.warnings)
    with futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return reader.root(secret, reader.with_pods(base), pool)


def read_cluster(cluster: Cluster, helm: Helm, now: Now = UTC_NOW) -> Snapshot:
    """Read everything that `status` shows. Only the nodes and the add-on's namespace have to be readable."""
    reader, api = _Reader(cluster, now), cluster.api
    with futures.ThreadPoolExecutor(AT_ONCE) as pool:
        nodes, release = pool.submit(reader.nodes), pool.submit(reader.release, helm)
        base = reader.own_objects()
        everywhere = reader.optional(
            "Pods of other namespaces", lambda: reader.sort_pods(api.list(kinds.POD), base.warnings), default=False
        )
        if not everywhere:
            reader.sort_pods(api.list(kinds.POD, cluster.namespace), base.warnings)
        snapshot = reader.with_pods(replace(base, nodes=nodes.result()))
        history, comparison, left = release.result()
        secret = secret_name(snapshot.daemon_sets)
        snapshot = replace(
            snapshot,
            epc_pods=tuple(reader.of_tenants) if everywhere else None,
            inventories=reader.inventories(snapshot, pool),
            refused=reader.optional("Pods that cannot be created", reader.refused, default=()),
            root=reader.root(secret, snapshot, pool) if secret else None,
            history=history,
            drift=comparison,
            left=left,
        )
    installed = snapshot.daemon_sets or history
    return replace(snapshot, not_read=tuple(sorted(reader.not_read, key=str)) if installed else ())


class _Reader:
    """Reads the parts of one snapshot."""

    def __init__(self, cluster: Cluster, now: Now = UTC_NOW) -> None:
        self.now = now
        self.cluster, self.api, self.namespace = cluster, cluster.api, cluster.namespace
        self.not_read: list[Problem] = []
        self.of_daemons: dict[str, DaemonPod] = {}
        self.of_tenants: list[TenantPod] = []
        self.unexplained: dict[str, tuple[KubernetesObject, str]] = {}
        """Pods whose logs say why they are not ready, with the latest warning about them."""

    def optional(self, what: str, read: Callable[[], R], *, default: R, node: str = "") -> R:
        try:
            return read()
        except (ConfcomError, ValueError) as error:
            why = (error.why or error.what) if isinstance(error, ConfcomError) else str(error)
            self.not_read.append(Problem(f"{what}: {why}", node, code="not-read"))
            return default

    def own_objects(self) -> Snapshot:
        """Read all but Pods, and before these: no DaemonSet is newer than its Pods."""
        api, namespace = self.api, self.namespace
        daemon_sets = chart.workloads_in(api.list(kinds.DAEMON_SET, namespace))
        deployments = chart.workloads_in(api.list(kinds.DEPLOYMENT, namespace))
        newest: dict[str, tuple[int, str]] = {}
        for one in api.list(kinds.REVISION, namespace):
            found = (number(one, "revision"), text(one, "metadata", "labels", daemon_pods.REVISION_LABEL))
            name = text(objects.owner_of(one), "name")
            newest[name] = max(newest.get(name, found), found)
        return Snapshot(
            namespace,
            self.cluster.to_json(),
            daemon_sets=daemon_sets,
            deployments={each.component: each for each in deployments if each.component},
            templates={name: label for name, (_, label) in newest.items()},
            warnings=daemon_pods.warnings_in(api.list(kinds.EVENT, namespace, fields={"type": "Warning"})),
        )

    def nodes(self) -> tuple[Node, ...]:
        return tuple(map(Node.parse, self.api.list(kinds.NODE)))

    def sort_pods(self, pods: Iterable[KubernetesObject], warnings: Mapping[str, Warned]) -> bool:
        """Reduce Pods; of one that is not ours and has none of our resources, nothing is kept."""
        for pod in pods:
            if namespace_of(pod) == self.namespace and component(objects.labels_of(pod)):
                name = name_of(pod)
                warning = warnings[name].text if name in warnings else ""
                self.of_daemons[name] = daemon_pod(pod, warning)
                if daemon_pods.needs_log(pod):
                    self.unexplained[name] = (pod, warning)
            elif found := tenant_pod(pod):
                self.of_tenants.append(found)
        return True

    def with_pods(self, snapshot: Snapshot) -> Snapshot:
        """Add the daemons' Pods, some of them explained by their logs."""
        # A log comes through the kubelet; a silent kubelet would only cost the timeout.
        alive = {node.name for node in snapshot.nodes if node.ready}
        asked = [one for one in self.unexplained.values() if objects.node_of(one[0]) in alive][:MAX_LOGS]
        for pod, warning in asked:
            with contextlib.suppress(ClusterAccessError):  # its state says something too
                logged = daemon_pods.own_reason(self.api.log(name_of(pod), self.namespace))
                self.of_daemons[name_of(pod)] = daemon_pod(pod, warning, logged)
        return replace(snapshot, pods=tuple(sorted(self.of_daemons.values(), key=lambda one: (one.created, one.name))))

    def release(self, helm: Helm) -> tuple[tuple[Revision, ...], drift.Comparison, tuple[str, ...]]:
        history: tuple[Revision, ...] | None = self.optional("the release", helm.history, default=None)
        # An unfinished change is undone before another one. A failed one is repeated, as helm has recorded it.
        if history is None or (history and history[-1].status not in {"deployed", "failed"}):
            return history or (), drift.Comparison(), ()
        read: Callable[[], tuple[KubernetesObject, ...]] = helm.manifests if history else tuple
        manifests = self.optional("the release's objects", read, default=None)
        if manifests is None:
            return history, drift.Comparison(), ()
        compared = partial(drift.compare, self.api, manifests, self.namespace)
        difference = self.optional("the release's objects", compared, default=drift.Comparison())
        nothing: tuple[str, ...] = ()
        left = self.optional("objects without a record of helm", partial(self.left, manifests), default=nothing)
        return history, difference, left

    def left(self, manifests: Iterable[KubernetesObject]) -> tuple[str, ...]:
        """Return the add-on's objects beside those of helm's record, which may be missing."""
        known, found = {f"{one['kind']} {name_of(one)}" for one in manifests}, tuple(owned_objects(self.cluster))
        if known or chart.daemons_in(
            chart.workloads_in(found)
        ):  # what helm did not install belongs to people, who may need no helm
            found = tuple(filter(is_helms, found))
        return tuple(name for one in found if (name := f"{one['kind']} {name_of(one)}") not in known)

    def inventories(self, snapshot: Snapshot, pool: futures.Executor) -> Mapping[str, PluginEpc]:
        ready = (pod for pod in snapshot.pods if pod.state is PodState.READY)
        plugins = {pod.node: pod for pod in ready if pod.component is Component.DEVICE_PLUGIN}
        used, full = used_by_node(self.of_tenants), set[str]()
        for node in snapshot.nodes:
            requested = used.get((node.name, node.resources.epc), 0)
            if requested and requested >= node.epc_mib:
                full.add(node.name)
        # Only its plugin knows whether a full node is to have less than its Pods request.
        ordered = sorted(plugins.values(), key=lambda pod: pod.node not in full)
        what = "the EPC that its device plugin found"
        if unasked := [pod.node for pod in ordered[MAX_PLUGINS:] if pod.node in full]:
            why = f"{shown(unasked)} are full, and of such nodes {MAX_PLUGINS} are asked"
            self.not_read.append(Problem(f"{what}: {why}", code="not-read"))
        return self.pages(what, ordered[:MAX_PLUGINS], "inventory", plugin_epc, pool)

    def root(self, secret: str, snapshot: Snapshot, pool: futures.Executor) -> RootFacts:
        owners = {daemon.name for daemon in snapshot.daemon_sets if secret_name([daemon]) == secret}
        ready = [pod for pod in snapshot.pods if pod.state is PodState.READY]
        helpers = [pod for pod in ready if pod.owner in owners]
        if len(helpers) > MAX_HELPERS:
            helpers = [*helpers[: MAX_HELPERS // 2], *helpers[-MAX_HELPERS // 2 :]]
        roots = dict(self.pages("the simulated root of its quote helper", helpers, "metrics", root_of_metrics, pool))
        unread = [pod.node for pod in helpers if pod.node not in roots]
        serving = [pod for pod in ready if pod.component is Component.SIMULATED_PCS]
        if secret_name(filter(None, [snapshot.deployments.get(Component.SIMULATED_PCS)])) == secret:
            served = self.pages("the root of the simulated PCS", serving, "metrics", root_of_metrics, pool)
            roots.update((SERVED, root) for root in served.values())
        facts = read_facts(self.cluster, secret, self.now())
        return replace(facts, roots=roots, unread=shown(unread))

    def pages(
        self, what: str, pods: Sequence[DaemonPod], page: str, parse: Callable[[str], R | None], pool: futures.Executor
    ) -> Mapping[str, R]:
        """Return by node what these daemons' probe servers have on a page."""

        def ask(pod: DaemonPod) -> R | None:
            read = partial(self.api.probe_page, pod.name, self.namespace, page)
            return self.optional(what, lambda: parse(read()), default=None, node=pod.node)

        return {pod.node: found for pod, found in zip(pods, pool.map(ask, pods), strict=True) if found}

    def refused(self) -> tuple[TenantWorkload, ...]:
        oldest = datetime.now(UTC) - timedelta(minutes=REFUSED_MINUTES)
        events = self.api.list(kinds.EVENT, fields={"reason": daemon_pods.FAILED_CREATE})
        recent = [one for one in events if (objects.time_of(daemon_pods.event_time(one)) or oldest) > oldest]
        return tuple(one for one in refused_workloads(recent) if one.namespace != self.namespace)
