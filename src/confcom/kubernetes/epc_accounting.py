"""Decides how a node's EPC is counted: as devices (one per MiB) or as an amount in the node's capacity.

A restarted 1.36 kubelet stalls in proportion to the product of its devices and its allocated devices. From 1.36 on,
large EPC is therefore a number in the node's status, which confcom's controller writes. While containers hold EPC, a
node keeps its accounting and offers at least that EPC: a restarted kubelet fails Pods that exceed the offer.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

MAX_DEVICES = 262_144
"""Maximum number of devices of a node: the number of IDs in confcom.kubelet_api.device_list. A list entry has
16 bytes, so the full list just fits the kubelet's receive limit of 4 MiB."""
DEFAULT_MAX_EPC_DEVICES = 2_048
"""A restarted 1.36 kubelet stalls for a time proportional to all devices times allocated devices. If all
devices are allocated, it stalls for 0.4 s with 2,048 devices and 1.75 s with 4,096 (measured)."""
LARGEST_EPC_MIB = 1 << 20
"""1 TiB, the EPC of two processors that each have the largest EPC (512 GiB)."""
HELPERS = 2
"""Maximum number of quote helpers on a node. In an update, the new helper starts before the old one ends."""

_VERSION = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})\+?")
"""A version of Kubernetes; some providers append a plus to the minor number."""


class AccountingSetting(StrEnum):
    AUTO = "auto"
    DEVICES = "devices"
    CAPACITY = "capacity"


class AccountingKind(StrEnum):
    DEVICE = "device"
    """The kubelet counts one device for each MiB."""
    CAPACITY = "capacity"
    """The controller writes the amount of EPC into the node's status."""


class CapacitySupport(StrEnum):
    """The chart's finding: the cluster can count EPC as capacity, or the first reason why it cannot."""

    SUPPORTED = "supported"
    API_SERVER = "api-server"
    OFFLINE = "offline"
    """The chart was rendered without an API server, so the cluster's abilities are unknown."""
    POLICY_OFF = "policy-off"
    CONTROLLER_OFF = "controller-off"


class AccountingReason(StrEnum):
    SET = "set"
    FITS_DEVICES = "fits-devices"
    API_SERVER_OLD = "api-server-old"
    API_SERVER_UNKNOWN = "api-server-unknown"
    LARGE_EPC = "large-epc"
    NO_POLICY = "no-policy"
    NO_CONTROLLER = "no-controller"
    KEPT_DEVICES = "kept-devices"
    KEPT_ALLOCATED = "kept-allocated"


class ApiVersion(NamedTuple):
    """A version of the API server, which is never older than a kubelet's version."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


FIRST_STALLING = ApiVersion(1, 36)
"""From this version on, a kubelet with many devices stalls after its restart."""


def parse_api_version(text: str) -> ApiVersion:
    found = _VERSION.fullmatch(text)
    if not found:
        raise ValueError(f"it must be a version such as 1.36, not {text[:32]!r}")
    return ApiVersion(int(found[1]), int(found[2]))


@dataclass(frozen=True, slots=True)
class EpcInUse:
    """The kubelet's knowledge about this node's EPC when the plugin starts."""

    devices: int = 0
    """Number of EPC devices that the kubelet knows. If it is 0 and no device is held, EPC is not counted as
    devices, or no plugin has served devices since the kubelet's start (as after a drained node's reboot)."""
    devices_held: bool = False
    """Whether containers hold devices of EPC. The kubelet also reports devices of containers that ended,
    until it allocates a device to another container."""
    held_count: int = 0
    """The smallest number of devices that includes all held devices; 0 if none is held or this is unknown."""
    capacity_held: bool = False
    """Whether containers may hold EPC as capacity, as they have an enclave device, but no EPC devices."""
    enclaves_held: bool = False
    """Whether containers have the enclave device on a node that offers no device: its plugin was away for
    more than five minutes, so the kubelet has forgotten how EPC was counted."""
    doubt: str = ""
    """The reason why the kubelet's checkpoint is unusable; empty if the checkpoint is usable or missing."""


@dataclass(frozen=True, slots=True)
class AccountingSettings:
    """The accounting that the operator chose, and the facts that the chart found about the cluster."""

    setting: AccountingSetting = AccountingSetting.AUTO
    api_server: ApiVersion | None = None
    """The API server's version; None if it is unknown."""
    support: CapacitySupport = CapacitySupport.OFFLINE
    max_epc_mib: int | None = None
    """Maximum MiB to offer; None for the chosen accounting's default maximum."""

    @property
    def stalls(self) -> bool:
        return self.api_server is None or self.api_server >= FIRST_STALLING


@dataclass(frozen=True, slots=True)
class AccountingDecision:
    kind: AccountingKind
    max_mib: int | None
    """Maximum MiB to offer; None if there is no maximum."""
    choice: AccountingReason
    why: str
    held_mib: int = 0
    """Minimum MiB to offer, because containers hold this many devices, even if the node has less EPC."""

    def offered(self, mib: int) -> int:
        """Return the MiB to offer if the node has `mib` for tenants."""
        return max(mib if self.max_mib is None else min(mib, self.max_mib), self.held_mib)


def decide_accounting(settings: AccountingSettings, in_use: EpcInUse, epc_mib: int) -> AccountingDecision:
    """Decide how to count a node's EPC. `epc_mib` (tenants' MiB) is 0 only if containers hold EPC."""
    wanted = _wanted(settings, epc_mib)
    if in_use.devices or in_use.devices_held:
        return _keep_held(_keep_devices(settings, wanted, in_use), in_use.held_count, epc_mib)
    maybe = in_use.enclaves_held and settings.stalls  # before 1.36, EPC is never counted as capacity
    if wanted.kind is AccountingKind.DEVICE and (in_use.capacity_held or maybe):
        why = "containers may hold EPC that is counted as capacity, and devices could be less"
        return _capacity(settings, AccountingReason.KEPT_ALLOCATED, why)
    return wanted


EPC_FLAGS = (
    *("--accounting", "--api-server", "--capacity-support", "--max-epc-mib"),
    *("--reserve-epc-mib", "--helper-epc-mib", "--simulated-epc-mib"),
)
"""The flags of the device plugin that decide how EPC is counted and how much EPC is offered."""


def set_aside_mib(flag: Callable[[str], str]) -> int:
    """Return the MiB that a plugin with these flags does not offer to tenants (reserved, or for helpers)."""
    return int(flag("--reserve-epc-mib") or 0) + HELPERS * int(flag("--helper-epc-mib") or 0)


class OfferedEpc(NamedTuple):
    kind: AccountingKind
    mib: int


def changed_epc(
    old: Callable[[str], str], new: Callable[[str], str], *, now: OfferedEpc, held: int, limit: int | None
) -> int | None:
    """Return the MiB that a node will offer once no Pod holds EPC; None if new flags take effect at once.

    While Pods hold EPC (`held` MiB, at least 1), a lower amount or another accounting has to wait. `old`
    returns the value of a flag of the present device plugin. `new` does so for the device plugin after the
    update. A missing flag is empty text. `limit` is the controller's maximum after the update.
    """
    as_devices = now.kind is AccountingKind.DEVICE

    def drained(flag: Callable[[str], str], found: int) -> OfferedEpc:
        version, maximum = flag("--api-server"), flag("--max-epc-mib")
        settings = AccountingSettings(
            AccountingSetting(flag("--accounting") or AccountingSetting.AUTO),
            parse_api_version(version) if version else None,
            CapacitySupport(flag("--capacity-support") or CapacitySupport.OFFLINE),
            int(maximum) if maximum else None,
        )
        for_tenants = max(found - set_aside_mib(flag), 0)
        decided = decide_accounting(settings, EpcInUse(now.mib if as_devices else 0), for_tenants)
        return OfferedEpc(decided.kind, decided.offered(for_tenants))

    size, new_size = old("--simulated-epc-mib"), new("--simulated-epc-mib")
    found = int(size or now.mib + set_aside_mib(old))
    before = drained(old, found)
    if not size and drained(old, LARGEST_EPC_MIB).mib <= now.mib:
        found = max(found, LARGEST_EPC_MIB)  # the hardware may have more than the maximum
    after = drained(new, int(new_size or found))
    mib = after.mib if limit is None or after.kind is AccountingKind.DEVICE else min(after.mib, limit)
    # Any device may be held by a Pod, even a device with the highest number.
    lowered = mib < (now.mib if as_devices else held)
    return mib if lowered or after.kind not in {before.kind, now.kind} else None


def _wanted(settings: AccountingSettings, epc_mib: int) -> AccountingDecision:
    """Return the decision for a node on which no EPC is in use."""
    match settings.setting:
        case AccountingSetting.CAPACITY:
            return _capacity(settings, AccountingReason.SET, "--accounting=capacity")
        case AccountingSetting.DEVICES:
            return _devices(settings, AccountingReason.SET, "--accounting=devices")
    offered = epc_mib if settings.max_epc_mib is None else min(epc_mib, settings.max_epc_mib)
    if offered <= DEFAULT_MAX_EPC_DEVICES:
        return _devices(settings, AccountingReason.FITS_DEVICES, f"{offered:,} MiB fit the kubelet's devices")
    if not settings.stalls:
        why = f"the API server is {settings.api_server}, whose kubelets take many devices"
        return _devices(settings, AccountingReason.API_SERVER_OLD, why)
    if settings.support is CapacitySupport.SUPPORTED:
        why = f"{offered:,} MiB are more than {DEFAULT_MAX_EPC_DEVICES:,}, and as devices would stall the kubelet"
        return _capacity(settings, AccountingReason.LARGE_EPC, why)
    return _devices(settings, *_UNSUPPORTED[settings.support])


_UNSUPPORTED = {
    CapacitySupport.API_SERVER: (
        AccountingReason.API_SERVER_OLD,
        "the API server has no MutatingAdmissionPolicy (1.36), which counting as capacity needs",
    ),
    CapacitySupport.OFFLINE: (
        AccountingReason.API_SERVER_UNKNOWN,
        "the API server's version is unknown; set devicePlugin.apiServer, or --accounting",
    ),
    CapacitySupport.POLICY_OFF: (
        AccountingReason.NO_POLICY,
        "the admission policy is off, which counting as capacity needs",
    ),
    CapacitySupport.CONTROLLER_OFF: (
        AccountingReason.NO_CONTROLLER,
        "the controller is off, which counting as capacity needs",
    ),
}


def _capacity(settings: AccountingSettings, choice: AccountingReason, why: str) -> AccountingDecision:
    return AccountingDecision(AccountingKind.CAPACITY, settings.max_epc_mib, choice, why)


def _devices(settings: AccountingSettings, choice: AccountingReason, why: str) -> AccountingDecision:
    default = DEFAULT_MAX_EPC_DEVICES if settings.stalls else MAX_DEVICES
    maximum = default if settings.max_epc_mib is None else min(settings.max_epc_mib, MAX_DEVICES)
    return AccountingDecision(AccountingKind.DEVICE, maximum, choice, why)


def _keep_devices(settings: AccountingSettings, wanted: AccountingDecision, in_use: EpcInUse) -> AccountingDecision:
    """Return accounting as devices, at least as many as the node has now unless the operator set a maximum.

    The setting `capacity` switches a node to capacity once no device is held; `auto` never switches.
    """
    devices, automatic = min(in_use.devices, MAX_DEVICES), settings.setting is AccountingSetting.AUTO
    if wanted.kind is AccountingKind.DEVICE:
        kept = wanted
    elif automatic:
        why = "the node counts devices, and `auto` never changes that"
        kept = _devices(settings, AccountingReason.KEPT_DEVICES, why)
    elif in_use.devices_held:
        why = "containers hold devices of EPC, or held the last ones"
        kept = _devices(settings, AccountingReason.KEPT_ALLOCATED, why)
    else:
        return wanted
    if settings.max_epc_mib is not None or devices <= kept.offered(MAX_DEVICES):
        return kept
    if automatic and wanted.kind is AccountingKind.DEVICE:
        why = f"the node has {devices:,} devices already, and `auto` takes none away"
        kept = replace(kept, choice=AccountingReason.KEPT_DEVICES, why=why)
    return replace(kept, max_mib=devices)


def _keep_held(kept: AccountingDecision, held: int, epc_mib: int) -> AccountingDecision:
    if kept.kind is AccountingKind.CAPACITY or held <= (offered := kept.offered(epc_mib)):
        return kept
    why = f"containers hold devices up to number {held:,}, or held them last, and {offered:,} MiB would be offered"
    return replace(kept, choice=AccountingReason.KEPT_ALLOCATED, why=why, held_mib=min(held, MAX_DEVICES))
