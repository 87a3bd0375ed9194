"""Plans the resources that the node advertises, and each resource's number of devices. No I/O."""

from dataclasses import dataclass, field
from enum import StrEnum

from confcom.device_plugin.epc import Discovery
from confcom.errors import SettingsError
from confcom.kubernetes.epc_accounting import HELPERS, AccountingKind, AccountingSettings, EpcInUse, decide_accounting
from confcom.kubernetes.inventory import EpcOffer
from confcom.kubernetes.names import REAL

STALL_SECONDS_PER_PAIR = 0.12e-6
"""Seconds that a 1.36 kubelet stalls after a restart, per pair of device and allocated device (measured)."""
NODE_USERS = 1_024
"""Number of containers that may use a device node at the same time. Device nodes are not scarce, so this
number must exceed the kubelet's own limit of pods (110 by default). Otherwise the quote helper, among others,
might not get the provision device that it needs."""
DEFAULT_HELPER_MIB = 3
"""MiB of EPC for the enclaves of one quote helper. Intel's quoting enclave has one thread, 256 KiB of stack
and 128 KiB of heap (its config.xml). The quoting enclave, the PCE and the ID enclave each have less than 1
MiB of code and data. Two helpers take 6 of the 28 MiB of the smallest Azure node."""


class ResourceKind(StrEnum):
    EPC = "epc"
    """Each device of this kind is one MiB of EPC. The container may also use the enclave device."""
    ENCLAVE = "enclave"
    """Each device of this kind lets one container open `/dev/sgx_enclave`."""
    PROVISION = "provision"
    """Each device of this kind lets one container open `/dev/sgx_provision` (access to the provisioning key)."""
    HELPER = "helper"
    """Each device of this kind is one MiB of the quote helpers' EPC. They may also use the enclave device."""


DEFAULT_NAMES: dict[ResourceKind, str] = {kind: getattr(REAL, kind) for kind in ResourceKind}


@dataclass(frozen=True, slots=True)
class Resource:
    kind: ResourceKind
    name: str
    count: int


@dataclass(frozen=True, slots=True)
class ResourceSettings:
    accounting: AccountingSettings = field(default_factory=AccountingSettings)
    reserve_mib: int = 0
    """MiB that are not advertised, because enclaves outside of Kubernetes use them."""
    helper_mib: int = DEFAULT_HELPER_MIB
    """MiB for each of `HELPERS` quote helpers; 0 if quote helpers request no EPC."""
    names: dict[ResourceKind, str] = field(default_factory=lambda: dict(DEFAULT_NAMES))

    def __post_init__(self) -> None:
        """Raise SettingsError if two resources have one name, as the kubelet would confuse them."""
        if len(set(self.names.values())) != len(self.names):
            raise SettingsError(
                "two resources have the same name",
                error_code="resource-name-repeated",
                why=", ".join(f"{kind}: {name}" for kind, name in self.names.items()),
                remedy="give each resource a name of its own",
            )


@dataclass(frozen=True, slots=True)
class ResourcePlan:
    """The resources to offer, and how the node's EPC is divided, with the reason.

    The MiB advertised, set aside, reserved and held back add up to the node's EPC plus `kept_mib`.
    """

    resources: tuple[Resource, ...]
    offer: EpcOffer
    doubt: str
    """The reason why the kubelet's allocated devices are unknown; empty if the devices are known."""

    @property
    def claimed_names(self) -> frozenset[str]:
        """The resource names that no other plugin may offer on the node."""
        return frozenset({self.offer.resource or "", *(resource.name for resource in self.resources)})


def plan_resources(discovery: Discovery, settings: ResourceSettings, in_use: EpcInUse) -> ResourcePlan:
    """Plan what the node offers. EPC for two quote helpers is set aside, so that no update preempts tenants."""
    total = discovery.epc.mib
    set_aside = HELPERS * settings.helper_mib
    for_tenants = max(total - settings.reserve_mib - set_aside, 0)
    if not for_tenants and not (in_use.held_count or in_use.capacity_held):
        raise SettingsError(
            f"no EPC is left to offer: the node has {total} MiB",
            error_code="no-epc-left",
            why=f"{settings.reserve_mib} MiB are reserved, and {set_aside} set aside for {HELPERS} quote helpers",
            remedy="lower --reserve-epc-mib or --helper-epc-mib",
        )
    accounting = decide_accounting(settings.accounting, in_use, for_tenants)
    advertised = accounting.offered(for_tenants)
    devices = advertised if accounting.kind is AccountingKind.DEVICE else 0
    counts = {
        ResourceKind.EPC: devices,
        ResourceKind.ENCLAVE: NODE_USERS,
        ResourceKind.PROVISION: 0 if discovery.provision_node is None else NODE_USERS,
        ResourceKind.HELPER: set_aside,
    }
    held_back, kept = max(for_tenants - advertised, 0), max(advertised - for_tenants, 0)
    how = "a device per MiB" if devices else "as a capacity of the node"
    parts = {
        f"{advertised} of {total} MiB are advertised, {how} ({accounting.why})": True,
        f"{set_aside} are set aside for {HELPERS} quote helpers": set_aside,
        f"{settings.reserve_mib} are reserved": settings.reserve_mib,
        f"{held_back} are held back: the plugin advertises at most {accounting.max_mib} MiB here": held_back,
        f"{kept} are more than the settings allow, until a start at which no container holds them": kept,
    }
    offer = EpcOffer(
        kind=accounting.kind,
        resource=settings.names[ResourceKind.EPC],
        choice=accounting.choice,
        advertised_mib=advertised,
        set_aside_mib=set_aside,
        reserved_mib=settings.reserve_mib,
        held_back_mib=held_back,
        kept_mib=kept,
        kubelet_stall_seconds=round(STALL_SECONDS_PER_PAIR * devices**2, 2) if settings.accounting.stalls else 0.0,
        reason="; ".join(part for part, holds in parts.items() if holds),
    )
    resources = tuple(Resource(kind, settings.names[kind], count) for kind, count in counts.items() if count)
    return ResourcePlan(resources, offer, in_use.doubt)
