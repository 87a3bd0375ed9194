"""Fetching a snapshot of the cluster."""

from __future__ import annotations

import dataclasses

from confcom.addon.cluster.kubectl import KubeApi
from confcom.addon.cluster.programs import ClusterAccessError
from confcom.addon.daemons.daemon_log import own_reason
from confcom.addon.daemons.daemon_pods import pods_needing_logs
from confcom.addon.model.chart_objects import ADD_ON, NAME_LABEL
from confcom.addon.rollout.snapshot import Snapshot
from confcom.kubernetes.objects import KubernetesObject, condition, name_of, namespace_of, node_of, of_kind

LOG_LINES = 2_000
"""How many lines are read of the log of a pod that is not ready. The pod logs the reason every 30 s
(confcom.daemon.readiness_log), and the lines that its clients cause in between are bounded."""
MOST_LOGS = 8
"""How many logs are read for one snapshot, each by its own kubectl: many failing pods fail for the same reason."""

POLICIES = ",".join(
    f"{kind}.admissionregistration.k8s.io" for kind in ("validatingadmissionpolicy", "validatingadmissionpolicybinding")
)


def fetch_cluster_snapshot(api: KubeApi) -> Snapshot:
    """Fetch everything, including the workloads of all namespaces.

    Raises:
        ClusterAccessError: the API server does not answer, or forbids it.
    """
    objects = api.list_objects("nodes,daemonsets.apps,pods,jobs.batch", "--all-namespaces")
    seen = _snapshot(api, objects, api.list_objects("events", api.cluster.namespace_flag))
    try:
        policies = api.list_objects(POLICIES, f"--selector={NAME_LABEL}={ADD_ON}")
    except ClusterAccessError:  # many users may read everything else, but not the policies
        return seen
    return dataclasses.replace(seen, policies=policies)


def fetch_daemon_snapshot(api: KubeApi) -> Snapshot:
    """Fetch what a rollout needs: the nodes, and the objects of the add-on's own namespace.

    Raises:
        ClusterAccessError: the API server does not answer, or forbids it.
    """
    kinds = "daemonsets.apps,pods,controllerrevisions.apps,events"  # in this order: no DaemonSet is newer than its pods
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
        jobs=of_kind(objects, "Job"),
        revisions=of_kind(objects, "ControllerRevision"),
        events=of_kind(objects, "Event"),
        said={name: own_reason(api.log_tail(name, LOG_LINES)) for name in pods_needing_logs(asked)[:MOST_LOGS]},
    )
