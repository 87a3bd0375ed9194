"""Preflight checks of quotes on SGX hardware: EPC that is set aside, and who may open the provision device. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from confcom.addon.model.chart_objects import Component, Plan, component_of, number_in_flag, pod_spec_of, simulates
from confcom.addon.model.node_selection import selects
from confcom.addon.model.problems import shown
from confcom.addon.model.resources import REAL, allocatable
from confcom.addon.preflight.findings import Check, Finding
from confcom.kubernetes.objects import KubernetesObject, listing, mapping, name_of, text

HELPERS_AT_ONCE = 2
"""Quote helpers on a node during an update: the device plugin sets EPC aside for both (`--helper-epc-mib` is that of
one)."""
_HELPER_EPC = "--helper-epc-mib"
_READ_WRITE = 0o6
_PROVISION = "provision"
"""The device's name in a device plugin's inventory."""


@dataclass(frozen=True, slots=True)
class ProvisionDevice:
    """The provision device of a node."""

    path: str
    mode: int
    gid: int

    @property
    def by_group(self) -> bool:
        """Whether only its group opens it for reading and writing, beside root, if anybody."""
        return self.mode & _READ_WRITE != _READ_WRITE

    @property
    def usable_group(self) -> bool:
        """Whether its group opens it, and is not that of root."""
        return self.gid != 0 and self.mode >> 3 & _READ_WRITE == _READ_WRITE

    def closed_to(self, groups: Sequence[int]) -> bool:
        """Return whether a user in these groups cannot open it."""
        return self.by_group and not (self.usable_group and self.gid in groups)


@dataclass(frozen=True, slots=True)
class DevicesSeen:
    """The provision devices of the nodes, as the device plugins tell them.

    Args:
        devices: by node.
        unread: by node, why its device plugin did not tell.
    """

    devices: Mapping[str, ProvisionDevice] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)


def provision_device(inventory: KubernetesObject) -> ProvisionDevice | None:
    """Return the provision device in the document of a device plugin's `/inventory`; None if there is none."""
    for one in listing(inventory, "devices", "nodes"):
        mode, gid = text(one, "mode"), one.get("gid")
        if text(one, "device") == _PROVISION and isinstance(gid, int) and set(mode) <= set("01234567") and mode:
            return ProvisionDevice(text(one, "path"), int(mode, 8), gid)
    return None


def hardware_helper_sets(daemons: Sequence[KubernetesObject]) -> list[KubernetesObject]:
    """Return the DaemonSets of quote helpers for hardware nodes."""
    return [one for one in daemons if component_of(one) is Component.QUOTE_HELPER and not simulates(one)]


def check_epc_set_aside(
    plan: Plan, nodes: Sequence[KubernetesObject], installed: Sequence[KubernetesObject]
) -> Iterator[Finding]:
    """Check whether hardware nodes would offer less EPC than now, since more of it is set aside for quote helpers.

    Args:
        plan: what is to be installed.
        nodes: all nodes of the cluster.
        installed: the DaemonSets that are already installed.
    """
    wanted = _set_aside(plan.plugins(simulated=False))
    before = _set_aside(Plan(tuple(installed)).plugins(simulated=False))
    if before is None or wanted is None or wanted <= before:
        return
    plugins = Plan(tuple(installed)).plugins(simulated=False)
    serving = [node for node in nodes if any(selects(pod_spec_of(one), node) for one in plugins)]
    if not serving:
        return
    less = wanted - before
    offering = {name_of(node): count for node in serving if (count := allocatable(node, REAL.epc))}
    smallest = min(offering, key=lambda name: offering[name], default="")
    example = (
        f": on {smallest}, which has the least, {max(0, offering[smallest] - less)} MiB of {offering[smallest]}"
        if smallest
        else ""
    )
    yield Finding.warning(
        Check.NODES,
        f"{wanted} MiB of EPC are set aside for quote helpers on each node with SGX hardware, {less} MiB more than now",
        why=f"workloads can have {less} MiB less there{example}",
        remedy="to leave nodes with SGX hardware as they are: --set quoteHelper.enabled=false",
        code="epc-set-aside",
    )


def check_provision_group(plan: Plan, seen: DevicesSeen | None) -> Iterator[Finding]:
    """Check whether the quote helpers of hardware nodes may open the provision device of each node.

    Args:
        plan: what is to be installed.
        seen: the nodes' devices; None if no device plugin was asked.
    """
    helpers = hardware_helper_sets(plan.daemon_sets)
    if not helpers or seen is None:
        return
    groups = _supplemental_groups(helpers)
    closed: dict[int, list[str]] = {}
    for node, device in sorted(seen.devices.items()):
        if device.closed_to(groups):
            closed.setdefault(device.gid, []).append(node)
    if closed:
        yield _group_differs(groups, closed, seen.devices)
    if seen.unread:
        node, why = next(iter(sorted(seen.unread.items())))
        yield Finding.warning(
            Check.NODES,
            f"the group of the provision device is unknown on {shown(sorted(seen.unread))}",
            why=f"its device plugin did not tell: {node}: {why}",
            remedy="see `ls -ln /dev/sgx_provision` on the node, and set quoteHelper.sgxPrvGroup to its group",
            code="sgx-prv-group-unknown",
        )


def _group_differs(
    groups: Sequence[int], closed: Mapping[int, Sequence[str]], devices: Mapping[str, ProvisionDevice]
) -> Finding:
    has = f"is {', '.join(map(str, groups))}" if groups else "is not set"
    where = "; ".join(f"{gid} on {shown(nodes)}" for gid, nodes in sorted(closed.items()))
    return Finding.warning(
        Check.NODES,
        f"quoteHelper.sgxPrvGroup {has}, and the group of /dev/sgx_provision is {where}",
        why="Intel's software cannot open the device there, and makes no quotes",
        remedy=_group_remedy([device for device in devices.values() if device.by_group]),
        code="sgx-prv-group-differs",
    )


def _group_remedy(devices: Sequence[ProvisionDevice]) -> str:
    if not all(one.usable_group for one in devices):
        return (
            'give the device to a group of its own on each node, by Intel\'s udev rule (GROUP="sgx_prv", '
            'MODE="0660"), and set quoteHelper.sgxPrvGroup to its gid'
        )
    needed = {one.gid for one in devices}
    if len(needed) == 1:
        return f"--set quoteHelper.sgxPrvGroup={needed.pop()}"
    return "give the group sgx_prv the same gid on all nodes, and set quoteHelper.sgxPrvGroup to it"


def _set_aside(plugins: Sequence[KubernetesObject]) -> int | None:
    """Return how many MiB these device plugins set aside on a node; None if there are none."""
    counts = [HELPERS_AT_ONCE * found for one in plugins if (found := number_in_flag(one, _HELPER_EPC)) is not None]
    return max(counts, default=0) if plugins else None


def _supplemental_groups(helpers: Sequence[KubernetesObject]) -> tuple[int, ...]:
    found = []
    for one in helpers:
        groups = mapping(pod_spec_of(one), "securityContext").get("supplementalGroups")
        found += [gid for gid in groups if isinstance(gid, int)] if isinstance(groups, list) else []
    return tuple(found)
