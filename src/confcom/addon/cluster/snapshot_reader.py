"""Reading what `status` and the waits need: a snapshot of the cluster, refused workloads, and which root is in use."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from concurrent import futures

from confcom.addon.cluster.installed_release import read_live, told
from confcom.addon.cluster.kubectl import ASKED_AT_ONCE, MOST_ASKED, PROBES_PORT, KubeApi
from confcom.addon.cluster.large_lists import list_nodes_and_pods
from confcom.addon.cluster.programs import ClusterAccessError, ForbiddenError
from confcom.addon.daemons.daemon_log import own_reason
from confcom.addon.daemons.daemon_pods import pods_needing_logs
from confcom.addon.daemons.root_comparison import RootObservation, follows_root, nodes_by_pod, older_helpers, root_of
from confcom.addon.model.chart_objects import ADD_ON, NAME_LABEL
from confcom.addon.rollout.snapshot import Snapshot
from confcom.addon.status.api_server_notes import installed_for_older
from confcom.addon.workloads.refused_pods import API_VERSIONS, FAILED_CREATE, RefusalObservation, refusals
from confcom.kubernetes.objects import KubernetesObject, condition, name_of, namespace_of, node_of, of_kind, text
from confcom.simulated_root.record import RECORD_NAME, RootRecord

LOG_LINES = 2_000
"""How many lines are read of the log of a pod that is not ready. The pod logs the reason every 30 s
(confcom.daemon.readiness_log), and the lines that its clients cause in between are bounded."""
MOST_LOGS = 8
"""How many logs are read for one snapshot, each by its own kubectl: many failing pods fail for the same reason."""
MOST_CONTROLLERS = 50
"""Maximum number of controllers in one call: kubectl sends one request to the API server for each."""
POLICIES = ",".join(
    f"{kind}.admissionregistration.k8s.io" for kind in ("validatingadmissionpolicy", "validatingadmissionpolicybinding")
)


def fetch_cluster_snapshot(api: KubeApi) -> Snapshot:
    """Fetch everything, including the workloads of all namespaces."""
    objects = api.list_objects("daemonsets.apps,jobs.batch", "--all-namespaces")  # no DaemonSet is newer than its pods
    nodes, pods = list_nodes_and_pods(api)
    seen = _snapshot(api, objects, nodes, pods, api.list_objects("events", api.cluster.namespace_flag))
    try:
        policies = api.list_objects(POLICIES, f"--selector={NAME_LABEL}={ADD_ON}")
    except ClusterAccessError:  # many users may read everything else, but not the policies
        return seen
    return dataclasses.replace(seen, policies=policies)


def with_managed_fields(api: KubeApi, seen: Snapshot) -> Snapshot:
    """Return the snapshot with the nodes' managed fields, which tell what a former controller left in their status."""
    return dataclasses.replace(seen, nodes=api.list_objects("nodes", "--show-managed-fields"))


def fetch_daemon_snapshot(api: KubeApi) -> Snapshot:
    """Fetch what a rollout needs: the nodes, and the objects of the add-on's own namespace."""
    # In this order: no DaemonSet is newer than its pods.
    kinds = "daemonsets.apps,deployments.apps,pods,controllerrevisions.apps,events"
    return _snapshot(api, api.list_objects("nodes"), api.list_objects(kinds, api.cluster.namespace_flag))


def _snapshot(api: KubeApi, *lists: tuple[KubernetesObject, ...]) -> Snapshot:
    objects = [one for found in lists for one in found]
    pods, nodes = of_kind(objects, "Pod"), of_kind(objects, "Node")
    # A log comes through the kubelet; a kubelet that does not report would only cost the timeout.
    alive = {name_of(node) for node in nodes if condition(node, "Ready").get("status") == "True"}
    asked = [pod for pod in pods if namespace_of(pod) == api.cluster.namespace and node_of(pod) in alive]
    return Snapshot(
        namespace=api.cluster.namespace,
        nodes=nodes,
        pods=pods,
        daemon_sets=of_kind(objects, "DaemonSet"),
        deployments=of_kind(objects, "Deployment"),
        jobs=of_kind(objects, "Job"),
        revisions=of_kind(objects, "ControllerRevision"),
        events=of_kind(objects, "Event"),
        said={name: own_reason(api.log_tail(name, LOG_LINES)) for name in pods_needing_logs(asked)[:MOST_LOGS]},
    )


def look_at_api_server(api: KubeApi, daemons: Sequence[KubernetesObject]) -> str:
    """Return the API server's version, if the add-on was installed for one that was too old; else an empty text."""
    if not installed_for_older(daemons):
        return ""
    try:
        return api.server_version()
    except ClusterAccessError:  # it has answered everything else; the note then names the version of the installation
        return ""


def look_at_refusals(api: KubeApi, policies: Collection[str]) -> RefusalObservation:
    """Return which controllers of all namespaces cannot create Pods; failed reads are stored in the result."""
    try:
        events = api.list_objects("events", "--all-namespaces", f"--field-selector=reason={FAILED_CREATE}")
    except ClusterAccessError as error:
        doubt = f"refusals of workloads' Pods: the events of all namespaces cannot be read: {told(error)}"
        return RefusalObservation(doubt=doubt)
    found = tuple(refusals(events, policies))
    known = [one for one in found if one[1] in API_VERSIONS][:MOST_CONTROLLERS]
    unread = frozenset(found) - frozenset(known)
    asked = [
        {"apiVersion": API_VERSIONS[kind], "kind": kind, "metadata": {"name": name, "namespace": namespace}}
        for namespace, kind, name in known
    ]
    if not asked:
        return RefusalObservation(events, (), unread)
    try:
        live = read_live(api, asked)
    except ClusterAccessError:
        return RefusalObservation(events, (), frozenset(found))
    refused = ((namespace_of(one), text(one, "kind"), name_of(one)) for one in live.refused)
    return RefusalObservation(events, live.objects, unread | frozenset(refused))


def look_at_root(
    api: KubeApi, daemons: Sequence[KubernetesObject], pods: Sequence[KubernetesObject]
) -> RootObservation | None:
    """Read which root is published, and which root the helpers use that may have an older one.

    Returns:
        The observation; None if no helper follows a published root.
    """
    if not any(map(follows_root, daemons)):
        return None
    try:
        found = api.find_config_map(RECORD_NAME)
    except ForbiddenError as error:
        return RootObservation(None, refusal=error.why or error.what)
    record = RootRecord.read(found) if found is not None else None
    if record is None:
        return RootObservation(None, damaged=found is not None)
    older = older_helpers(pods, record, api.cluster.namespace)
    names = [name_of(pod) for pod in older]
    fingerprints: dict[str, str] = {}
    unreachable = dict.fromkeys(names[MOST_ASKED:], f"more than {MOST_ASKED} helpers would have to be queried")
    with futures.ThreadPoolExecutor(max_workers=ASKED_AT_ONCE) as pool:
        asked = names[:MOST_ASKED]
        for name, (fingerprint, why) in zip(asked, pool.map(lambda one: _ask(api, one), asked), strict=True):
            if fingerprint:
                fingerprints[name] = fingerprint
            else:
                unreachable[name] = why
    return RootObservation(record, fingerprints=fingerprints, unreachable=unreachable, nodes=nodes_by_pod(older))


def _ask(api: KubeApi, pod: str) -> tuple[str, str]:
    """Return the fingerprint of the root that a helper uses, and why it is unknown; one of the two is empty."""
    try:
        fingerprint = root_of(api.pod_metrics(pod, PROBES_PORT))
    except ClusterAccessError as error:
        return "", error.why or error.what
    return fingerprint, "" if fingerprint else "its metrics contain no root"
