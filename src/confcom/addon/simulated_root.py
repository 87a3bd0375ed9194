"""The Secret with a cluster's simulated root, which belongs to the user and to no release."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

from confcom.addon.chart_objects import COMPONENT_LABEL, NAME_LABEL, RELEASE, pod_spec_of
from confcom.addon.cluster import DAEMON_SET, DEPLOYMENT, SECRET, Cluster, ClusterAccessError
from confcom.kubernetes.objects import KubernetesObject, listing, mapping, name_of, text
from confcom.simulation.root_seed import RootSeed

VOLUME = "simulated-root"
"""The volume of a simulated quote helper's Pod in which the Secret is mounted; also the Secret's component label."""
DEFAULT_SECRET = "confcom-simulated-root"  # noqa: S105 # a name, not a secret
"""The chart's default of `simulated.secretName`."""
_ROOT_METRIC = re.compile(
    r'^confcom_quote_helper_simulated_root_info\{sha256="([0-9a-f]{64})"\} 1(?:\.0)?$', re.MULTILINE
)
_RESTARTED = "kubectl.kubernetes.io/restartedAt"
"""The annotation of a Pod template by which `kubectl rollout restart` replaces the Pods."""


def secret_name(manifests: Iterable[KubernetesObject]) -> str:
    """Return the name of the Secret that quote helpers of these manifests mount; empty if none simulates."""
    for one in manifests:
        for volume in listing(pod_spec_of(one), "volumes"):
            if text(volume, "name") == VOLUME:
                return text(volume, "secret", "secretName")
    return ""


def root_of_metrics(metrics: str) -> str:
    """Return SHA-256 of the root in a quote helper's metrics, in hex; empty if there is none."""
    found = _ROOT_METRIC.search(metrics)
    return found[1] if found else ""


def create_root(cluster: Cluster, root: RootSeed, name: str) -> bool:
    """Create the Secret, and return whether it was created. It is not immutable: kubelets would keep a deleted one.

    Programs that run with it already are restarted first: their new Pods wait for the Secret, and take no other root.
    """
    patch = {"spec": {"template": {"metadata": {"annotations": {_RESTARTED: f"new-root-{root.created}"}}}}}
    for kind in (DAEMON_SET, DEPLOYMENT):
        for workload in cluster.api.list(kind, cluster.namespace, labels={NAME_LABEL: RELEASE}):
            if secret_name([workload]) == name:
                cluster.api.merge(kind, name_of(workload), patch, cluster.namespace)
    values = {key: base64.b64encode(value).decode() for key, value in root.encode().items()}
    labels = {NAME_LABEL: RELEASE, COMPONENT_LABEL: VOLUME}
    metadata = {"name": name, "namespace": cluster.namespace, "labels": labels}
    return cluster.api.create(
        {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": values}
    )


def read_root(cluster: Cluster, name: str) -> RootSeed:
    """Read the root of a cluster; the caller keeps it in memory, and writes only what is exported from it."""
    where = f"the namespace {cluster.namespace} of {cluster.context}"
    found = cluster.api.get(SECRET, name, cluster.namespace)
    if found is None:
        raise ClusterAccessError(
            f"{where} has no Secret {name}",
            error_code="simulated-root-missing",
            why="the add-on is not enabled there with --simulated, or another value of simulated.secretName is set",
            remedy="name the installation's namespace with --namespace (`helm list -A` shows it), the cluster with "
            "--context, and the Secret with --secret",
        )
    return RootSeed.decode({key: base64.b64decode(value) for key, value in mapping(found, "data").items()})
