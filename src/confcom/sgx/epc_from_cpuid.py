"""Decoding of CPUID leaves 7 and 0x12, in which the processor reports its enclave page cache (EPC).

Source: Intel SDM vol. 3D, "Enumeration of EPC". The caller supplies a function that executes CPUID.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

MIB = 1024 * 1024
FEATURES_LEAF = 0x07
SGX_LEAF = 0x12
FIRST_EPC_SUBLEAF = 2
MAX_EPC_SECTIONS = 8
"""Linux reads eight sub-leaves (SGX_MAX_EPC_SECTIONS) and cannot use EPC in further sub-leaves."""

_SGX_FEATURE = 1 << 2
_TYPE_MASK = 0xF
_LOW_MASK = 0xFFFF_F000
_HIGH_MASK = 0x000F_FFFF


class EpcSectionKind(IntEnum):
    """Type of a sub-leaf of leaf 0x12, in EAX[3:0]."""

    END = 0
    """The end of the list: this sub-leaf and all later sub-leaves are invalid."""
    EPC = 1
    UNKNOWN = -1
    """A type that the SDM does not define (yet); such a sub-leaf is skipped."""


@dataclass(frozen=True, slots=True)
class CpuidRegisters:
    eax: int
    ebx: int
    ecx: int
    edx: int


@dataclass(frozen=True, slots=True)
class EpcSection:
    """One EPC section: a range of physical memory, in bytes. Base and size are 0 unless `kind` is EPC."""

    kind: EpcSectionKind
    base: int = 0
    size: int = 0


def sgx_supported(max_leaf: int, leaf7_ebx: int) -> bool:
    """Return whether leaf 0 (EAX) and leaf 7 (EBX) show SGX. Firmware can hide SGX in these leaves."""
    return max_leaf >= SGX_LEAF and bool(leaf7_ebx & _SGX_FEATURE)


def decode_epc_section(registers: CpuidRegisters) -> EpcSection:
    """Decode one sub-leaf (2 and up) of leaf 0x12.

    The base is EBX[19:0]:EAX[31:12] and the size EDX[19:0]:ECX[31:12]; the low 12 bits of both are 0.
    """
    kind = registers.eax & _TYPE_MASK
    if kind == EpcSectionKind.EPC:
        base, size = _address(registers.eax, registers.ebx), _address(registers.ecx, registers.edx)
        return EpcSection(EpcSectionKind.EPC, base, size)
    return EpcSection(EpcSectionKind.END if kind == EpcSectionKind.END else EpcSectionKind.UNKNOWN)


def enumerate_epc(cpuid: Callable[[int, int], CpuidRegisters]) -> tuple[EpcSection, ...]:
    """Return EPC sections in the processor's order (none without SGX). `cpuid` takes leaf and sub-leaf."""
    if (max_leaf := cpuid(0, 0).eax) < SGX_LEAF or not sgx_supported(max_leaf, cpuid(FEATURES_LEAF, 0).ebx):
        return ()
    sections: list[EpcSection] = []
    for subleaf in range(FIRST_EPC_SUBLEAF, FIRST_EPC_SUBLEAF + MAX_EPC_SECTIONS):
        section = decode_epc_section(cpuid(SGX_LEAF, subleaf))
        if section.kind is EpcSectionKind.END:
            break
        if section.kind is EpcSectionKind.EPC:
            sections.append(section)
    return tuple(sections)


def _address(low: int, high: int) -> int:
    return (high & _HIGH_MASK) << 32 | low & _LOW_MASK
