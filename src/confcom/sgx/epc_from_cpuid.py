"""Decoding of CPUID leaves 7 and 0x12, in which the processor reports its enclave page cache (EPC).

Source: Intel SDM vol. 3D, "Enumeration of EPC".
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

MIB = 1024 * 1024
FEATURES_LEAF = 0x07
SGX_LEAF = 0x12
FIRST_EPC_SUBLEAF = 2
MAX_EPC_SECTIONS = 8
"""Linux reads eight sub-leaves (SGX_MAX_EPC_SECTIONS) and cannot use EPC in further sub-leaves."""

_SGX_FEATURE = 1 << 2
_TYPE_MASK = 0xF
_END, _EPC = 0, 1
"""Types of a sub-leaf of leaf 0x12, in EAX[3:0]. The SDM does not define other types (yet)."""
_LOW_MASK = 0xFFFF_F000
_HIGH_MASK = 0x000F_FFFF


@dataclass(frozen=True, slots=True)
class CpuidRegisters:
    eax: int
    ebx: int
    ecx: int
    edx: int


def sgx_supported(max_leaf: int, leaf7_ebx: int) -> bool:
    """Return whether leaf 0 (EAX) and leaf 7 (EBX) show SGX. Firmware can hide SGX in these leaves."""
    return max_leaf >= SGX_LEAF and bool(leaf7_ebx & _SGX_FEATURE)


def ends_epc(registers: CpuidRegisters) -> bool:
    """Return whether this sub-leaf of leaf 0x12, and all later ones, are invalid."""
    return registers.eax & _TYPE_MASK == _END


def epc_section_sizes(cpuid: Callable[[int, int], CpuidRegisters]) -> tuple[int, ...]:
    """Return the sizes in bytes of the EPC sections of a processor that supports SGX.

    `cpuid` takes leaf and sub-leaf. A size is EDX[19:0]:ECX[31:12]; the low 12 bits are 0.
    """
    subleaves = (cpuid(SGX_LEAF, FIRST_EPC_SUBLEAF + number) for number in range(MAX_EPC_SECTIONS))
    listed = itertools.takewhile(lambda registers: not ends_epc(registers), subleaves)
    sections = (registers for registers in listed if registers.eax & _TYPE_MASK == _EPC)
    return tuple((section.edx & _HIGH_MASK) << 32 | section.ecx & _LOW_MASK for section in sections)
