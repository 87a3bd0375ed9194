"""Decides about a node's capacity of EPC. Pure: values in, decisions out.

The rules, for each resource of a node:

* a plugin that offers devices: the kubelet counts, and the controller writes nothing;
* a plugin with EPC as capacity: its offer is written, up to the configured maximum, but never lowered below bound
  Pods' requests: a restarted kubelet fails Pods that no longer fit, and rejects those not accepted yet;
* Pods raise the amount above the offer only if it was zero and the kubelet has accepted them: any user who may
  create a Pod can bind it to a node, whatever the Pod requests. Without the key, a kubelet accepts any request;
* a plugin that does not answer: nothing changes;
* no plugin for a configured time, and no bound Pod with EPC: the key is removed if the controller wrote it.
  Zero is never written: a restarted kubelet would fail running Pods.

Decisions that depend on a node's Pods wait until the Pods were read. The first amount, or a larger amount,
does not depend on Pods, so no shortfall is found with it.
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
    """Whether the controller was the last to change the capacity, as the object's managed fields say."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    name: str
    uid: str
    amounts: tuple[Amount, ...]
    version: int = field(default=0, compare=False)
    """The object's version: later versions are larger (a promise of Kubernetes from 1.35 on)."""


class PluginPod(NamedTuple):
    """A device plugin's Pod that is bound to a node, and has not ended."""

    name: str
    node: str
    address: str
    """The Pod's IP address; empty if it has none yet, or an address that must not be contacted."""
    created: str
    """The Pod's creation time as the API server writes it; such strings sort chronologically."""
    incarnation: str
    """Text that changes whenever the plugin's answer may: by a container's restart, or a change of readiness."""


class Requested(NamedTuple):
    """MiB of one resource that a node's Pods request, of all bound Pods and of the accepted Pods."""

    bound: int = 0
    accepted: int = 0
    """MiB of Pods that the kubelet has accepted: a tenant can bind a Pod, but not have it accepted."""


class NodePods(NamedTuple):
    """A fresh read of a node's bound Pods: their requests for each resource, and the names of plugins' Pods."""

    requested: tuple[Requested, ...]
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """The resource names of EPC, a node's maximum, and the time until a node without plugin loses the key."""

    resources: tuple[str, ...]
    maximum_mib: int
    gone_seconds: float


@dataclass(frozen=True, slots=True)
class Plugins:
    """The plugins of one node: the number of Pods, and the offers of those that answered, the newest Pod's first."""

    running: int = 0
    offers: tuple[EpcOffer, ...] = ()

    def counted_by_devices(self, resource: str) -> bool:
        """Return whether any plugin offers devices of `resource`; during an update there are two plugins."""
        return any(one.kind is AccountingKind.DEVICE and one.resource == resource for one in self.offers)

    def offered(self, resource: str) -> int | None:
        """Return the offer of the newest plugin with this resource as capacity; None without such a plugin."""
        capacity = (one for one in self.offers if one.kind is AccountingKind.CAPACITY and one.resource == resource)
        return next((one.advertised_mib for one in capacity), None)

    def is_gone(self, resource: str) -> bool:
        """Return whether this resource is surely not offered: all plugins answered, and the newest lacks it."""
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
    """Re-check on a timer: a key awaits removal."""
    reads: bool = False
    """Read the node's Pods, and decide again with their requests."""


def decide(
    node: NodeFacts,
    plugins: Plugins,
    requested: Sequence[Requested] | None,
    missing_seconds: Sequence[float],
    rules: Rules,
) -> Decision:
    """Decide about one node; `requested` is None if the node's Pods were not read."""
    changes: list[Change] = []
    shortfalls: list[Shortfall] = []
    waits = reads = False
    sums = requested or (Requested(),) * len(rules.resources)
    for resource, amount, asked, missing in zip(rules.resources, node.amounts, sums, missing_seconds, strict=True):
        if plugins.counted_by_devices(resource):
            continue
        offered = plugins.offered(resource)
        # If the plugin leaves tenants nothing, a node in use is lowered to what its Pods request.
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
        return None  # Pods were bound before the maximum was lowered; a lower amount fails them
    return Change(resource, wanted, lowers=wanted < capacity)
