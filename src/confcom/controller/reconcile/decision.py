"""Decides what a node's capacity has to be. Pure: values in, decisions out.

The rules, for each resource of a node:

* a plugin that offers devices: the kubelet counts, and nothing is written;
* a plugin that has the capacity written: what it found, within the configured maximum; it is not lowered below what
  bound Pods request, because a restarted kubelet fails Pods that no longer fit, and turns away those on their way;
* for Pods it is raised in one case only: the node was set to zero, and the kubelet has accepted them. Anybody who may
  make a Pod can bind it to a node, whatever it requests; and without the key a kubelet accepts any request;
* a plugin that does not answer: nothing changes;
* no plugin for a configured time, and no bound Pod that requests any: the key is removed if the controller wrote it.
  Zero is never written: a restarted kubelet would fail running Pods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from confcom.controller.reconcile.facts import Accounting, Amount, NodeFacts, Offer, Requested


@dataclass(frozen=True, slots=True)
class Rules:
    """What is configured.

    Args:
        resources: the names of EPC on nodes.
        maximum_mib: the largest amount that is written.
        gone_seconds: how long a node has to be without a plugin until the key is removed.
    """

    resources: tuple[str, ...]
    maximum_mib: int
    gone_seconds: float


@dataclass(frozen=True, slots=True)
class Plugins:
    """The plugins of one node.

    Args:
        running: how many Pods there are.
        offers: what those say that answered, the newest Pod's first.
    """

    running: int = 0
    offers: tuple[Offer, ...] = ()

    def counted_by_devices(self, resource: str) -> bool:
        """Return whether any plugin offers devices of that name; during an update there are two plugins."""
        return any(one.accounting is Accounting.DEVICE and one.resource == resource for one in self.offers)

    def offered(self, resource: str) -> int:
        """Return what the newest plugin that has this resource counted by capacity has found; 0 if none has."""
        found = (one.mib for one in self.offers if one.accounting is Accounting.CAPACITY and one.resource == resource)
        return next(found, 0)

    def misses(self, resource: str) -> bool:
        """Return whether certainly no plugin offers this resource: all have answered, and none does."""
        return (
            len(self.offers) == self.running and not self.counted_by_devices(resource) and self.offered(resource) == 0
        )


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one resource of a node, in capacity and allocatable alike."""

    resource: str
    mib: int | None
    """The amount to write; None removes the key."""
    takes: bool
    """Whether it takes EPC away, which needs another look at the node and its Pods first."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Pods request more than the plugin found."""

    resource: str
    requested_mib: int
    offered_mib: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about a node."""

    changes: tuple[Change, ...] = ()
    shortfalls: tuple[Shortfall, ...] = ()
    waits: bool = False
    """Whether something will be due without another event: a key that is to be removed later."""


def decide(
    node: NodeFacts, plugins: Plugins, requested: Sequence[Requested], missing_seconds: Sequence[float], rules: Rules
) -> Decision:
    """Decide about one node.

    Args:
        node: its capacity and allocatable.
        plugins: its plugins.
        requested: what its bound Pods request, for each resource.
        missing_seconds: for how long the plugins have missed each resource.
        rules: what is configured.
    """
    changes: list[Change] = []
    shortfalls: list[Shortfall] = []
    waits = False
    for resource, amount, asked, missing in zip(rules.resources, node.amounts, requested, missing_seconds, strict=True):
        if plugins.counted_by_devices(resource):
            continue
        if offered := plugins.offered(resource):
            limited = min(offered, rules.maximum_mib)
            floor = asked.accepted if amount.capacity == 0 else min(asked.bound, amount.capacity or 0)
            if (told := max(floor, asked.accepted)) > limited:
                shortfalls.append(Shortfall(resource, told, limited))
            if change := _write(resource, amount, floor=floor, limited=limited, maximum=rules.maximum_mib):
                changes.append(change)
        elif amount.ours and amount.capacity is not None and plugins.misses(resource):
            if asked.bound == 0 and missing >= rules.gone_seconds:
                changes.append(Change(resource, None, takes=True))
            else:
                waits = True
    return Decision(tuple(changes), tuple(shortfalls), waits)


def _write(resource: str, amount: Amount, *, floor: int, limited: int, maximum: int) -> Change | None:
    wanted = min(max(limited, floor), maximum)
    if amount.capacity == wanted and amount.allocatable == wanted:
        return None
    there = amount.capacity or 0
    if floor > wanted and there > wanted:
        # Pods that were bound before the maximum was lowered; less would fail them.
        return None
    return Change(resource, wanted, takes=wanted < there)
