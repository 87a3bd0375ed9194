"""A node's EPC: found, offered, requested and free, and how these differ from what they should be. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from confcom.addon.daemons.daemon_pods import DaemonPod, PodState
from confcom.addon.daemons.hardware_helpers import Note
from confcom.addon.model.epc_accounting import EpcSeen, PluginEpc
from confcom.addon.model.problems import Problem, shown
from confcom.kubernetes.epc_accounting import AccountingKind


@dataclass(frozen=True, slots=True)
class EpcStatus:
    """A node's EPC in MiB, and the resource name under which it is offered."""

    resource: str
    capacity: int
    allocatable: int
    """What the scheduler offers to Pods."""
    used: int
    """What the Pods on the node request, as the scheduler counts."""
    plugin: PluginEpc | None = None
    """What the device plugin found; None if it was not asked, or did not tell."""
    maximum: int | None = None
    """The most that the controller gives to a node; None if it is unknown, or there is no controller."""

    @property
    def free(self) -> int:
        """What new Pods can have."""
        return max(0, self.allocatable - self.used)

    @property
    def is_limited(self) -> bool:
        """Whether the node gets less than its device plugin offers, because of the controller's maximum."""
        return (
            self.plugin is not None
            and self.plugin.kind is AccountingKind.CAPACITY
            and self.maximum is not None
            and self.maximum < self.plugin.offered
        )

    def to_json(self) -> dict[str, object]:
        """Return the object for `--output json`."""
        return {
            "resource": self.resource,
            "found_mib": None if self.plugin is None else self.plugin.found,
            "offered_mib": None if self.plugin is None else self.plugin.offered,
            "capacity_mib": self.capacity,
            "allocatable_mib": self.allocatable,
            "used_mib": self.used,
            "free_mib": self.free,
            "accounting": None if self.plugin is None else self.plugin.to_json(),
        }


def epc_problems(epc: EpcStatus, plugins: Iterable[DaemonPod]) -> Iterator[Problem]:
    """Yield the problems of a node's EPC.

    Args:
        epc: the node's EPC.
        plugins: its device plugins.
    """
    ready = any(pod.state is PodState.READY for pod in plugins)
    if ready and epc.plugin is not None and epc.plugin.kind is AccountingKind.CAPACITY:
        yield from _capacity_problems(epc, epc.plugin)
    elif not epc.allocatable and ready:
        yield Problem(
            "the device plugin is ready, but the kubelet offers no EPC yet; it reports every 10 seconds",
            code="epc-not-reported",
        )
    elif not epc.allocatable and epc.capacity:
        yield Problem(
            f"its {epc.capacity} MiB of EPC are unavailable, since no device plugin offers them",
            code="epc-not-offered",
        )
    elif ready and epc.plugin is not None and epc.capacity != epc.plugin.offered:
        yield Problem(
            f"the device plugin offers {epc.plugin.offered} MiB, and the kubelet {epc.capacity}; it reports every 10 "
            "seconds",
            code="epc-not-reported",
        )


def _capacity_problems(epc: EpcStatus, plugin: PluginEpc) -> Iterator[Problem]:
    if epc.used > plugin.offered:
        yield Problem(
            f"its Pods request {epc.used} MiB of EPC, and it has {plugin.offered} MiB: enclaves page, and the node is "
            "not reduced below what they request; end some of them",
            code="epc-shortfall",
        )
        return
    wanted = plugin.offered if epc.maximum is None else min(plugin.offered, epc.maximum)
    if epc.used > wanted:
        yield Problem(
            f"its Pods request {epc.used} MiB of EPC, and controller.maxEpcMiBPerNode is {wanted}: the node is not "
            f"reduced below what they request; end some of them, or raise it (up to {plugin.offered} are there)",
            code="epc-above-maximum",
        )
    elif not epc.capacity == epc.allocatable == wanted:
        yield Problem(
            f"the node is to have {wanted} MiB, and its status has {epc.capacity}, of which "
            f"{epc.allocatable} can be allocated: the controller writes it within seconds, and for five minutes after "
            "a change from devices the kubelet undoes that",
            code="capacity-not-written",
        )


def accounting_notes(nodes: Mapping[str, EpcStatus]) -> Iterator[Note]:
    """Yield what must be known of the nodes' accounting even if nothing is wrong.

    Args:
        nodes: by name, their EPC.
    """
    told = {name: epc.plugin for name, epc in nodes.items() if epc.plugin is not None}
    changeable = [name for name, plugin in told.items() if plugin.change_possible]
    if changeable:
        yield Note(
            f"{shown(changeable)} could count EPC as capacity, and keeps the devices that the kubelet knows "
            f"({told[changeable[0]].reason}): when no Pod with EPC runs there, `confcom change-accounting capacity` "
            "changes that",
            code="accounting-change-possible",
        )
    held = [name for name, plugin in told.items() if plugin.held_back and name not in changeable]
    if held:
        plugin = told[held[0]]
        yield Note(
            f"EPC is held back on {shown(held)}: {plugin.held_back} of {plugin.found} MiB on {held[0]} "
            f"({plugin.reason})",
            code="epc-held-back",
        )
    limited = [name for name, epc in nodes.items() if epc.is_limited]
    if limited:
        epc = nodes[limited[0]]
        yield Note(
            f"controller.maxEpcMiBPerNode limits {shown(limited)} to {epc.maximum} MiB of EPC, of "
            f"{told[limited[0]].offered} that {limited[0]} could offer",
            code="epc-limited",
        )


def accounting_doubts(seen: EpcSeen) -> Iterator[Problem]:
    """Yield that device plugins did not tell how they count."""
    if seen.unread:
        nodes = sorted(seen.unread)
        yield Problem(
            f"how EPC is counted on {shown(nodes)}: the device plugin cannot be asked: {seen.unread[nodes[0]]}",
            code="accounting-not-read",
        )
