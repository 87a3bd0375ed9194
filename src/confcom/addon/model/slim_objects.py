"""Nodes and pods without what no decision of ours reads, so that those of a large cluster fit into memory. Pure.

As the API server gives them, 5,000 nodes and 20,000 pods are 200 MB of JSON, and take more than 1 GB as Python objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from confcom.addon.model.chart_objects import COMPONENT_LABEL, CONTROLLER
from confcom.addon.model.resources import INTEL_EPC, OURS
from confcom.kubernetes.objects import KubernetesObject, listing, mapping, namespace_of, resource_names, text

_METADATA = ("name", "namespace", "uid", "labels", "creationTimestamp", "deletionTimestamp")
_SPEC = ("nodeName", "nodeSelector", "affinity", "tolerations", "overhead")
_STATUS = ("phase", "reason", "message", "conditions")
_CONTAINER_STATUS = ("name", "state", "lastState", "ready", "restartCount")
"""Without the allocated devices, of which a 1.36 kubelet reports each ID: megabytes for a pod with much EPC."""
_VOLUMES = frozenset({"hostPath", "configMap"})
_CONTAINER = ("name", "image", "resources", "restartPolicy")
_OF_INTEREST = OURS | {INTEL_EPC}


class Slimmer:
    """Makes nodes and pods smaller; equal texts of one slimmer's objects are one object."""

    def __init__(self, namespace: str, wanted: Callable[[KubernetesObject], bool]) -> None:
        """Begin without any text.

        Args:
            namespace: the add-on's.
            wanted: whether a pod of another namespace matters although it uses none of our resources.
        """
        self._namespace = namespace
        self._wanted = wanted
        self._texts: dict[str, str] = {}

    def node(self, node: KubernetesObject) -> KubernetesObject:
        """Return a node's names, labels, annotations, taints, amounts and conditions."""
        return self._shared(
            {
                "kind": "Node",
                "metadata": _some(mapping(node, "metadata"), (*_METADATA, "annotations")),
                "spec": _some(mapping(node, "spec"), ("taints", "unschedulable")),
                "status": _some(mapping(node, "status"), ("capacity", "allocatable", "conditions")),
            }
        )

    def pod(self, pod: KubernetesObject) -> KubernetesObject:
        """Return what matters of a pod.

        Of the add-on's own, of those that use our resources, and of wanted ones, that is what they request and hold,
        and what the scheduler and the kubelet say; of all others, who made them and when.
        """
        metadata = _some(mapping(pod, "metadata"), _METADATA)
        metadata["ownerReferences"] = list(listing(pod, "metadata", "ownerReferences"))
        of_interest = any(resource_names(pod, _OF_INTEREST)) or self._wanted(pod)
        if namespace_of(pod) != self._namespace and not of_interest:
            metadata.pop("labels", None)
            return self._shared({"kind": "Pod", "metadata": metadata})
        spec, status = mapping(pod, "spec"), mapping(pod, "status")
        if namespace_of(pod) != self._namespace and text(pod, "spec", "nodeName"):
            # The scheduler is done with it, and its containers' states are of no interest.
            spec, status = _some(spec, ("nodeName", "overhead")), _some(status, ("phase", "reason", "message"))
        else:
            spec, status = _some(spec, _SPEC), _some(status, _STATUS)
            for part in ("containerStatuses", "initContainerStatuses"):
                status[part] = [_some(one, _CONTAINER_STATUS) for one in listing(pod, "status", part)]
        kept: tuple[str, ...] = _CONTAINER
        if namespace_of(pod) == self._namespace and text(metadata, "labels", COMPONENT_LABEL) == CONTROLLER:
            kept = (*_CONTAINER, "args")  # with the most that a node gets
        volumes = [one for one in listing(pod, "spec", "volumes") if not _VOLUMES.isdisjoint(one)]
        spec["volumes"], names = volumes, {one.get("name") for one in volumes}
        for part in ("containers", "initContainers"):
            spec[part] = [_container(one, kept, names) for one in listing(pod, "spec", part)]
        return self._shared({"kind": "Pod", "metadata": metadata, "spec": spec, "status": status})

    def _shared(self, thing: Mapping[str, object]) -> dict[str, Any]:
        share = self._texts.setdefault
        return {share(key, key): self._shared_value(one) for key, one in thing.items()}

    def _shared_value(self, value: object) -> object:
        if isinstance(value, str):
            return self._texts.setdefault(value, value)
        if isinstance(value, dict):
            return self._shared(value)
        return list(map(self._shared_value, value)) if isinstance(value, list) else value


def _some(thing: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: thing[key] for key in keys if key in thing}


def _container(container: KubernetesObject, keys: Iterable[str], volumes: set[object]) -> dict[str, Any]:
    mounts = [one for one in listing(container, "volumeMounts") if one.get("name") in volumes]
    return {**_some(container, keys), "volumeMounts": mounts}
