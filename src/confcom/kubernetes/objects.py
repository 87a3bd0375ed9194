"""Functions that read fields of Kubernetes objects decoded from JSON. A missing field is read as empty."""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

KubernetesObject = Mapping[str, Any]
"""An API object decoded from JSON, or a part of one."""

_QUANTITY = re.compile(r"([+-]?[0-9.]+)([num]|[kMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?")
_DECIMAL = {unit: Fraction(1000) ** n for n, unit in enumerate(["n", "u", "m", "", *"kMGTPE"], -3)}
_BINARY = {f"{unit}i": Fraction(1024**n) for n, unit in enumerate("KMGTPE", 1)}

_MAPPINGS = (dict, Mapping)
"""`dict` is first, since isinstance checks `dict` fastest, and a large cluster needs millions of checks."""

TERMINAL = frozenset({"Succeeded", "Failed"})
"""Phases in which a pod no longer holds resources."""


def mapping(thing: KubernetesObject, *path: str) -> KubernetesObject:
    for key in path:
        found = thing.get(key)
        if not isinstance(found, _MAPPINGS):
            return {}
        thing = found
    return thing


def listing(thing: KubernetesObject, *path: str) -> Sequence[KubernetesObject]:
    found = mapping(thing, *path[:-1]).get(path[-1])
    return [one for one in found if isinstance(one, _MAPPINGS)] if isinstance(found, list) else []


def text(thing: KubernetesObject, *path: str) -> str:
    """Return the string, number or boolean at a path as text; empty text if there is no value."""
    found: object = thing
    for key in path:  # inlined `mapping`, for speed in millions of calls
        if not isinstance(found, _MAPPINGS):
            return ""
        found = found.get(key)
    return "" if found is None else str(found)


def texts(thing: KubernetesObject, *path: str) -> tuple[str, ...]:
    found = mapping(thing, *path[:-1]).get(path[-1])
    return tuple(map(str, found)) if isinstance(found, list) else ()


def number(thing: KubernetesObject, *path: str) -> int:
    found = mapping(thing, *path[:-1]).get(path[-1])
    return found if isinstance(found, int) else 0


def time_of(stamp: str) -> datetime | None:
    """Parse a time in the API server's format; None if the text is not a time."""
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
    """Return the object's status condition of the type `kind`, or an empty object."""
    return next((one for one in listing(thing, "status", "conditions") if one.get("type") == kind), {})


def owner_of(thing: KubernetesObject) -> KubernetesObject:
    """Return the object's owner reference to its controller, or an empty object."""
    return next((one for one in listing(thing, "metadata", "ownerReferences") if one.get("controller")), {})


def node_of(pod: KubernetesObject) -> str:
    """Return the node to which a pod is bound; if it is bound to none, the node that its DaemonSet chose."""
    if bound := text(pod, "spec", "nodeName"):
        return bound
    required = mapping(pod, "spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    for term in listing(required, "nodeSelectorTerms"):
        for field in listing(term, "matchFields"):
            if field.get("key") == "metadata.name" and len(names := texts(field, "values")) == 1:
                return names[0]
    return ""


def quantity(text: str) -> Fraction | None:
    """Return the exact value of a quantity such as `128Mi` or `0.5`; None if the text is not a quantity."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    digits, unit = match[1], match[2] or ""
    try:
        return Fraction(digits) * ((_DECIMAL | _BINARY).get(unit) or Fraction(10) ** int(unit[1:]))
    except ValueError:
        return None


def amount(text: str) -> int:
    """Return a quantity as an integer, rounded up; 0 if the text is not a quantity."""
    if text.isascii() and text.isdigit():  # true for most quantities
        return int(text)
    return math.ceil(quantity(text) or 0)


def requests_of(pod: KubernetesObject, resource: str) -> int:
    """Return how much of an extended resource the scheduler counts for a pod.

    The amount is the larger of two sums, plus the overhead of the pod's RuntimeClass. The first sum has all
    containers and sidecars; the second has the largest init container and the sidecars before it.
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
    """Yield each resource in the limits and requests of a pod's containers, except for amounts of 0."""
    for container in [*listing(pod, "spec", "containers"), *listing(pod, "spec", "initContainers")]:
        for kind in ("limits", "requests"):
            asked = mapping(container, "resources", kind)
            yield from (name for name in asked if (not among or name in among) and amount(text(asked, name)))


def container_statuses(pod: KubernetesObject) -> list[KubernetesObject]:
    return [*listing(pod, "status", "initContainerStatuses"), *listing(pod, "status", "containerStatuses")]


def _limit(container: KubernetesObject, resource: str) -> int:
    return amount(
        text(container, "resources", "limits", resource) or text(container, "resources", "requests", resource)
    )


def requires(limit_range: KubernetesObject, resource: str) -> bool:
    """Return whether a LimitRange refuses Pods that do not request the resource."""
    parts = ("min", "max", "maxLimitRequestRatio")
    return any(resource in mapping(one, part) for one in listing(limit_range, "spec", "limits") for part in parts)
