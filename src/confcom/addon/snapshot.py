"""A snapshot of the add-on's state: `status` reads the whole cluster, and a waiting command only the daemons.

To save memory, each node and Pod is parsed as it arrives: 5,000 nodes and 20,000 Pods are 200 MB of JSON.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from confcom.addon import api as kinds
from confcom.addon import daemon_pods
from confcom.addon.api import AT_ONCE, Api, ClusterAccessError, at_once
from confcom.addon.chart_objects import workloads_in
from confcom.addon.daemon_pods import DaemonPod, PodState, Warned, daemon_pod
from confcom.addon.drift import Comparison, compare
from confcom.addon.helm import Helm, Revision
from confcom.addon.login import Cluster
from confcom.addon.owned_objects import is_helms, owned_objects
from confcom.addon.problems import OptionalReads, Problem, shown
from confcom.addon.simulated_root import SERVED, RootFacts, read_facts, root_of_metrics, secret_name
from confcom.addon.tenants import TenantPod, TenantWorkload, refused_workloads, tenant_pod, used_by_node
from confcom.daemon.quote_counts import QuoteCounts
from confcom.kubernetes import objects
from confcom.kubernetes.inventory import Inventory
from confcom.kubernetes.names import Component, component
from confcom.kubernetes.node import Node
from confcom.kubernetes.objects import KubernetesObject, name_of, namespace_of, number, text
from confcom.kubernetes.workload import Workload

MAX_LOGS = 8
"""Maximum number of logs that are read. More logs would tell little: failing Pods often share one reason."""
REFUSED_MINUTES = 20
"""Older events about refused Pods are ignored: a controller retries a creation at least every 17 minutes."""
MAX_PLUGINS = 20
"""Maximum number of device plugins asked for their inventory; plugins on full nodes are asked first."""
MAX_HELPERS = 20
"""Maximum number of quote helpers that are asked for their root; half are the oldest, half the newest."""

Now = Callable[[], datetime]
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Snapshot:
    namespace: str
    nodes: tuple[Node, ...] = ()
    daemon_sets: tuple[Workload, ...] = ()
    deployments: Mapping[Component, Workload] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)
    """Keyed by DaemonSet: the revision label of the Pods that are made from its newest template."""
    pods: tuple[DaemonPod, ...] = ()
    """The add-on's own Pods, oldest first."""
    warnings: Mapping[str, Warned] = field(default_factory=dict)
    """Keyed by the name of an object in the add-on's namespace: the latest warning about the object."""
    epc_pods: tuple[TenantPod, ...] | None = None
    """Tenants' Pods that use the add-on's resources; None if the Pods were not read."""
    inventories: Mapping[str, Inventory] = field(default_factory=dict)
    refused: tuple[TenantWorkload, ...] = ()
    root: RootFacts | None = None
    """The simulated root; None if no quote helper simulates SGX, or if the root was not read."""
    history: tuple[Revision, ...] = ()
    drift: Comparison = field(default_factory=Comparison)
    """How the cluster differs from helm's record of the release."""
    left: tuple[str, ...] = ()
    """The add-on's objects (kind and name) of which helm has no record."""
    not_read: tuple[Problem, ...] = ()


def read_daemons(cluster: Cluster) -> Snapshot:
    base, nodes = _own_objects(cluster), read_nodes(cluster.api)
    pods = cluster.api.list(kinds.POD, cluster.namespace)
    return replace(_with_pods(cluster, base, pods, lambda: nodes), epc_pods=None)


def read_root(cluster: Cluster, secret: str, now: Now) -> RootFacts:
    """Read the Secret's root, and the roots of quote helpers and simulated PCS that mount the Secret."""
    own = _with_pods(cluster, _own_objects(cluster), cluster.api.list(kinds.POD, cluster.namespace), tuple)
    return _ProbePages(cluster, OptionalReads()).roots(own, secret, now())


def read_quote_counts(cluster: Cluster, helpers: Sequence[DaemonPod]) -> Mapping[str, QuoteCounts]:
    """Return the numbers of quotes and errors of at most MAX_HELPERS ready quote helpers, keyed by node."""
    asked = [pod for pod in helpers if pod.state is PodState.READY][:MAX_HELPERS]
    pages = _ProbePages(cluster, OptionalReads())
    return pages.ask("the number of its quotes", asked, "metrics", QuoteCounts.of_metrics)


def read_cluster(helm: Helm, now: Now) -> Snapshot:
    """Read everything that `status` shows. The user needs access only to nodes and our namespace."""
    cluster, api, reads = helm.cluster, helm.cluster.api, OptionalReads()
    with futures.ThreadPoolExecutor(AT_ONCE) as pool:
        nodes, release = pool.submit(read_nodes, api), pool.submit(_release, helm, reads)
        read = partial(_with_pods, cluster, _own_objects(cluster), nodes=nodes.result)
        everywhere = partial(api.list, kinds.POD)
        snapshot = reads.read("Pods of other namespaces", lambda: read(everywhere()))
        if snapshot is None:
            snapshot = replace(read(api.list(kinds.POD, cluster.namespace)), epc_pods=None)
        events = partial(api.list, kinds.EVENT, fields={"reason": daemon_pods.FAILED_CREATE})
        oldest = now() - timedelta(minutes=REFUSED_MINUTES)
        refused = reads.read("Pods that cannot be created", lambda: refused_workloads(events(), oldest)) or ()
        pages, secret = _ProbePages(cluster, reads), secret_name(snapshot.daemon_sets)
        history, drift, left = release.result()
        snapshot = replace(
            snapshot,
            inventories=pages.inventories(snapshot),
            refused=tuple(one for one in refused if one.namespace != cluster.namespace),
            root=pages.roots(snapshot, secret, now()) if secret else None,
            history=history,
            drift=drift,
            left=left,
        )
    installed = snapshot.daemon_sets or history
    return replace(snapshot, not_read=tuple(sorted(reads.failures, key=str)) if installed else ())


def _release(helm: Helm, reads: OptionalReads) -> tuple[tuple[Revision, ...], Comparison, tuple[str, ...]]:
    """Return helm's revisions, the cluster's differences from helm's record, and our unrecorded objects."""
    api, namespace = helm.cluster.api, helm.cluster.namespace
    history = reads.read("the release", helm.history)
    # Do not compare an unfinished change: it will be undone. Compare a failed change: it will be repeated.
    if history is None or (history and history[-1].status not in {"deployed", "failed"}):
        return history or (), Comparison(), ()
    read: Callable[[], tuple[KubernetesObject, ...]] = helm.manifests if history else tuple
    manifests = reads.read("the release's objects", read)
    if manifests is None:
        return history, Comparison(), ()
    drift = reads.read("the release's objects", partial(compare, api, manifests, namespace)) or Comparison()
    owned = reads.read("objects without a record of helm", lambda: tuple(owned_objects(helm.cluster))) or ()
    recorded = {f"{one['kind']} {name_of(one)}" for one in manifests}
    # Leave out objects that helm did not install: they may be a user's installation without helm.
    if recorded or any(workload.kind == "DaemonSet" for workload in workloads_in(owned)):
        owned = tuple(filter(is_helms, owned))
    left = (f"{one['kind']} {name_of(one)}" for one in owned)
    return history, drift, tuple(name for name in left if name not in recorded)


def read_nodes(api: Api) -> tuple[Node, ...]:
    return tuple(map(Node.parse, api.list(kinds.NODE)))


def _own_objects(cluster: Cluster) -> Snapshot:
    """Read our objects except Pods. Pods are read later: their data must be newer than the DaemonSets'."""
    api, namespace = cluster.api, cluster.namespace
    daemon_sets = workloads_in(api.list(kinds.DAEMON_SET, namespace))
    deployments = workloads_in(api.list(kinds.DEPLOYMENT, namespace))
    newest: dict[str, tuple[int, str]] = {}
    for revision in api.list(kinds.REVISION, namespace):
        numbered = (number(revision, "revision"), text(revision, "metadata", "labels", daemon_pods.REVISION_LABEL))
        owner = text(objects.owner_of(revision), "name")
        newest[owner] = max(newest.get(owner, numbered), numbered)
    return Snapshot(
        namespace,
        daemon_sets=daemon_sets,
        deployments={each.component: each for each in deployments if each.component},
        templates={owner: label for owner, (_, label) in newest.items()},
        warnings=daemon_pods.warnings_in(api.list(kinds.EVENT, namespace, fields={"type": "Warning"})),
    )


def _with_pods(
    cluster: Cluster, base: Snapshot, pods: Iterable[KubernetesObject], nodes: Callable[[], tuple[Node, ...]]
) -> Snapshot:
    """Add the nodes, our own Pods, and tenants' Pods that use our resources; drop all other Pods."""
    own, tenants, unexplained = dict[str, DaemonPod](), list[TenantPod](), dict[str, tuple[KubernetesObject, str]]()
    for pod in pods:
        if namespace_of(pod) == cluster.namespace and component(objects.labels_of(pod)):
            name = name_of(pod)
            warning = base.warnings[name].text if name in base.warnings else ""
            own[name] = daemon_pod(pod, warning)
            if daemon_pods.needs_log(pod):
                unexplained[name] = (pod, warning)
        elif tenant := tenant_pod(pod):
            tenants.append(tenant)
    # Read logs only from Ready nodes: the kubelet sends the log, and a silent kubelet would cost a timeout.
    reachable = {node.name for node in nodes() if node.ready}
    for name in [name for name in unexplained if own[name].node in reachable][:MAX_LOGS]:
        with contextlib.suppress(ClusterAccessError):  # then the Pod's state is the reason
            logged = daemon_pods.own_reason(cluster.api.log(name, cluster.namespace))
            own[name] = daemon_pod(*unexplained[name], logged)
    oldest_first = sorted(own.values(), key=lambda pod: (pod.created, pod.name))
    return replace(base, nodes=nodes(), pods=tuple(oldest_first), epc_pods=tuple(tenants))


@dataclass(frozen=True, slots=True)
class _ProbePages:
    cluster: Cluster
    reads: OptionalReads

    def inventories(self, snapshot: Snapshot) -> Mapping[str, Inventory]:
        """Return the EPC inventories that device plugins report, keyed by node."""
        ready = (pod for pod in snapshot.pods if pod.state is PodState.READY)
        plugins = {pod.node: pod for pod in ready if pod.component is Component.DEVICE_PLUGIN}
        used, nodes = used_by_node(snapshot.epc_pods or ()), snapshot.nodes
        # Ask full nodes' plugins first: only a plugin knows whether it offers less EPC than Pods request.
        full = {node.name for node in nodes if 0 < used.get((node.name, node.resources.epc), 0) >= node.epc_mib}
        ordered = sorted(plugins.values(), key=lambda pod: pod.node not in full)
        what = "the EPC that its device plugin found"
        if unasked := [pod.node for pod in ordered[MAX_PLUGINS:] if pod.node in full]:
            why = f"{shown(unasked)} are full too, and only {MAX_PLUGINS} plugins are asked"
            self.reads.failures.append(Problem(f"{what}: {why}", code="not-read"))
        found = self.ask(what, ordered[:MAX_PLUGINS], "inventory", Inventory.from_json)
        return {node: one for node, one in found.items() if one.accounting.kind and one.epc.mib}

    def roots(self, snapshot: Snapshot, secret: str, now: datetime) -> RootFacts:
        workloads = (*snapshot.daemon_sets, *snapshot.deployments.values())
        mounting = [workload for workload in workloads if secret_name([workload]) == secret]
        owners = {workload.name for workload in mounting}
        ready = [pod for pod in snapshot.pods if pod.state is PodState.READY]
        helpers = [pod for pod in ready if pod.component is Component.QUOTE_HELPER and pod.owner in owners]
        if len(helpers) > MAX_HELPERS:
            helpers = [*helpers[: MAX_HELPERS // 2], *helpers[-MAX_HELPERS // 2 :]]
        roots = dict(self.ask("the simulated root of its quote helper", helpers, "metrics", root_of_metrics))
        unread = [pod.node for pod in helpers if pod.node not in roots]
        if any(workload.component is Component.SIMULATED_PCS for workload in mounting):
            serving = [pod for pod in ready if pod.component is Component.SIMULATED_PCS]
            served = self.ask("the root of the simulated PCS", serving, "metrics", root_of_metrics)
            roots.update((SERVED, root) for root in served.values())
        return replace(read_facts(self.cluster, secret, now), roots=roots, unread=shown(unread))

    def ask(self, what: str, pods: Sequence[DaemonPod], page: str, parse: Callable[[str], R | None]) -> Mapping[str, R]:
        def read(pod: DaemonPod) -> R | None:
            page_of = partial(self.cluster.api.probe_page, pod.name, self.cluster.namespace, page)
            return self.reads.read(what, lambda: parse(page_of()), node=pod.node)

        return {pod.node: answer for pod, answer in zip(pods, at_once(read, pods), strict=True) if answer}
