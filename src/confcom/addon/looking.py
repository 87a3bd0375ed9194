"""Looking at the cluster once."""

from __future__ import annotations

import dataclasses

from confcom.addon.daemon_log import own_reason
from confcom.addon.daemon_pods import pods_needing_logs
from confcom.addon.kubectl import KubeApi
from confcom.addon.objects import KubernetesObject, condition, name_of, namespace_of, node_of, of_kind
from confcom.addon.plan import ADD_ON, NAME_LABEL
from confcom.addon.programs import ClusterAccessError
from confcom.addon.snapshot import Snapshot

LOG_LINES = 2_000
"""Of a pod that is not ready. It repeats every 30 s why (confcom.daemon.readiness_log), and what its clients have
logged meanwhile is bounded."""
MOST_LOGS = 8
"""In one look, each a kubectl of its own: where many pods fail, they fail for the same reason."""

POLICIES = ",".join(
    f"{kind}.admissionregistration.k8s.io" for kind in ("validatingadmissionpolicy", "validatingadmissionpolicybinding")
)


def fetch_cluster_snapshot(api: KubeApi) -> Snapshot:
    """Everything, workloads of all namespaces included.

    Raises:
        ClusterAccessError: the API server does not answer, or does not permit it.
    """
    objects = api.list_objects("nodes,daemonsets.apps,pods,jobs.batch", "--all-namespaces")
    seen = _snapshot(api, objects, api.list_objects("events", api.cluster.namespace_flag))
    try:
        policies = api.list_objects(POLICIES, f"--selector={NAME_LABEL}={ADD_ON}")
    except ClusterAccessError:  # who may look at the rest may often not look at these
        return seen
    return dataclasses.replace(seen, policies=policies)


def fetch_daemon_snapshot(api: KubeApi) -> Snapshot:
    """What a rollout is judged by: the nodes, and the add-on's own namespace.

    Raises:
        ClusterAccessError: the API server does not answer, or does not permit it.
    """
    kinds = "daemonsets.apps,pods,controllerrevisions.apps,events"  # a DaemonSet is never newer than its pods
    return _snapshot(api, api.list_objects("nodes"), api.list_objects(kinds, api.cluster.namespace_flag))


def _snapshot(api: KubeApi, *lists: tuple[KubernetesObject, ...]) -> Snapshot:
    objects = [one for found in lists for one in found]
    pods, nodes = of_kind(objects, "Pod"), of_kind(objects, "Node")
    # A log comes from the kubelet: one that does not report would be waited for in vain.
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
