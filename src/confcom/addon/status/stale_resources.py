"""Stale resources: what a device plugin that is gone leaves in a node's status, and how it is removed. Pure.

The kubelet keeps a resource for five minutes after its plugin has gone, then reports 0 and forgets it; the key in the
node's status stays for ever. The kubelet knows nothing of a resource that the controller has written there: its key is
removed at once. A key is removed and never set to 0: at the kubelet's next start, a 0 ends pods that still run with the
resource.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from confcom.addon.model.resources import SHARED, allocatable, offered
from confcom.kubernetes.objects import KubernetesObject, amount, condition, listing, mapping, name_of, text

KUBELET_KEEPS_SECONDS = 300.0
"""The kubelet's endpointStopGracePeriod."""
REPORT_SECONDS = 10.0
"""The kubelet's nodeStatusUpdateFrequency: the longest delay until its state is in the API."""
BUSY_KUBELET_SECONDS = 60.0
"""Additional time beyond both, for a kubelet that is busy."""
FOREIGN_AFTER_SECONDS = REPORT_SECONDS + BUSY_KUBELET_SECONDS
"""A resource that is still allocatable this long after our plugin's end is offered by another plugin."""
SETTLED_SECONDS = 12.0
"""A key that has not come back for longer than one report interval of the kubelet does not come back."""


CONTROLLER = "confcom-controller"
"""The field manager of the controller: the API server records by it what the controller wrote last."""


class Stage(StrEnum):
    """How far the removal is on a node."""

    CLEAN = "clean"
    WRITTEN = "written by the controller"
    KEPT = "kept by the kubelet"
    DEAD = "at 0"
    OFFERED = "offered"
    """Allocatable: a plugin serves it, or the kubelet has not reported yet that none does."""
    SILENT = "the kubelet does not report"


@dataclass(frozen=True, slots=True)
class StaleResources:
    """The add-on's resources that are left in one node's status."""

    node: str
    stage: Stage
    names: tuple[str, ...]
    others: tuple[str, ...] = ()
    """Resources that another plugin offers there; they are not removed."""


def stale_resources(node: KubernetesObject, *, ours: bool = False, passed: float = 0) -> StaleResources:
    """Return what is left of our resources on a node.

    Args:
        node: its current object.
        ours: whether the node had a resource name before that only the add-on uses; a current one counts anyway.
        passed: seconds since our plugin's end.
    """
    left, by_controller = offered(node), written(node)
    if not ours and left.keys() <= SHARED:
        return StaleResources(name_of(node), Stage.CLEAN, ())
    reports = condition(node, "Ready").get("status") == "True"
    served = sorted(name for name in left if reports and allocatable(node, name) and name not in by_controller)
    others = tuple(served) if passed >= FOREIGN_AFTER_SECONDS else ()
    names = tuple(sorted(left.keys() - set(others)))
    if not names:
        stage = Stage.CLEAN
    elif by_controller:
        stage = Stage.WRITTEN
    elif not any(left[name] for name in names):
        stage = Stage.DEAD
    elif not reports:
        stage = Stage.SILENT
    else:
        stage = Stage.KEPT if set(served) <= set(others) else Stage.OFFERED
    return StaleResources(name_of(node), stage, names, others)


def written(node: KubernetesObject) -> frozenset[str]:
    """Return our resources in a node's capacity that the controller has written, and nobody since.

    Args:
        node: its object with managed fields; without them, nothing is known to be written by the controller.
    """
    keys: set[str] = set()
    for entry in listing(node, "metadata", "managedFields"):
        if text(entry, "manager") == CONTROLLER and text(entry, "subresource") == "status":
            fields = mapping(entry, "fieldsV1", "f:status", "f:capacity")
            keys |= {key.removeprefix("f:") for key in fields}
    return frozenset(keys & offered(node).keys())


def removal(node: KubernetesObject) -> Sequence[Mapping[str, str]]:
    """Return the JSON patch (RFC 6902) of the node's status that removes keys, and nothing else.

    These are the keys that are at 0, and those that the controller has written. Each removal is preceded by a test, so
    that the whole patch fails if a plugin has come back meanwhile.
    """
    patch = []
    by_controller = written(node)
    dead = {name for name, count in offered(node).items() if not count}
    for part in ("capacity", "allocatable"):
        for name, quantity in mapping(node, "status", part).items():
            if name in by_controller or (name in dead and amount(str(quantity)) == 0):
                path = f"/status/{part}/{name.replace('~', '~0').replace('/', '~1')}"
                patch += [{"op": "test", "path": path, "value": str(quantity)}, {"op": "remove", "path": path}]
    return patch


@dataclass(frozen=True, slots=True)
class Settling:
    """When each node last had something left: a report of the kubelet may bring a key back."""

    last_seen: Mapping[str, float] = field(default_factory=dict)

    def after(self, left: Sequence[StaleResources], now: float) -> Settling:
        """Return it updated by one more poll."""
        return Settling({**self.last_seen, **{one.node: now for one in left if one.stage is not Stage.CLEAN}})

    def settled(self, left: Sequence[StaleResources], now: float) -> bool:
        """Return whether all nodes are clean, and have been for SETTLED_SECONDS."""
        clean = all(one.stage is Stage.CLEAN for one in left)
        return clean and all(now - seen >= SETTLED_SECONDS for seen in self.last_seen.values())
