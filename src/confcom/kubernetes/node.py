"""The fields of a node that the add-on reads: labels, taints, readiness, resources. A missing field is empty."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from confcom.kubernetes import objects
from confcom.kubernetes.names import FIELD_MANAGER, INTEL_EPC, OURS, REAL, SETS, ResourceSet
from confcom.kubernetes.objects import KubernetesObject, amount, listing, mapping, text

_NFD_RESOURCES = "nfd.node.kubernetes.io/extended-resources"
"""The annotation in which Node Feature Discovery lists the extended resources that it maintains."""


class Taint(NamedTuple):
    key: str
    value: str
    effect: str

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}"


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    ready: bool = False
    readiness: str = ""
    """The message of the condition Ready."""
    capacity: Mapping[str, int] = field(default_factory=dict)
    """Capacity of the add-on's resources; a resource's capacity becomes 0 when its plugin is gone."""
    allocatable: Mapping[str, int] = field(default_factory=dict)
    written: frozenset[str] = frozenset()
    """Resources whose capacity was last written by the controller."""
    extended: frozenset[str] = frozenset()
    """Resources that Node Feature Discovery maintains."""
    has_intel_epc: bool = False
    resources: ResourceSet = REAL
    """The resource names under which the node offers its EPC, or will offer it.

    After a change of names (`simulated.besideHardware`) a node has both sets: the kubelet keeps the resources
    of the old set for five minutes, and then keeps their keys with the amount 0."""

    @classmethod
    def parse(cls, node: KubernetesObject) -> Self:
        ready = objects.condition(node, "Ready")
        capacity, allocatable = (_amounts(node, part) for part in ("capacity", "allocatable"))
        offering = (
            *(names for names in SETS if allocatable.get(names.epc)),
            *(names for names in SETS if capacity.get(names.epc)),
            *(names for names in SETS if names.epc in capacity),
        )
        names = text(node, "metadata", "annotations", _NFD_RESOURCES).split(",")
        extended = frozenset(name.strip() for name in names if name.strip())
        return cls(
            objects.name_of(node),
            objects.labels_of(node),
            tuple(Taint(*(text(one, part) for part in Taint._fields)) for one in listing(node, "spec", "taints")),
            ready.get("status") == "True",
            text(ready, "message"),
            capacity,
            allocatable,
            written_by_controller(node) & capacity.keys(),
            extended,
            INTEL_EPC in extended or amount(text(node, "status", "capacity", INTEL_EPC)) > 0,
            offering[0] if offering else REAL,
        )

    @property
    def epc_mib(self) -> int:
        return self.allocatable.get(self.resources.epc, 0)


def _amounts(node: KubernetesObject, part: str) -> Mapping[str, int]:
    return {name: amount(str(given)) for name, given in mapping(node, "status", part).items() if name in OURS}


def written_by_controller(node: KubernetesObject) -> frozenset[str]:
    """Return the resources in a node's capacity that were last changed by the controller."""
    return frozenset(
        key.removeprefix("f:")
        for entry in listing(node, "metadata", "managedFields")
        if entry.get("manager") == FIELD_MANAGER
        for key in mapping(entry, "fieldsV1", "f:status", "f:capacity")
    )
