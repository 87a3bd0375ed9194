"""How a node's EPC is counted: as devices, one per MiB, or as a capacity of the node. Pure.

A 1.36 kubelet stalls after a restart in proportion to all devices times allocated ones. So large EPC is a number in the
node's status there, which confcom's controller writes. A node whose containers hold EPC does not change from one way to
the other: the new one would not count what the kubelet has allocated, or would offer less than is bound to the node.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

MAX_DEVICES = 262_144
"""Maximum of a node, by the length of one message to the kubelet (confcom.kubelet_api.device_list)."""
DEFAULT_MAX_EPC_DEVICES = 2_048
"""A 1.36 kubelet stalls after a restart in proportion to all devices times allocated devices: 0.4 s for 2,048 devices
that are all allocated, 1.75 s for 4,096 (measured)."""

_VERSION = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})\+?")
"""Some providers add a plus to the minor version."""


class AccountingSetting(StrEnum):
    """What the operator asks for."""

    AUTO = "auto"
    DEVICES = "devices"
    CAPACITY = "capacity"

    @property
    def kind(self) -> AccountingKind | None:
        """How EPC is counted then; None if each device plugin chooses."""
        return {
            AccountingSetting.DEVICES: AccountingKind.DEVICE,
            AccountingSetting.CAPACITY: AccountingKind.CAPACITY,
        }.get(self)


class AccountingKind(StrEnum):
    """How EPC is counted."""

    DEVICE = "device"
    """The kubelet counts one device for each MiB."""
    CAPACITY = "capacity"
    """The node's status has the amount, which the controller writes there."""


class CapacitySupport(StrEnum):
    """Whether the cluster can count EPC as capacity, as the chart found out; else the first reason why not."""

    SUPPORTED = "supported"
    API_SERVER = "api-server"
    OFFLINE = "offline"
    """The chart was rendered without an API server, so nobody knows."""
    POLICY_OFF = "policy-off"
    CONTROLLER_OFF = "controller-off"


class AccountingReason(StrEnum):
    """Why EPC is counted as it is."""

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
    """A version of the API server; a kubelet is never newer."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


FIRST_STALLING = ApiVersion(1, 36)
"""From this version on, many devices stall a kubelet after its restart."""


def parse_api_version(text: str) -> ApiVersion:
    """Return the version that a text such as `1.36` states.

    Raises:
        ValueError: the text states none.
    """
    found = _VERSION.fullmatch(text)
    if not found:
        raise ValueError(f"it must be a version such as 1.36, not {text[:32]!r}")
    return ApiVersion(int(found[1]), int(found[2]))


@dataclass(frozen=True, slots=True)
class EpcInUse:
    """What the kubelet knows of this node's EPC when the plugin starts."""

    devices: int = 0
    """Devices of EPC that the node has, as far as the kubelet knows. 0 and none held: EPC is no device there, or nobody
    has served its devices since the kubelet started, as after a reboot of a drained node."""
    devices_held: bool = False
    """Whether containers hold devices of EPC. The kubelet also names those of containers that have ended, until it
    allocates a device to another container."""
    capacity_held: bool = False
    """Whether containers may hold EPC as capacity: they have the enclave device, and EPC is no device."""
    doubt: str = ""
    """Why the kubelet's own record could not be used; empty if it could, or if there is none."""


@dataclass(frozen=True, slots=True)
class AccountingSettings:
    """The operator's choice, and what the chart knows of the cluster."""

    setting: AccountingSetting = AccountingSetting.AUTO
    api_server: ApiVersion | None = None
    """None if it is unknown."""
    support: CapacitySupport = CapacitySupport.OFFLINE
    max_epc_mib: int | None = None
    """Maximum of what is offered; None for the maximum of the way of counting."""

    @property
    def stalls(self) -> bool:
        """Whether the kubelet may be of a version that stalls after a restart if there are many devices."""
        return self.api_server is None or self.api_server >= FIRST_STALLING


@dataclass(frozen=True, slots=True)
class Accounting:
    """How EPC is counted, and why."""

    kind: AccountingKind
    max_mib: int | None
    """Maximum of what may be offered; None for no maximum."""
    choice: AccountingReason
    why: str

    def offered(self, mib: int) -> int:
        """Return how much of so many MiB is offered."""
        return mib if self.max_mib is None else min(mib, self.max_mib)


def decide_accounting(settings: AccountingSettings, in_use: EpcInUse, epc_mib: int) -> Accounting:
    """Decide how a node's EPC is counted.

    Args:
        settings: the operator's choice, and what the cluster can do.
        in_use: what is in force on the node.
        epc_mib: MiB of EPC for tenants, at least 1.
    """
    wanted = _wanted(settings, epc_mib)
    if in_use.devices or in_use.devices_held:
        return _keep_devices(settings, wanted, min(in_use.devices, MAX_DEVICES), held=in_use.devices_held)
    if in_use.capacity_held and wanted.kind is AccountingKind.DEVICE:
        return _keep_capacity(settings, wanted, epc_mib)
    return wanted


def _wanted(settings: AccountingSettings, epc_mib: int) -> Accounting:
    """Return the choice for a node without EPC in use."""
    match settings.setting:
        case AccountingSetting.CAPACITY:
            return Accounting(
                AccountingKind.CAPACITY, settings.max_epc_mib, AccountingReason.SET, "--accounting=capacity"
            )
        case AccountingSetting.DEVICES:
            return _devices(settings, AccountingReason.SET, "--accounting=devices")
    offered = epc_mib if settings.max_epc_mib is None else min(epc_mib, settings.max_epc_mib)
    if offered <= DEFAULT_MAX_EPC_DEVICES:
        return _devices(settings, AccountingReason.FITS_DEVICES, f"{offered:,} MiB fit the kubelet's devices")
    if not settings.stalls:
        return _devices(
            settings,
            AccountingReason.API_SERVER_OLD,
            f"the API server is {settings.api_server}, whose kubelets take many devices",
        )
    if settings.support is CapacitySupport.SUPPORTED:
        return Accounting(
            AccountingKind.CAPACITY,
            settings.max_epc_mib,
            AccountingReason.LARGE_EPC,
            f"{offered:,} MiB are more than {DEFAULT_MAX_EPC_DEVICES:,}, and as devices would stall the kubelet",
        )
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


def _devices(settings: AccountingSettings, choice: AccountingReason, why: str) -> Accounting:
    default = DEFAULT_MAX_EPC_DEVICES if settings.stalls else MAX_DEVICES
    maximum = default if settings.max_epc_mib is None else min(settings.max_epc_mib, MAX_DEVICES)
    return Accounting(AccountingKind.DEVICE, maximum, choice, why)


def _keep_devices(settings: AccountingSettings, wanted: Accounting, devices: int, *, held: bool) -> Accounting:
    """Return devices, and no fewer than there are, unless the operator gave a maximum.

    An explicit `capacity` changes a node over once no device is held; `auto` never does.
    """
    automatic = settings.setting is AccountingSetting.AUTO
    if wanted.kind is AccountingKind.DEVICE:
        kept = wanted
    elif automatic:
        kept = _devices(
            settings, AccountingReason.KEPT_DEVICES, "the node counts devices, and `auto` never changes that"
        )
    elif held:
        kept = _devices(
            settings, AccountingReason.KEPT_ALLOCATED, "containers hold devices of EPC, or held the last ones"
        )
    else:
        return wanted
    if settings.max_epc_mib is not None or devices <= kept.offered(MAX_DEVICES):
        return kept
    if automatic and wanted.kind is AccountingKind.DEVICE:
        why = f"the node has {devices:,} devices already, and `auto` takes none away"
        kept = replace(kept, choice=AccountingReason.KEPT_DEVICES, why=why)
    return replace(kept, max_mib=devices)


def _keep_capacity(settings: AccountingSettings, wanted: Accounting, epc_mib: int) -> Accounting:
    """Return capacity if devices would be less than all EPC.

    A kubelet that restarts ends Pods that exceed what its node offers. They may hold all of it: the controller leaves
    what bound Pods request, also above a maximum that was lowered since.
    """
    if wanted.offered(epc_mib) == epc_mib:
        return wanted
    why = "containers may hold EPC that is counted as capacity, and devices would be less"
    return Accounting(AccountingKind.CAPACITY, settings.max_epc_mib, AccountingReason.KEPT_ALLOCATED, why)
