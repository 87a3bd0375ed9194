"""The objects that the chart would install, read from its rendered manifests. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from confcom.addon.model.node_selection import selects
from confcom.kubernetes.epc_accounting import CapacitySupport
from confcom.kubernetes.objects import KubernetesObject, labels_of, listing, mapping, name_of, namespace_of, text

COMPONENT_LABEL = "app.kubernetes.io/component"
NAME_LABEL = "app.kubernetes.io/name"
HOOK_ANNOTATION = "helm.sh/hook"
INSTANCE_LABEL = "app.kubernetes.io/instance"
PLATFORM_LABEL = "confcom.internal/platform"
"""On the daemons and their pods: `hardware` or `simulated`."""
HARDWARE_PLATFORM = "hardware"
AESMD = "aesmd"
"""The container with Intel's aesmd in a hardware quote helper's pods: a sidecar, among the init containers."""
POLICY_ANNOTATION = "confcom.internal/admission-policy"
"""On a device plugin's DaemonSet: the name of the admission policy that is installed with it, and of its binding."""
EPC_NAMES_POLICY = "confcom-epc-names"
"""The MutatingAdmissionPolicy that counts Intel's name of EPC under ours."""
EPC_AMOUNTS_POLICY = "confcom-epc-amounts"
"""The ValidatingAdmissionPolicy that refuses amounts under our name that were meant in bytes."""
CONTROLLER = "controller"
"""The component label of the controller of node capacity: its Deployment and its Pods."""
SUPPORT_FLAG = "--capacity-support"
"""The device plugin's flag whose values are CapacitySupport: `supported` where the chart has installed a controller."""
VERSION_FLAG = "--api-server"
"""The device plugin's flag with the API server's version at the installation."""
ADD_ON = "confcom"
"""The release's name, and the value of the name label on all our objects."""


class Component(StrEnum):
    """The two daemons, by the value of their component label."""

    DEVICE_PLUGIN = "device-plugin"
    QUOTE_HELPER = "quote-helper"

    @property
    def words(self) -> str:
        """The name for messages."""
        return self.value.replace("-", " ")


_COMPONENTS = {one.value: one for one in Component}


@dataclass(frozen=True, slots=True)
class Plan:
    """The rendered manifests, hooks included."""

    manifests: tuple[KubernetesObject, ...]

    @property
    def daemon_sets(self) -> tuple[KubernetesObject, ...]:
        """The DaemonSets of the chart."""
        return tuple(thing for thing in self.manifests if thing.get("kind") == "DaemonSet")

    @property
    def policies(self) -> frozenset[str]:
        """The names of the chart's mutating admission policies."""
        return frozenset(name_of(one) for one in self.manifests if one.get("kind") == "MutatingAdmissionPolicy")

    def plugins(self, *, simulated: bool) -> tuple[KubernetesObject, ...]:
        """Return the device plugin DaemonSets that simulate EPC, or those that discover it."""
        found = (one for one in self.daemon_sets if component_of(one) is Component.DEVICE_PLUGIN)
        return tuple(one for one in found if simulates(one) is simulated)

    def selected(self, nodes: Iterable[KubernetesObject]) -> list[KubernetesObject]:
        """Return the nodes that any of our daemons selects."""
        return [node for node in nodes if any(selects(pod_spec_of(daemon), node) for daemon in self.daemon_sets)]

    def nodes(self, nodes: Iterable[KubernetesObject]) -> tuple[str, ...]:
        """Return the names of the nodes that any of our daemons selects."""
        return tuple(map(name_of, self.selected(nodes)))

    @property
    def kinds(self) -> tuple[tuple[str, str], ...]:
        """Group and kind of all objects, each once."""
        return _kinds(self.manifests)

    @property
    def hook_kinds(self) -> tuple[tuple[str, str], ...]:
        """Group and kind of the hooks, which helm creates and waits for before anything else."""
        return _kinds(one for one in self.manifests if HOOK_ANNOTATION in mapping(one, "metadata", "annotations"))


def _kinds(things: Iterable[KubernetesObject]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({(group_of(thing), text(thing, "kind")) for thing in things}))


def group_of(thing: KubernetesObject) -> str:
    """Return the object's API group; empty for the core group."""
    group, slash, _ = text(thing, "apiVersion").partition("/")
    return group if slash else ""


def pod_spec_of(workload: KubernetesObject) -> KubernetesObject:
    """Return the pod spec in the template of a DaemonSet or a Job."""
    return mapping(workload, "spec", "template", "spec")


def simulates(daemon: KubernetesObject) -> bool:
    """Return whether a daemon's pods run on a simulated platform."""
    return any("--simulated" in _words(one.get("args")) for one in listing(pod_spec_of(daemon), "containers"))


def node_labels(daemons: Iterable[KubernetesObject]) -> tuple[str, ...]:
    """Return the labels (`KEY=VALUE`) by which these daemons select their nodes."""
    selectors = (mapping(pod_spec_of(one), "nodeSelector").items() for one in daemons)
    return tuple(sorted({f"{key}={value}" for labels in selectors for key, value in labels}))


def flag_of(daemon: KubernetesObject, flag: str) -> str:
    """Return the value of a flag (`--flag=value`) of a daemon's containers; empty if none has it."""
    return flag_in(pod_spec_of(daemon), flag)


def number_in_flag(daemon: KubernetesObject, flag: str) -> int | None:
    """Return the number that is a flag's value; None if no container has the flag, or it has another value."""
    found = flag_of(daemon, flag)
    return int(found) if found.isdecimal() else None


def has_controller(daemons: Iterable[KubernetesObject]) -> bool:
    """Return whether the chart has installed a controller with these DaemonSets."""
    return any(flag_of(daemon, SUPPORT_FLAG) == CapacitySupport.SUPPORTED for daemon in daemons)


def flag_in(pod_spec: KubernetesObject, flag: str) -> str:
    """Return the value of a flag (`--flag=value`) of a pod's containers; empty if none has it."""
    for one in listing(pod_spec, "containers"):
        for word in _words(one.get("args")):
            name, _, value = str(word).partition("=")
            if name == flag:
                return value
    return ""


def component_of(thing: KubernetesObject) -> Component | None:
    """Return which of the two daemons an object belongs to; None if it is neither's."""
    labels = labels_of(thing)
    if labels.get(NAME_LABEL) != ADD_ON:
        return None
    # Beside hardware, the label of simulated nodes' DaemonSets has a suffix: device-plugin-simulated.
    label = text(labels, COMPONENT_LABEL)
    if label in _COMPONENTS:  # most are, of ten thousands in a large cluster
        return _COMPONENTS[label]
    return next((one for name, one in _COMPONENTS.items() if label.startswith(f"{name}-")), None)


def own_component(thing: KubernetesObject, namespace: str) -> Component | None:
    """Return which of the two daemons an object belongs to, of the add-on in this namespace; None if it is neither's.

    Labels alone do not tell: in other namespaces, tenants write them.
    """
    return component_of(thing) if namespace_of(thing) == namespace else None


def is_hook(thing: KubernetesObject) -> bool:
    """Return whether an object is the hook Job that makes the simulated root before the installation, or its pod."""
    labels = labels_of(thing)
    return labels.get(NAME_LABEL) == ADD_ON and labels.get(COMPONENT_LABEL) == "simulated-root"


def _words(found: object) -> Sequence[object]:
    return found if isinstance(found, list) else ()
