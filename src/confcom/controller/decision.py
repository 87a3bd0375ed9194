"""Decides which capacity of EPC a node gets. The functions are pure: they get values and return decisions.

The rules for each resource of a node:

* If a plugin offers EPC as devices, the kubelet counts them, and the controller writes nothing.
* If a plugin offers EPC as capacity, its offer is written, up to the configured maximum. The amount is never
  lowered below bound Pods' requests: a restarted kubelet fails or rejects Pods that do not fit.
* An amount of zero is raised to what accepted Pods request, even above the offer. Other bound Pods do not
  count, as a Pod's creator can bind it to a node. Without a capacity key, a kubelet accepts any request.
* If a plugin does not answer, no amount changes.
* A key that the controller wrote is removed after a configured time without a plugin and without bound Pods
  with EPC. Zero is never written, because a restarted kubelet would then fail running Pods.

Decisions that depend on a node's Pods wait until these Pods have been read. Pods are not read to write
a node's first amount, or to raise an amount that is not zero, so no shortfall is found in these cases.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from confcom.kubernetes.epc_accounting import AccountingKind
from confcom.kubernetes.inventory import EpcOffer


class Amount(NamedTuple):
    capacity: int | None = None
    allocatable: int | None = None
    ours: bool = False
    """Whether the node's managed fields name the controller as the last writer of the capacity."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    name: str
    uid: str
    amounts: tuple[Amount, ...]
    version: int = field(default=0, compare=False)
    """The Node object's version. A later version has a larger number, as Kubernetes guarantees since 1.35."""


class PluginPod(NamedTuple):
    """A device plugin's Pod that is bound to a node, and has not ended."""

    name: str
    node: str
    address: str
    """The Pod's IP address; empty if the Pod has none yet, or if its address must not be contacted."""
    created: str
    """The Pod's creation time as the API server writes it; such strings sort chronologically."""
    incarnation: str
    """Text that changes when the plugin's inventory may have changed: after a restart or readiness change."""


class Requested(NamedTuple):
    """MiB of one resource that a node's Pods request: sums for bound Pods, and for accepted Pods."""

    bound: int = 0
    accepted: int = 0
    """MiB that accepted Pods request. Tenants can bind a Pod, but only the kubelet accepts a Pod."""


class NodePods(NamedTuple):
    """The result of a fresh read of a node's bound Pods: requests for each resource, names of plugins' Pods."""

    requested: tuple[Requested, ...]
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """EPC's resource names, a node's maximum MiB, and the time until nodes without plugin lose their keys."""

    resources: tuple[str, ...]
    maximum_mib: int
    gone_seconds: float


@dataclass(frozen=True, slots=True)
class Plugins:
    """The plugins of one node: the number of their Pods, and the received offers, the newest Pod's offer first."""

    running: int = 0
    offers: tuple[EpcOffer, ...] = ()

    def counted_by_devices(self, resource: str) -> bool:
        """Return whether any plugin offers devices of `resource`. During an update a node has two plugins."""
        return any(one.kind is AccountingKind.DEVICE and one.resource == resource for one in self.offers)

    def offered(self, resource: str) -> int | None:
        """Return the offer (MiB) of the newest plugin that has this resource as capacity; None if there is none."""
        capacity = (one for one in self.offers if one.kind is AccountingKind.CAPACITY and one.resource == resource)
        return next((one.advertised_mib for one in capacity), None)

    def is_gone(self, resource: str) -> bool:
        """Return whether this resource is certainly not offered: all plugins answered, and the newest lacks it."""
        offered = self.counted_by_devices(resource) or self.offered(resource)
        return not offered and len(self.offers) == self.running


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one resource of a node, both in its capacity and in its allocatable."""

    resource: str
    mib: int | None
    """The amount to write; None removes the key."""
    lowers: bool
    """Whether the change lowers the amount, or removes the key."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    resource: str
    requested_mib: int
    offered_mib: int


@dataclass(frozen=True, slots=True)
class Decision:
    changes: tuple[Change, ...] = ()
    shortfalls: tuple[Shortfall, ...] = ()
    waits: bool = False
    """Whether the node must be checked again later, when a key is due for removal."""
    reads: bool = False
    """Whether the node's Pods must be read, and the decision repeated with their requests."""


def decide(
    node: NodeFacts,
    plugins: Plugins,
    requested: Sequence[Requested] | None,
    missing_seconds: Sequence[float],
    rules: Rules,
) -> Decision:
    """Decide what to write for one node; `requested` is None if the node's Pods were not read."""
    changes: list[Change] = []
    shortfalls: list[Shortfall] = []
    waits = reads = False
    sums = requested or (Requested(),) * len(rules.resources)
    for resource, amount, asked, missing in zip(rules.resources, node.amounts, sums, missing_seconds, strict=True):
        if plugins.counted_by_devices(resource):
            continue
        offered = plugins.offered(resource)
        # If the plugin offers tenants 0 MiB, but Pods use EPC, the amount is lowered to these Pods' requests.
        if offered or (offered == 0 and amount.ours and amount.capacity and (requested is None or asked.bound)):
            limited = min(offered, rules.maximum_mib)
            if requested is None and amount.capacity is not None and not 0 < amount.capacity <= limited:
                reads = True
                continue
            floor = asked.accepted if amount.capacity == 0 else min(asked.bound, amount.capacity or 0)
            if (needed := max(floor, asked.accepted)) > limited:
                shortfalls.append(Shortfall(resource, needed, limited))
            if change := _write(resource, amount, floor=floor, limited=limited, maximum=rules.maximum_mib):
                changes.append(change)
        elif amount.ours and amount.capacity is not None and plugins.is_gone(resource):
            if missing < rules.gone_seconds or asked.bound:
                waits = True
            elif requested is None:
                reads = True
            else:
                changes.append(Change(resource, None, lowers=True))
    return Decision(tuple(changes), tuple(shortfalls), waits, reads)


def _write(resource: str, amount: Amount, *, floor: int, limited: int, maximum: int) -> Change | None:
    wanted = min(max(limited, floor), maximum)
    if amount.capacity == wanted and amount.allocatable == wanted:
        return None
    capacity = amount.capacity or 0
    if floor > wanted and capacity > wanted:
        return None  # Pods were bound before the maximum was lowered; a smaller amount would fail these Pods
    return Change(resource, wanted, lowers=wanted < capacity)
