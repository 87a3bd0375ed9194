"""Find the add-on's objects by the chart's labels, even if helm's record or the namespace is missing."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from confcom.addon.api import CLUSTER_WIDE, NotFoundError, kind_of
from confcom.addon.chart_objects import POLICY_KINDS
from confcom.addon.login import Cluster
from confcom.kubernetes.names import INSTANCE_LABEL, NAME_LABEL, RELEASE
from confcom.kubernetes.objects import KubernetesObject, listing, mapping, name_of, namespace_of, text

KINDS: Final = (
    *(("admissionregistration.k8s.io/v1", kind) for kind in POLICY_KINDS),
    *(("apps/v1", kind) for kind in ("DaemonSet", "Deployment")),
    *(("v1", kind) for kind in ("Service", "ConfigMap", "ServiceAccount")),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    *(("monitoring.coreos.com/v1", kind) for kind in ("ServiceMonitor", "PrometheusRule")),
    *(("rbac.authorization.k8s.io/v1", one) for one in ("ClusterRoleBinding", "ClusterRole", "RoleBinding", "Role")),
)
"""The kinds of the chart's objects, in the order of removal."""
EVENTS_NAMESPACE: Final = "default"
"""Namespace of events about nodes, and of the Role and RoleBinding that let the controller write events."""
LABELS: Final = {NAME_LABEL: RELEASE, INSTANCE_LABEL: RELEASE}
_OWNER: Final = "meta.helm.sh/release-"


def owned_objects(cluster: Cluster, kinds: Iterable[tuple[str, str]] = KINDS) -> Iterator[KubernetesObject]:
    """Yield the add-on's objects, unless they have an owner, are being deleted, or belong to another release."""
    for version, name in kinds:
        places = {"": None} if name in CLUSTER_WIDE else {cluster.namespace: None}
        if name in {"Role", "RoleBinding"}:
            places[EVENTS_NAMESPACE] = None
        for place in places:
            with contextlib.suppress(NotFoundError):  # the API server does not serve this kind
                for one in cluster.api.list(kind_of(version, name), place, labels=LABELS):
                    metadata = mapping(one, "metadata")
                    goes = text(metadata, "deletionTimestamp") or listing(metadata, "ownerReferences")
                    release = text(metadata, "annotations", f"{_OWNER}namespace")
                    if not goes and release in {"", cluster.namespace}:
                        yield one


def delete_objects(cluster: Cluster, objects: Iterable[KubernetesObject], say: Callable[[str], None]) -> None:
    """Delete objects in the given order without waiting until they are gone; print a line for each kind."""
    for kind, alike in itertools.groupby(objects, lambda one: text(one, "kind")):
        found = tuple(alike)
        for one in found:
            place = "" if kind in CLUSTER_WIDE else namespace_of(one)
            cluster.api.delete(kind_of(text(one, "apiVersion"), kind), name_of(one), place)
        say(f"Removed {kind} {', '.join(map(name_of, found))}.")


def is_helms(thing: KubernetesObject) -> bool:
    """Return whether helm installed this object as part of the release."""
    return text(thing, "metadata", "annotations", f"{_OWNER}name") == RELEASE
