"""Finds a node's kind of SGX, and the nodes that a Pod's spec allows (by the scheduler's rules). No I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Self

from confcom.kubernetes.node import Node, Taint
from confcom.kubernetes.objects import KubernetesObject, listing, mapping, text, texts

SIMULATED_LABEL = "confcom.internal/simulated-sgx"
"""The label with which a user marks a node for simulation."""
NFD_LABEL = "feature.node.kubernetes.io/cpu-security.sgx.enabled"
"""The label that Node Feature Discovery puts on a node whose CPU and firmware have SGX enabled."""
_AZURE_SIZES = re.compile(r"standard_dc[0-9]+d?s_v3", re.IGNORECASE)
"""Azure's VM sizes with SGX (DCsv3, DCdsv3), as in the label node.kubernetes.io/instance-type."""
_DAEMONS_TOLERATE = frozenset(
    f"node.kubernetes.io/{condition}"
    for condition in ("not-ready", "unreachable", "disk-pressure", "memory-pressure", "pid-pressure", "unschedulable")
)
"""Taints that the DaemonSet controller makes its Pods tolerate (Kubernetes' docs: "Taints and tolerations")."""


class SgxKind(StrEnum):
    HARDWARE = "hardware"
    SIMULATED = "simulated"
    NONE = "none"


def sgx_kind(node: Node) -> SgxKind:
    """Read a node's labels. Both kinds count as hardware, since the plugin never simulates SGX on an SGX CPU."""
    size = node.labels.get("node.kubernetes.io/instance-type", "")
    if node.labels.get(NFD_LABEL) == "true" or _AZURE_SIZES.fullmatch(size):
        return SgxKind.HARDWARE
    return SgxKind.SIMULATED if node.labels.get(SIMULATED_LABEL) == "true" else SgxKind.NONE


class _Toleration(NamedTuple):
    key: str
    operator: str
    value: str
    effect: str

    def covers(self, taint: Taint) -> bool:
        if self.effect not in {"", taint.effect}:
            return False
        if self.operator == "Exists":
            return self.key in {"", taint.key}
        return (self.key, self.value) == (taint.key, taint.value)


class _Requirement(NamedTuple):
    key: str
    operator: str
    values: tuple[str, ...]

    def holds(self, node: Node) -> bool:
        value = node.name if self.key == "metadata.name" else node.labels.get(self.key)  # the only known field
        if self.operator in {"Exists", "DoesNotExist"}:
            return (value is not None) is (self.operator == "Exists")
        if self.operator in {"In", "NotIn"}:
            return (value in self.values) is (self.operator == "In")
        try:
            ours, theirs = int(value or ""), int(self.values[0])
        except (ValueError, IndexError):
            return False
        return {"Gt": ours > theirs, "Lt": ours < theirs}.get(self.operator, False)


@dataclass(frozen=True, slots=True)
class NodeSelection:
    """The node constraints of a Pod's spec: nodeSelector, required nodeAffinity, tolerations."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """The nodeSelector."""
    terms: tuple[tuple[_Requirement, ...], ...] | None = None
    """The required node affinity: at least one term must match; None if the spec has no node affinity."""
    tolerations: tuple[_Toleration, ...] = ()

    @classmethod
    def parse(cls, pod_spec: KubernetesObject) -> Self:
        affinity = mapping(pod_spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
        tolerations = (
            _Toleration(*(text(given, part) for part in _Toleration._fields))
            for given in listing(pod_spec, "tolerations")
        )
        terms = tuple(map(_requirements, listing(affinity, "nodeSelectorTerms"))) if affinity else None
        return cls(mapping(pod_spec, "nodeSelector"), terms, tuple(tolerations))

    def selects(self, node: Node) -> bool:
        if any(node.labels.get(key) != value for key, value in self.labels.items()):
            return False
        return self.terms is None or any(term and all(each.holds(node) for each in term) for term in self.terms)

    def untolerated(self, node: Node) -> tuple[str, ...]:
        """Return the taints that a DaemonSet's Pod does not tolerate, in kubectl's notation (`KEY=VALUE:EFFECT`)."""
        return tuple(
            str(taint)
            for taint in node.taints
            if taint.effect in {"NoSchedule", "NoExecute"}
            and taint.key not in _DAEMONS_TOLERATE
            and not any(toleration.covers(taint) for toleration in self.tolerations)
        )


def _requirements(term: KubernetesObject) -> tuple[_Requirement, ...]:
    return tuple(
        _Requirement(text(given, "key"), text(given, "operator"), texts(given, "values"))
        for part in ("matchExpressions", "matchFields")
        for given in listing(term, part)
    )
