"""What the chart would put into the cluster, read from its rendered manifests. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from confcom.addon.node_selection import selects
from confcom.addon.objects import KubernetesObject, labels_of, listing, mapping, name_of, text

COMPONENT_LABEL = "app.kubernetes.io/component"
NAME_LABEL = "app.kubernetes.io/name"
HOOK_ANNOTATION = "helm.sh/hook"
INSTANCE_LABEL = "app.kubernetes.io/instance"
POLICY_ANNOTATION = "confcom.internal/admission-policy"
"""On a device plugin's DaemonSet: the name of the policy that is installed with it, and of its binding."""
ADD_ON = "confcom"
"""The value of the name label on everything of ours, and the release's name."""


class Component(StrEnum):
    """The two daemons, as their label names them."""

    DEVICE_PLUGIN = "device-plugin"
    QUOTE_HELPER = "quote-helper"

    @property
    def words(self) -> str:
        """For people."""
        return self.value.replace("-", " ")


@dataclass(frozen=True, slots=True)
class Plan:
    """The rendered manifests, hooks included."""

    manifests: tuple[KubernetesObject, ...]

    @property
    def daemon_sets(self) -> tuple[KubernetesObject, ...]:
        """Ours."""
        return tuple(thing for thing in self.manifests if thing.get("kind") == "DaemonSet")

    def plugins(self, *, simulated: bool) -> tuple[KubernetesObject, ...]:
        """The device plugins that pretend to have EPC, or those that look for it."""
        found = (one for one in self.daemon_sets if component_of(one) is Component.DEVICE_PLUGIN)
        return tuple(one for one in found if simulates(one) is simulated)

    def nodes(self, nodes: Iterable[KubernetesObject]) -> tuple[str, ...]:
        """The names of the nodes that any of our daemons selects."""
        return tuple(
            name_of(node) for node in nodes if any(selects(pod_spec_of(daemon), node) for daemon in self.daemon_sets)
        )

    @property
    def kinds(self) -> tuple[tuple[str, str], ...]:
        """Group and kind of everything, each once."""
        return _kinds(self.manifests)

    @property
    def lasting_kinds(self) -> tuple[tuple[str, str], ...]:
        """Those of what is in the release itself, which hooks are not."""
        return _kinds(one for one in self.manifests if HOOK_ANNOTATION not in mapping(one, "metadata", "annotations"))

    @property
    def hook_kinds(self) -> tuple[tuple[str, str], ...]:
        """Those of what helm makes, and waits for, before anything else."""
        return _kinds(one for one in self.manifests if HOOK_ANNOTATION in mapping(one, "metadata", "annotations"))


def _kinds(things: Iterable[KubernetesObject]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({(group_of(thing), text(thing, "kind")) for thing in things}))


def group_of(thing: KubernetesObject) -> str:
    """Its API group; empty for the core."""
    group, slash, _ = text(thing, "apiVersion").partition("/")
    return group if slash else ""


def pod_spec_of(workload: KubernetesObject) -> KubernetesObject:
    """The spec of the pods that a DaemonSet or a Job makes."""
    return mapping(workload, "spec", "template", "spec")


def simulates(daemon: KubernetesObject) -> bool:
    """Whether a daemon's pods run on a simulated platform."""
    return any("--simulated" in _words(one.get("args")) for one in listing(pod_spec_of(daemon), "containers"))


def component_of(thing: KubernetesObject) -> Component | None:
    """Which of the two daemons an object of ours belongs to."""
    labels = labels_of(thing)
    if labels.get(NAME_LABEL) != ADD_ON:
        return None
    # Beside hardware, simulated nodes have a DaemonSet of their own: device-plugin-simulated.
    label = text(labels, COMPONENT_LABEL).removesuffix("-simulated")
    return next((one for one in Component if one == label), None)


def is_hook(thing: KubernetesObject) -> bool:
    """Whether it is the Job that makes the simulated root before anything else is installed, or a pod of it."""
    labels = labels_of(thing)
    return labels.get(NAME_LABEL) == ADD_ON and labels.get(COMPONENT_LABEL) == "simulated-root"


def _words(found: object) -> Sequence[object]:
    return found if isinstance(found, list) else ()
