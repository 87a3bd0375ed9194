"""Reads the processor's CPUID leaves about SGX (Intel SDM vol. 2A, CPUID, and vol. 3D, SGX enumeration)."""

from collections.abc import Callable

from confcom.hardware_report import Facts, Value
from confcom.sgx.epc_from_cpuid import (
    FEATURES_LEAF,
    FIRST_EPC_SUBLEAF,
    MAX_EPC_SECTIONS,
    SGX_LEAF,
    CpuidRegisters,
    ends_epc,
    sgx_supported,
)

Cpuid = Callable[[int, int], CpuidRegisters]

_LAUNCH_CONTROL = 1 << 30
_HYPERVISOR = 1 << 31


def processor_facts(cpuid: Cpuid) -> Facts:
    """Return facts from the leaves 0, 1, 7 and 0x12; leaves that the processor lacks are skipped."""
    first = cpuid(0, 0)
    vendor = b"".join(part.to_bytes(4, "little") for part in (first.ebx, first.edx, first.ecx))
    facts: Facts = {"vendor": vendor.decode("ascii", errors="replace"), "last_leaf": f"{first.eax:#x}"}
    if first.eax >= 1:
        model = cpuid(1, 0)
        # The leaf's other registers are left out: they identify the core on which this thread runs.
        facts |= {"signature": f"{model.eax:#x}", "virtual_machine": bool(model.ecx & _HYPERVISOR)}
    if first.eax >= FEATURES_LEAF:
        features = cpuid(FEATURES_LEAF, 0)
        supported = sgx_supported(first.eax, features.ebx)
        facts |= {
            "leaf_7": _hexadecimal(features),
            "sgx": supported,
            "launch_control": bool(features.ecx & _LAUNCH_CONTROL),
            "leaf_12": _sgx_leaf(cpuid) if supported else [],
        }
    return facts


def _sgx_leaf(cpuid: Cpuid) -> list[Value]:
    """Return the sub-leaves 0 and 1 and the EPC's sub-leaves, up to the sub-leaf that ends the list."""
    rows = [_hexadecimal(cpuid(SGX_LEAF, subleaf)) for subleaf in range(FIRST_EPC_SUBLEAF)]
    for subleaf in range(FIRST_EPC_SUBLEAF, FIRST_EPC_SUBLEAF + MAX_EPC_SECTIONS):
        registers = cpuid(SGX_LEAF, subleaf)
        rows.append(_hexadecimal(registers))
        if ends_epc(registers):
            break
    return [{"subleaf": number} | row for number, row in enumerate(rows)]


def _hexadecimal(registers: CpuidRegisters) -> Facts:
    return {name: f"{getattr(registers, name):#010x}" for name in ("eax", "ebx", "ecx", "edx")}
