"""Compare the EPC that a device plugin found, that the node's status shows, and that Pods request. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from confcom.addon.problems import Problem
from confcom.kubernetes.epc_accounting import AccountingKind
from confcom.kubernetes.inventory import Inventory
from confcom.kubernetes.names import OURS
from confcom.kubernetes.node import Node


@dataclass(frozen=True, slots=True)
class NodeEpc:
    """A node's EPC in MiB, and the name of the resource that offers this EPC."""

    resource: str
    capacity: int
    allocatable: int
    used: int | None
    """The sum of the Pods' requests, counted as the scheduler does; None if the Pods were not read."""
    plugin: Inventory | None = None
    maximum: int | None = None

    @property
    def free(self) -> int | None:
        return None if self.used is None else max(0, self.allocatable - self.used)

    def to_json(self) -> dict[str, object]:
        amounts = {f"{name}_mib": getattr(self, name) for name in ("capacity", "allocatable", "used", "free")}
        offer: dict[str, object] = {"found_mib": None, "offered_mib": None, "accounting": None}
        if self.plugin:
            counted = self.plugin.accounting
            shown = {name: getattr(counted, name) for name in ("kind", "choice", "reason", "held_back_mib", "kept_mib")}
            offer = {"found_mib": self.plugin.epc.mib, "offered_mib": counted.advertised_mib, "accounting": shown}
        return {"resource": self.resource, **amounts, **offer}


def epc_problems(epc: NodeEpc, *, plugin_ready: bool) -> Iterator[Problem]:
    offer, amounts = epc.plugin.accounting if plugin_ready and epc.plugin else None, (epc.capacity, epc.allocatable)
    offered, as_capacity = epc.allocatable, False
    if offer:
        as_capacity, offered = offer.kind is AccountingKind.CAPACITY, offer.advertised_mib
        offered = min(offered, epc.maximum) if as_capacity and epc.maximum else offered
    if not plugin_ready and epc.capacity and not epc.allocatable:
        why = f"its {epc.capacity} MiB of EPC are unavailable, since no device plugin offers them"
        yield Problem(why, code="epc-not-offered")
    elif (epc.used or 0) > offered:
        why = f"its Pods request {epc.used} MiB of EPC, more than the {offered} it is to have; end some of the Pods"
        if offer and offered < offer.advertised_mib:
            why += f", or raise controller.maxEpcMiBPerNode (to at most {offer.advertised_mib})"
        yield Problem(why, code="epc-shortfall")
    elif as_capacity and {*amounts} != {offered}:
        why = f"the node is to have {offered} MiB, and its status has {epc.capacity} ({epc.allocatable} allocatable): "
        why += "the controller writes it within seconds, or five minutes after a change from devices"
        yield Problem(why, code="capacity-not-written")
    elif plugin_ready and not as_capacity and (not epc.allocatable or (offer and {*amounts} != {offered})):
        offers = f"{offered} MiB" if offer else "EPC"
        why = f"the device plugin offers {offers}, and the kubelet {epc.allocatable} MiB; a kubelet reports every 10 s"
        yield Problem(why, code="epc-not-reported")


def unmet_requests(node: Node, used: Mapping[tuple[str, str], int], *, selected: bool) -> Mapping[str, tuple[int, int]]:
    """Return the resources that Pods request in excess of the offer, with the requested and offered amounts.

    If no DaemonSet selects the node, EPC that the controller wrote to the node does not count as offered.
    """
    offers = {name: 0 if name in node.written and not selected else node.allocatable.get(name, 0) for name in OURS}
    amounts = {name: (used.get((node.name, name), 0), offered) for name, offered in sorted(offers.items())}
    return {name: (requested, offered) for name, (requested, offered) in amounts.items() if requested > offered}
