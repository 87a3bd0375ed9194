"""The resources that the node advertises, and the number of devices of each. Pure."""

from dataclasses import dataclass, field
from enum import StrEnum

from confcom.device_plugin.epc import Discovery
from confcom.errors import SettingsError
from confcom.kubernetes.epc_accounting import HELPERS, AccountingKind, AccountingSettings, EpcInUse, decide_accounting
from confcom.kubernetes.inventory import EpcOffer
from confcom.kubernetes.names import REAL

STALL_SECONDS_PER_PAIR = 0.12e-6
"""A 1.36 kubelet's stall after its restart, for each pair of a device and an allocated device (measured)."""
NODE_USERS = 1_024
"""How many containers may use a device node at the same time. A device node is not scarce, so this limit
must not be reached before the kubelet's own limit of pods (110 by default), above all for the quote helper,
which needs the provision device."""
DEFAULT_HELPER_MIB = 3
"""EPC for one quote helper's enclaves. Intel's quoting enclave has one thread, 256 KiB of stack and 128 KiB
of heap (its config.xml), and it, the PCE and the ID enclave have less than 1 MiB of code and data each. Two
helpers then take 6 of the 28 MiB of the smallest Azure node."""


class ResourceKind(StrEnum):
    EPC = "epc"
    """One MiB of EPC, and the enclave device."""
    ENCLAVE = "enclave"
    """Use of the enclave device by one container."""
    PROVISION = "provision"
    """Use of the provision device, which lets an enclave request the platform's provisioning key."""
    HELPER = "helper"
    """One MiB of the EPC that is set aside for quote helpers, and the enclave device."""


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
    """MiB that are not advertised, for enclaves outside of Kubernetes."""
    helper_mib: int = DEFAULT_HELPER_MIB
    """MiB for each of `HELPERS` quote helpers; 0 if they request none."""
    names: dict[ResourceKind, str] = field(default_factory=lambda: dict(DEFAULT_NAMES))

    def __post_init__(self) -> None:
        """Raise SettingsError if two resources have one name: the kubelet would confuse them."""
        if len(set(self.names.values())) != len(self.names):
            raise SettingsError(
                "two resources have the same name",
                error_code="resource-name-repeated",
                why=", ".join(f"{kind}: {name}" for kind, name in self.names.items()),
                remedy="give each resource a name of its own",
            )


@dataclass(frozen=True, slots=True)
class ResourcePlan:
    """The resources, and how much EPC is offered and how much is not, with the reason.

    The MiB advertised, set aside, reserved and held back add up to the node's EPC plus the kept MiB.
    """

    resources: tuple[Resource, ...]
    offer: EpcOffer
    doubt: str
    """Why it is unknown what the kubelet has allocated; empty if it is known."""

    @property
    def claimed_names(self) -> frozenset[str]:
        """The names that no other plugin may offer on the node."""
        return frozenset({self.offer.resource or "", *(resource.name for resource in self.resources)})


def plan_resources(discovery: Discovery, settings: ResourceSettings, in_use: EpcInUse) -> ResourcePlan:
    """Plan how EPC is counted and how much of it is offered, and the resources of the two device nodes.

    Devices of EPC are one per MiB; EPC that is counted as capacity has none. The system's reserve is
    subtracted first, then the quote helpers' part; the rest is for tenants. So no tenant is ever preempted
    for an update of the helper, even on a full node.
    """
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
