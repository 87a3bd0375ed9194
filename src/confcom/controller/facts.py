"""The facts about nodes and Pods that the controller keeps, parsed once from the API server's JSON. No I/O.

Nodes and the release's Pods are decoded completely. Tenants' Pods are decoded in part, since Python objects
take twenty times the memory of their JSON; msgspec skips the fields that a tenant can fill.
"""

import contextlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw, defstruct

from confcom.controller.decision import Amount, NodeFacts, NodePods, PluginPod, Requested
from confcom.kubernetes import objects as k8s
from confcom.kubernetes.names import INSTANCE_LABEL, NAME_LABEL, RELEASE, Component, component
from confcom.kubernetes.node import written_by_controller
from confcom.kubernetes.objects import KubernetesObject, mapping, text

Amounts = dict[str, str]

_Resources = defstruct("_Resources", [("limits", Amounts, {}), ("requests", Amounts, {})], frozen=True)
_Container = defstruct("_Container", [("resources", _Resources, _Resources()), ("restartPolicy", str, "")])
_Containers: Any = list[_Container]  # type: ignore[valid-type] # made at run time
_Spec = defstruct(
    "_Spec", [("overhead", Amounts, {}), ("containers", _Containers, []), ("initContainers", _Containers, [])]
)
_Status = defstruct("_Status", [("startTime", str, "")], frozen=True)
_Metadata = defstruct("_Metadata", [("namespace", str, "")])
_Pod = defstruct("_Pod", [("metadata", _Metadata), ("spec", _Spec), ("status", _Status, _Status())])
_POD = msgspec.json.Decoder(_Pod)


@dataclass(frozen=True, slots=True)
class Release:
    namespace: str
    name: str

    @property
    def selector(self) -> str:
        """The label selector of the release's Pods, without the component label, which may have a suffix."""
        return f"{NAME_LABEL}={RELEASE},{INSTANCE_LABEL}={self.name}"

    def has_plugin(self, pod: KubernetesObject) -> bool:
        """Return whether a Pod is one of the release's device plugins, made by a DaemonSet."""
        labels = k8s.labels_of(pod)
        return (
            k8s.namespace_of(pod) == self.namespace
            and component(labels) is Component.DEVICE_PLUGIN
            and labels.get(INSTANCE_LABEL) == self.name
            and k8s.owner_of(pod).get("kind") == "DaemonSet"
        )


def node_facts(node: KubernetesObject, resources: Sequence[str]) -> NodeFacts:
    capacity, allocatable = mapping(node, "status", "capacity"), mapping(node, "status", "allocatable")
    ours = written_by_controller(node)
    amounts = tuple(Amount(_mib(capacity, one), _mib(allocatable, one), one in ours) for one in resources)
    version = int(text(node, "metadata", "resourceVersion") or 0)
    return NodeFacts(k8s.name_of(node), text(node, "metadata", "uid"), amounts, version)


def plugin_pod(pod: KubernetesObject, release: Release) -> PluginPod | None:
    """Return facts about a plugin's Pod; None if the Pod runs no plugin, is not bound, or has ended."""
    node, phase = text(pod, "spec", "nodeName"), text(pod, "status", "phase")
    if not node or phase in k8s.TERMINAL or not release.has_plugin(pod):
        return None
    ready = [f"{text(one, 'containerID')} {text(one, 'ready')}" for one in k8s.container_statuses(pod)]
    address = _address(text(pod, "status", "podIP")) if phase == "Running" else ""
    incarnation = " ".join([text(pod, "metadata", "uid"), address, *ready])
    return PluginPod(k8s.name_of(pod), node, address, text(pod, "metadata", "creationTimestamp"), incarnation)


def add_pod(pods: NodePods, pod: Raw, resources: Sequence[str], release: Release) -> NodePods:
    """Return `pods` plus the bound Pod `pod`; raise msgspec's errors if `pod` is not a Pod."""
    found = msgspec.to_builtins(_POD.decode(pod))
    # A kubelet writes startTime when it accepts a Pod. A rejected Pod ends at once.
    accepted = bool(text(found, "status", "startTime"))
    asked = [k8s.requests_of(found, resource) for resource in resources]
    sums = zip(pods.requested, asked, strict=True)
    requested = tuple(Requested(one.bound + mib, one.accepted + mib * accepted) for one, mib in sums)
    ours = plugin_pod(msgspec.json.decode(pod), release) if k8s.namespace_of(found) == release.namespace else None
    return NodePods(requested, (*pods.plugins, ours.name) if ours else pods.plugins)


def _address(text: str) -> str:
    """Return a Pod's address; empty for an address that no Pod can have, so that only Pods are contacted."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(text)
        foreign = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
        if not foreign and (address.version == 4 or not set("%.") & set(text)):  # IPv6: no zone, no IPv4 part
            return str(address)
    return ""


def _mib(amounts: KubernetesObject, resource: str) -> int | None:
    """Return a resource's MiB from its canonical form (such as `100k`); None if the resource is missing."""
    value = k8s.quantity(text(amounts, resource))
    return None if value is None else int(value)
