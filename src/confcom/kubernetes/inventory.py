"""The versioned JSON document at a device plugin's `/inventory`: what the plugin found and offers. No I/O."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

from confcom.errors import MalformedError
from confcom.kubernetes.epc_accounting import AccountingKind
from confcom.kubernetes.objects import KubernetesObject, listing, mapping, number, text

INVENTORY_VERSION = 1
"""The document's version; it increases if a field is removed or gets a new meaning, not for new fields."""
LARGEST_MIB = 1 << 32
"""4 PiB. A larger amount of EPC is taken for a mistake."""
_AMOUNTS = ("advertised", "set_aside", "reserved", "held_back", "kept")


@dataclass(frozen=True, slots=True)
class EpcSection:
    node: int | None
    """The section's NUMA node; None if the source is CPUID, which does not show NUMA nodes."""
    bytes: int


@dataclass(frozen=True, slots=True)
class FoundEpc:
    source: str
    reason: str
    bytes: int = 0
    mib: int = 0
    """The sum of all sections in MiB, rounded down."""
    numa_nodes: tuple[EpcSection, ...] = ()


@dataclass(frozen=True, slots=True)
class EpcOffer:
    kind: AccountingKind | None
    """How EPC is counted; None while the plugin waits for SGX, since it has not decided yet."""
    resource: str | None
    choice: str | None
    """A code for `reason`, which explains the accounting in words."""
    advertised_mib: int = 0
    """MiB offered to tenants, which excludes MiB that are set aside, reserved or held back."""
    set_aside_mib: int = 0
    """MiB offered to quote helpers, as a separate resource."""
    reserved_mib: int = 0
    held_back_mib: int = 0
    """MiB that are not offered because they exceed the maximum."""
    kept_mib: int = 0
    """MiB that are offered only because containers hold them, although the settings leave less to tenants."""
    kubelet_stall_seconds: float = 0
    """Seconds for which the kubelet may stall after a restart with all devices allocated; 0 before 1.36."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The SGX that a device plugin found and offers. The fields have the names of the JSON members."""

    platform: str
    registered: bool
    """Whether the kubelet watches the device list of every resource."""
    epc: FoundEpc
    accounting: EpcOffer
    devices: Mapping[str, object]
    resources: tuple[Mapping[str, object], ...]

    def to_json(self) -> bytes:
        return json.dumps({"version": INVENTORY_VERSION} | asdict(self), indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, document: bytes | str) -> Self:
        """Parse a document that any container may have sent; MalformedError if it is no inventory of this version."""
        try:
            found = json.loads(document)
        except (ValueError, RecursionError) as error:
            raise malformed("it is not JSON") from error
        if not isinstance(found, dict) or found.get("version") != INVENTORY_VERSION:
            raise malformed(f"its version is not {INVENTORY_VERSION}")
        epc = mapping(found, "epc")
        sections = tuple(EpcSection(one.get("node"), number(one, "bytes")) for one in listing(epc, "numa_nodes"))
        return cls(
            text(found, "platform"),
            found.get("registered") is True,
            FoundEpc(text(epc, "source"), text(epc, "reason"), number(epc, "bytes"), number(epc, "mib"), sections),
            _offer(mapping(found, "accounting")),
            mapping(found, "devices"),
            (*listing(found, "resources"),),
        )


def _offer(accounting: KubernetesObject) -> EpcOffer:
    kind, resource = text(accounting, "kind"), text(accounting, "resource")
    amounts = {f"{name}_mib": accounting.get(f"{name}_mib", 0) for name in _AMOUNTS}
    for name, amount in amounts.items():
        if not isinstance(amount, int) or isinstance(amount, bool) or not 0 <= amount <= LARGEST_MIB:
            raise malformed(f"accounting.{name} is not a whole number from 0 to {LARGEST_MIB}")
    counted = next((one for one in AccountingKind if one == kind), None)
    if counted is None and (kind or amounts["advertised_mib"]):
        raise malformed(f"accounting.kind is neither {' nor '.join(AccountingKind)}")
    if counted and (not resource or "advertised_mib" not in accounting):
        raise malformed("accounting names no resource, or not how much is offered of it")
    seconds = accounting.get("kubelet_stall_seconds")
    return EpcOffer(
        counted,
        resource or None,
        text(accounting, "choice") or None,
        **amounts,
        kubelet_stall_seconds=seconds if isinstance(seconds, int | float) else 0,
        reason=text(accounting, "reason"),
    )


def malformed(why: str) -> MalformedError:
    return MalformedError("the plugin's inventory cannot be used", error_code="inventory-malformed", why=why)
