"""Reads what the controller keeps of nodes and Pods from the API server's objects. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confcom.controller.reconcile.facts import NO_AMOUNT, Amount, NodeFacts, PluginPod, PodFacts, PodKey
from confcom.kubernetes.objects import (
    TERMINAL,
    KubernetesObject,
    container_statuses,
    labels_of,
    listing,
    mapping,
    name_of,
    namespace_of,
    owner_of,
    quantity,
    requests_of,
    text,
)

MANAGER = "confcom-controller"
"""The field manager of what the controller writes: the API server records with it who changed a field last."""
RUNNING = "Running"
COMPONENT = "device-plugin"
"""The prefix of the component label of a plugin's Pod; simulated nodes beside hardware have a suffix."""


@dataclass(frozen=True, slots=True)
class Release:
    """The release whose plugins are asked: its namespace and its name."""

    namespace: str
    name: str

    def has_plugin(self, pod: KubernetesObject) -> bool:
        """Return whether a Pod is one of the release's device plugins, made by a DaemonSet."""
        labels = labels_of(pod)
        component = text(labels, "app.kubernetes.io/component")
        return (
            namespace_of(pod) == self.namespace
            and labels.get("app.kubernetes.io/name") == "confcom"
            and labels.get("app.kubernetes.io/instance") == self.name
            and (component == COMPONENT or component.startswith(f"{COMPONENT}-"))
            and owner_of(pod).get("kind") == "DaemonSet"
        )


def node_facts(node: KubernetesObject, resources: Sequence[str]) -> NodeFacts:
    """Return what the controller keeps of a node."""
    capacity, allocatable = mapping(node, "status", "capacity"), mapping(node, "status", "allocatable")
    if not any(resource in capacity or resource in allocatable for resource in resources):
        amounts: tuple[Amount, ...] = (NO_AMOUNT,) * len(resources)
    else:
        ours = _written_by_us(node)
        amounts = tuple(
            Amount(_mib(capacity, resource), _mib(allocatable, resource), resource in ours) for resource in resources
        )
    return NodeFacts(name_of(node), text(node, "metadata", "uid"), amounts)


def pod_facts(pod: KubernetesObject, resources: Sequence[str], release: Release) -> PodFacts | None:
    """Return what the controller keeps of a Pod; None if it keeps nothing of it."""
    node = text(pod, "spec", "nodeName")
    if not node or text(pod, "status", "phase") in TERMINAL:
        return None
    requests = tuple(requests_of(pod, resource) for resource in resources)
    plugin = _plugin(pod) if release.has_plugin(pod) else None
    if plugin is None and not any(requests):
        return None
    # A kubelet writes it when it takes a Pod in; one that it turns away ends at once.
    accepted = bool(text(pod, "status", "startTime"))
    return PodFacts(pod_key(pod), node, requests, plugin, accepted)


def pod_key(pod: KubernetesObject) -> PodKey:
    """Return a Pod's namespace and name."""
    return namespace_of(pod), name_of(pod)


def _plugin(pod: KubernetesObject) -> PluginPod:
    ready = [f"{text(one, 'containerID')} {text(one, 'ready')}" for one in container_statuses(pod)]
    address = _address(text(pod, "status", "podIP")) if text(pod, "status", "phase") == RUNNING else ""
    incarnation = " ".join([text(pod, "metadata", "uid"), address, *ready])
    return PluginPod(address, text(pod, "metadata", "creationTimestamp"), incarnation)


def _address(found: str) -> str:
    """Return a Pod's address for a URL; empty if no Pod can have it, so that nothing else is ever asked."""
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return ""
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        return ""
    return f"[{address}]" if address.version == 6 else str(address)


def _mib(amounts: Mapping[str, object], resource: str) -> int | None:
    """Return a quantity, which the API server serves in canonical form (`100k`); None if there is none."""
    value = quantity(text(amounts, resource))
    return None if value is None else int(value)


def _written_by_us(node: KubernetesObject) -> frozenset[str]:
    """Return the keys of a node's capacity that the controller changed last."""
    return frozenset(
        field.removeprefix("f:")
        for entry in listing(node, "metadata", "managedFields")
        if entry.get("manager") == MANAGER
        for field in mapping(entry, "fieldsV1", "f:status", "f:capacity")
    )
