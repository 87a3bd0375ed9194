"""Reading Kubernetes objects as they are in JSON: whatever is missing reads as empty. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

KubernetesObject = Mapping[str, Any]
"""A decoded object of the API, or a part of one."""

_QUANTITY = re.compile(r"([+-]?[0-9.]+)([num]|[kMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?")
_DECIMAL = {unit: Fraction(1000) ** n for n, unit in enumerate(["n", "u", "m", "", *"kMGTPE"], -3)}
_BINARY = {f"{unit}i": Fraction(1024**n) for n, unit in enumerate("KMGTPE", 1)}

TERMINAL = frozenset({"Succeeded", "Failed"})
"""Phases in which a pod holds nothing any more."""


def mapping(thing: KubernetesObject, *path: str) -> KubernetesObject:
    """What is at a path, if it is an object; else an empty one."""
    for key in path:
        found = thing.get(key)
        if not isinstance(found, Mapping):
            return {}
        thing = found
    return thing


def listing(thing: KubernetesObject, *path: str) -> Sequence[KubernetesObject]:
    """The objects of the list at a path."""
    found = mapping(thing, *path[:-1]).get(path[-1])
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def text(thing: KubernetesObject, *path: str) -> str:
    """The text, number or truth at a path, as text."""
    found = mapping(thing, *path[:-1]).get(path[-1])
    return "" if found is None else str(found)


def number(thing: KubernetesObject, *path: str) -> int:
    """The whole number at a path, or 0."""
    found = mapping(thing, *path[:-1]).get(path[-1])
    return found if isinstance(found, int) else 0


def time_of(stamp: str) -> datetime | None:
    """The time that the API server writes so; None for what is none."""
    try:
        found = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def name_of(thing: KubernetesObject) -> str:
    """Its name."""
    return text(thing, "metadata", "name")


def namespace_of(thing: KubernetesObject) -> str:
    """Its namespace."""
    return text(thing, "metadata", "namespace")


def labels_of(thing: KubernetesObject) -> Mapping[str, str]:
    """Its labels."""
    return mapping(thing, "metadata", "labels")


def of_kind(things: Sequence[KubernetesObject], kind: str) -> tuple[KubernetesObject, ...]:
    """Those of one kind."""
    return tuple(thing for thing in things if thing.get("kind") == kind)


def condition(thing: KubernetesObject, kind: str) -> KubernetesObject:
    """A condition of its status, or an empty one."""
    return next((one for one in listing(thing, "status", "conditions") if one.get("type") == kind), {})


def has_failed(job: KubernetesObject) -> bool:
    """Whether a Job has no retries or no time left."""
    return condition(job, "Failed").get("status") == "True"


def owner_of(thing: KubernetesObject) -> KubernetesObject:
    """The reference to its controller, or an empty one."""
    return next((one for one in listing(thing, "metadata", "ownerReferences") if one.get("controller")), {})


def node_of(pod: KubernetesObject) -> str:
    """The node that a pod is on, or that a DaemonSet made it for while it is not scheduled yet."""
    if bound := text(pod, "spec", "nodeName"):
        return bound
    required = mapping(pod, "spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    for term in listing(required, "nodeSelectorTerms"):
        for field in listing(term, "matchFields"):
            values = field.get("values")
            if field.get("key") == "metadata.name" and isinstance(values, list) and len(values) == 1:
                return str(values[0])
    return ""


def quantity(text: str) -> Fraction | None:
    """The exact value of a quantity such as `128Mi` or `0.5`; None for what is none."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    digits, unit = match[1], match[2] or ""
    try:
        return Fraction(digits) * ((_DECIMAL | _BINARY).get(unit) or Fraction(10) ** int(unit[1:]))
    except ValueError:
        return None


def amount(text: str) -> int:
    """A quantity as a whole number, rounded up; 0 for what is none."""
    return math.ceil(quantity(text) or 0)


def requests_of(pod: KubernetesObject, resource: str) -> int:
    """What a pod takes of an extended resource, as the scheduler counts.

    That is its containers and sidecars together, or its largest init container with the sidecars before it.
    """
    sidecars = largest = 0
    for container in listing(pod, "spec", "initContainers"):
        wanted = _limit(container, resource)
        if container.get("restartPolicy") == "Always":
            sidecars += wanted
            largest = max(largest, sidecars)
        else:
            largest = max(largest, sidecars + wanted)
    return max(largest, sidecars + sum(_limit(one, resource) for one in listing(pod, "spec", "containers")))


def resource_names(pod: KubernetesObject) -> Iterator[str]:
    """Every resource that a container of a pod limits or requests some of; 0 asks for nothing."""
    for container in [*listing(pod, "spec", "containers"), *listing(pod, "spec", "initContainers")]:
        for kind in ("limits", "requests"):
            asked = mapping(container, "resources", kind)
            yield from (name for name in asked if amount(text(asked, name)))


def _limit(container: KubernetesObject, resource: str) -> int:
    return amount(
        text(container, "resources", "limits", resource) or text(container, "resources", "requests", resource)
    )
