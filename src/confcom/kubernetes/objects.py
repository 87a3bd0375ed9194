"""Accessors for Kubernetes objects decoded from JSON: missing fields read as empty. Pure."""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

KubernetesObject = Mapping[str, Any]
"""A decoded API object, or a part of an API object."""

_QUANTITY = re.compile(r"([+-]?[0-9.]+)([num]|[kMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?")
_DECIMAL = {unit: Fraction(1000) ** n for n, unit in enumerate(["n", "u", "m", "", *"kMGTPE"], -3)}
_BINARY = {f"{unit}i": Fraction(1024**n) for n, unit in enumerate("KMGTPE", 1)}

_MAPPINGS = (dict, Mapping)
"""`dict` first, since isinstance is fastest for it: a large cluster needs millions of checks."""

TERMINAL = frozenset({"Succeeded", "Failed"})
"""Pod phases in which a pod holds no resources any more."""


def mapping(thing: KubernetesObject, *path: str) -> KubernetesObject:
    """Return the object at a path; an empty object if there is none."""
    for key in path:
        found = thing.get(key)
        if not isinstance(found, _MAPPINGS):
            return {}
        thing = found
    return thing


def listing(thing: KubernetesObject, *path: str) -> Sequence[KubernetesObject]:
    """Return the objects of the list at a path; an empty list if there is none."""
    found = mapping(thing, *path[:-1]).get(path[-1])
    return [one for one in found if isinstance(one, _MAPPINGS)] if isinstance(found, list) else []


def text(thing: KubernetesObject, *path: str) -> str:
    """Return the string, number or boolean at a path as text; empty if there is none."""
    found: object = thing
    for key in path:  # inlined `mapping`: there are millions of calls
        if not isinstance(found, _MAPPINGS):
            return ""
        found = found.get(key)
    return "" if found is None else str(found)


def texts(thing: KubernetesObject, *path: str) -> tuple[str, ...]:
    """Return the members of the list at a path as texts; none if there is no list."""
    found = mapping(thing, *path[:-1]).get(path[-1])
    return tuple(map(str, found)) if isinstance(found, list) else ()


def number(thing: KubernetesObject, *path: str) -> int:
    found = mapping(thing, *path[:-1]).get(path[-1])
    return found if isinstance(found, int) else 0


def time_of(stamp: str) -> datetime | None:
    """Parse a time as the API server writes it; None if it is not a time."""
    try:
        found = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def name_of(thing: KubernetesObject) -> str:
    return text(thing, "metadata", "name")


def namespace_of(thing: KubernetesObject) -> str:
    return text(thing, "metadata", "namespace")


def labels_of(thing: KubernetesObject) -> Mapping[str, str]:
    return mapping(thing, "metadata", "labels")


def condition(thing: KubernetesObject, kind: str) -> KubernetesObject:
    """Return the status condition of a type, or an empty object."""
    return next((one for one in listing(thing, "status", "conditions") if one.get("type") == kind), {})


def owner_of(thing: KubernetesObject) -> KubernetesObject:
    """Return the owner reference of the object's controller, or an empty object."""
    return next((one for one in listing(thing, "metadata", "ownerReferences") if one.get("controller")), {})


def node_of(pod: KubernetesObject) -> str:
    """Return the node that a pod is bound to; if it is not scheduled yet, the node that its DaemonSet chose."""
    if bound := text(pod, "spec", "nodeName"):
        return bound
    required = mapping(pod, "spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    for term in listing(required, "nodeSelectorTerms"):
        for field in listing(term, "matchFields"):
            if field.get("key") == "metadata.name" and len(names := texts(field, "values")) == 1:
                return names[0]
    return ""


def quantity(text: str) -> Fraction | None:
    """Return the exact value of a quantity such as `128Mi` or `0.5`; None if it is not a quantity."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    digits, unit = match[1], match[2] or ""
    try:
        return Fraction(digits) * ((_DECIMAL | _BINARY).get(unit) or Fraction(10) ** int(unit[1:]))
    except ValueError:
        return None


def amount(text: str) -> int:
    """Return a quantity as an integer, rounded up; 0 if it is not a quantity."""
    if text.isascii() and text.isdigit():  # most quantities in a large cluster
        return int(text)
    return math.ceil(quantity(text) or 0)


def requests_of(pod: KubernetesObject, resource: str) -> int:
    """Return how much of an extended resource a pod takes, as the scheduler counts.

    The amount is the larger of two sums: all containers and sidecars; or the largest init container and the
    sidecars before it. The overhead of the pod's RuntimeClass is added.
    """
    sidecars = largest = 0
    for container in listing(pod, "spec", "initContainers"):
        wanted = _limit(container, resource)
        if container.get("restartPolicy") == "Always":
            sidecars += wanted
            largest = max(largest, sidecars)
        else:
            largest = max(largest, sidecars + wanted)
    lasting = sidecars + sum(_limit(one, resource) for one in listing(pod, "spec", "containers"))
    return max(largest, lasting) + amount(text(pod, "spec", "overhead", resource))


def resource_names(pod: KubernetesObject, among: Collection[str] = ()) -> Iterator[str]:
    """Yield each resource in the limits and requests of a pod's containers; amounts of 0 are ignored."""
    for container in [*listing(pod, "spec", "containers"), *listing(pod, "spec", "initContainers")]:
        for kind in ("limits", "requests"):
            asked = mapping(container, "resources", kind)
            yield from (name for name in asked if (not among or name in among) and amount(text(asked, name)))


def container_statuses(pod: KubernetesObject) -> list[KubernetesObject]:
    """Return the statuses of a pod's init containers, sidecars among them, and of its containers."""
    return [*listing(pod, "status", "initContainerStatuses"), *listing(pod, "status", "containerStatuses")]


def _limit(container: KubernetesObject, resource: str) -> int:
    return amount(
        text(container, "resources", "limits", resource) or text(container, "resources", "requests", resource)
    )


def requires(limit_range: KubernetesObject, resource: str) -> bool:
    """Return whether a LimitRange refuses Pods that do not request a resource."""
    parts = ("min", "max", "maxLimitRequestRatio")
    return any(resource in mapping(one, part) for one in listing(limit_range, "spec", "limits") for part in parts)
