"""The fields of a DaemonSet or Deployment that the add-on reads; a missing field is empty. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from confcom.kubernetes import names, objects
from confcom.kubernetes.node_selection import NodeSelection
from confcom.kubernetes.objects import KubernetesObject, listing, mapping, number, text, texts

_COUNTS = {
    "DaemonSet": ("desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled", "numberAvailable"),
    "Deployment": ("", "replicas", "updatedReplicas", "availableReplicas"),
}
"""Names of status fields, keyed by object kind. The empty name means the number of Pods in the spec."""


@dataclass(frozen=True, slots=True)
class Workload:
    kind: str
    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    component: names.Component | None = None
    """The add-on's program that the workload runs; None if the workload is not part of the add-on."""
    selection: NodeSelection = field(default_factory=NodeSelection)
    arguments: tuple[str, ...] = ()
    """The arguments of all containers."""
    images: tuple[str, ...] = ()
    host_paths: tuple[str, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Keyed by the volume's name: the name of the volume's Secret."""
    observed: bool = True
    """Whether the DaemonSet or Deployment controller has seen the workload's newest template."""
    desired: int = 0
    current: int = 0
    updated: int = 0
    """Number of Pods of the newest template."""
    available: int = 0

    @classmethod
    def parse(cls, workload: KubernetesObject) -> Self:
        spec, kind = mapping(workload, "spec", "template", "spec"), text(workload, "kind")
        containers, volumes = listing(spec, "containers"), listing(spec, "volumes")
        counts = _COUNTS.get(kind, ())
        return cls(
            kind,
            objects.name_of(workload),
            objects.namespace_of(workload),
            labels := objects.labels_of(workload),
            names.component(labels),
            NodeSelection.parse(spec),
            tuple(word for each in containers for word in texts(each, "args")),
            tuple(text(each, "image") for each in containers),
            tuple(text(volume, "hostPath", "path") for volume in volumes),
            {text(volume, "name"): text(volume, "secret", "secretName") for volume in volumes if "secret" in volume},
            number(workload, "status", "observedGeneration") >= number(workload, "metadata", "generation"),
            *(number(workload, "status", name) if name else number(workload, "spec", "replicas") for name in counts),
        )

    @property
    def simulates(self) -> bool:
        return "--simulated" in self.arguments

    @property
    def rolled_out(self) -> bool:
        return self.observed and {self.current, self.updated, self.available} == {self.desired}

    def flag(self, name: str) -> str:
        """Return the value of a flag (`--flag=value`) in the arguments; empty if the flag is missing."""
        words = (word.partition("=") for word in self.arguments)
        return next((value for flag, _, value in words if flag == name), "")
