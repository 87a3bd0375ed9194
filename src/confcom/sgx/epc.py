"""Enclave page cache (EPC) as the processor declares it: decoding of CPUID leaves 7 and 0x12.

Source: Intel SDM vol. 3D, "Enumeration of EPC". Reading CPUID is the shell's business; this module is given a reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

MIB = 1024 * 1024
FEATURES_LEAF = 0x07
SGX_LEAF = 0x12
FIRST_EPC_SUBLEAF = 2
MAX_EPC_SECTIONS = 8
"""Linux looks at eight sub-leaves (SGX_MAX_EPC_SECTIONS); memory beyond them could not be used anyway."""

_SGX_FEATURE = 1 << 2
_TYPE_MASK = 0xF
_LOW_MASK = 0xFFFF_F000
_HIGH_MASK = 0x000F_FFFF

AZURE_DCSV2_EPC_MIB = MappingProxyType(
    {"Standard_DC1s_v2": 28, "Standard_DC2s_v2": 56, "Standard_DC4s_v2": 112, "Standard_DC8_v2": 168}
)
"""EPC of Azure's DCsv2 sizes, in MiB (Azure's documentation of that series)."""


class EpcSectionKind(IntEnum):
    """EAX[3:0] of a sub-leaf."""

    END = 0
    """No further sub-leaf is meaningful."""
    EPC = 1
    UNKNOWN = -1
    """A type that the SDM does not define (yet): skipped."""


@dataclass(frozen=True, slots=True)
class CpuidRegisters:
    """What CPUID returns."""

    eax: int
    ebx: int
    ecx: int
    edx: int


@dataclass(frozen=True, slots=True)
class EpcSection:
    """One range of physical memory, in bytes; base and size are 0 unless `kind` is EPC."""

    kind: EpcSectionKind
    base: int = 0
    size: int = 0


def sgx_supported(max_leaf: int, leaf7_ebx: int) -> bool:
    """Whether the processor has SGX, and firmware has not hidden it.

    Args:
        max_leaf: EAX of CPUID leaf 0.
        leaf7_ebx: EBX of CPUID leaf 7, sub-leaf 0.
    """
    return max_leaf >= SGX_LEAF and bool(leaf7_ebx & _SGX_FEATURE)


def decode_epc_section(eax: int, ebx: int, ecx: int, edx: int) -> EpcSection:
    """Decode one sub-leaf (2 and up) of leaf 0x12.

    Base is EBX[19:0]:EAX[31:12], size EDX[19:0]:ECX[31:12], both with 12 zero bits below.
    """
    section_type = eax & _TYPE_MASK
    if section_type == EpcSectionKind.END:
        return EpcSection(EpcSectionKind.END)
    if section_type != EpcSectionKind.EPC:
        return EpcSection(EpcSectionKind.UNKNOWN)
    return EpcSection(EpcSectionKind.EPC, base=_address(eax, ebx), size=_address(ecx, edx))


def enumerate_epc(cpuid: Callable[[int, int], CpuidRegisters]) -> tuple[EpcSection, ...]:
    """All EPC sections, in the processor's order; none without SGX.

    Args:
        cpuid: gives the registers for a leaf and a sub-leaf.
    """
    max_leaf = cpuid(0, 0).eax
    if max_leaf < SGX_LEAF or not sgx_supported(max_leaf, cpuid(FEATURES_LEAF, 0).ebx):
        return ()
    sections: list[EpcSection] = []
    for subleaf in range(FIRST_EPC_SUBLEAF, FIRST_EPC_SUBLEAF + MAX_EPC_SECTIONS):
        registers = cpuid(SGX_LEAF, subleaf)
        section = decode_epc_section(registers.eax, registers.ebx, registers.ecx, registers.edx)
        if section.kind is EpcSectionKind.END:
            break
        if section.kind is EpcSectionKind.EPC:
            sections.append(section)
    return tuple(sections)


def whole_mib(sizes: Iterable[int]) -> int:
    """Sizes in bytes as whole MiB: summed first, then rounded down once, so that sections do not each lose a part."""
    return sum(sizes) // MIB


def _address(low: int, high: int) -> int:
    return (high & _HIGH_MASK) << 32 | low & _LOW_MASK
