"""The processor's CPUID leaves about SGX, decoded. Pure: the caller supplies the function that executes CPUID.

Source: Intel SDM vol. 2A, CPUID, and vol. 3D, "Enumeration of Intel SGX".
"""

from __future__ import annotations

from collections.abc import Callable

from confcom.errors import UnavailableError
from confcom.hardware_report.document.redaction import Value
from confcom.hardware_report.document.report import Finding, Section
from confcom.sgx.epc_from_cpuid import (
    FEATURES_LEAF,
    FIRST_EPC_SUBLEAF,
    MAX_EPC_SECTIONS,
    SGX_LEAF,
    CpuidRegisters,
    EpcSectionKind,
    decode_epc_section,
    sgx_supported,
)

Cpuid = Callable[[int, int], CpuidRegisters]

INTEL = "GenuineIntel"
_LAUNCH_CONTROL = 1 << 30
_HYPERVISOR = 1 << 31
_TYPE_MASK = 0xF
_SGX_CAPABILITIES = {
    0: "SGX1",
    1: "SGX2",
    5: "OVERSUB-VMM",
    6: "OVERSUB-OS",
    7: "EVERIFYREPORT2",
    10: "EUPDATESVN",
    11: "EDECCSSA",
}
"""Bits of EAX of leaf 0x12, sub-leaf 0."""


def processor_section(cpuid: Cpuid) -> Section:
    """Return the leaves 0, 1, 7 and 0x12 as far as the processor has them."""
    try:
        return _section(cpuid)
    except UnavailableError as error:
        finding = Finding(
            code="cpuid-unreadable",
            what=f"CPUID cannot be read: {error.why or error.what}",
            do=error.remedy,
        )
        return Section("processor", {}, (finding,))


def _section(cpuid: Cpuid) -> Section:
    first = cpuid(0, 0)
    vendor = _vendor(first)
    values: dict[str, Value] = {"vendor": vendor, "last_leaf": f"{first.eax:#x}"}
    findings = []
    if vendor != INTEL:
        findings.append(
            Finding(
                code="processor-not-intel",
                what=f"the processor's vendor is {vendor!r}, and SGX exists on Intel's processors only",
                do="run the command on a node with SGX",
            )
        )
    if first.eax >= 1:
        values |= _model(cpuid(1, 0))
    features = cpuid(FEATURES_LEAF, 0) if first.eax >= FEATURES_LEAF else CpuidRegisters(0, 0, 0, 0)
    supported = sgx_supported(first.eax, features.ebx)
    values |= {
        "leaf_7": _hexadecimal(features),
        "sgx": supported,
        "launch_control": supported and bool(features.ecx & _LAUNCH_CONTROL),
    }
    if not supported:
        findings.append(_no_sgx(first.eax))
        return Section("processor", values, tuple(findings))
    if not features.ecx & _LAUNCH_CONTROL:
        findings.append(
            Finding(
                code="no-launch-control",
                what="the processor's launch control is not flexible, and the kernel's driver needs that",
                do="enable flexible launch control (SGX Launch Control: unlocked) in the firmware",
            )
        )
    leaf, sections = _sgx_leaf(cpuid)
    values |= leaf
    if not sections:
        findings.append(
            Finding(
                code="no-epc-in-cpuid",
                what="the processor has SGX, but CPUID leaf 0x12 has no EPC section",
                do="set the size of the EPC (PRMRR, Processor Reserved Memory) in the firmware",
            )
        )
    return Section("processor", values, tuple(findings))


def _no_sgx(last_leaf: int) -> Finding:
    if last_leaf < SGX_LEAF:
        return Finding(
            code="cpuid-without-sgx-leaf",
            what=f"CPUID ends with leaf {last_leaf:#x}, before {SGX_LEAF:#x}: this processor has no SGX",
            do="run the command on a node with SGX",
        )
    return Finding(
        code="cpuid-without-sgx",
        what="CPUID leaf 7 has no SGX (EBX, bit 2): the processor has none, or firmware or hypervisor switch it off",
        do="enable SGX in the firmware; in a virtual machine, choose a size with SGX",
    )


def _vendor(registers: CpuidRegisters) -> str:
    data = b"".join(part.to_bytes(4, "little") for part in (registers.ebx, registers.edx, registers.ecx))
    return data.decode("ascii", errors="replace")


def _model(registers: CpuidRegisters) -> dict[str, Value]:
    """Decode EAX of leaf 1; the other registers have numbers of the processor that happens to run this thread."""
    eax = registers.eax
    family, model = eax >> 8 & 0xF, eax >> 4 & 0xF
    if family in {0x6, 0xF}:
        model |= (eax >> 16 & 0xF) << 4
    if family == 0xF:
        family += eax >> 20 & 0xFF
    return {
        "signature": f"{eax:#x}",
        "family": family,
        "model": f"{model:#x}",
        "stepping": eax & 0xF,
        "virtual_machine": bool(registers.ecx & _HYPERVISOR),
    }


def _sgx_leaf(cpuid: Cpuid) -> tuple[dict[str, Value], int]:
    capabilities, attributes = cpuid(SGX_LEAF, 0), cpuid(SGX_LEAF, 1)
    rows: list[Value] = [{"subleaf": 0} | _hexadecimal(capabilities), {"subleaf": 1} | _hexadecimal(attributes)]
    sections = 0
    for subleaf in range(FIRST_EPC_SUBLEAF, FIRST_EPC_SUBLEAF + MAX_EPC_SECTIONS):
        registers = cpuid(SGX_LEAF, subleaf)
        rows.append({"subleaf": subleaf} | _hexadecimal(registers))
        kind = decode_epc_section(registers.eax, registers.ebx, registers.ecx, registers.edx).kind
        if kind is EpcSectionKind.END:
            break
        sections += kind is EpcSectionKind.EPC
    names = [name for bit, name in _SGX_CAPABILITIES.items() if capabilities.eax >> bit & 1]
    return {
        "leaf_12": rows,
        "sgx_capabilities": [*names],
        "misc_select": f"{capabilities.ebx:#x}",
        "largest_enclave_64_bit": f"2^{capabilities.edx >> 8 & 0xFF}",
        "enclave_attributes": f"{attributes.ebx << 32 | attributes.eax:#x}",
        "enclave_xfrm": f"{attributes.edx << 32 | attributes.ecx:#x}",
    }, sections


def _hexadecimal(registers: CpuidRegisters) -> dict[str, Value]:
    return {name: f"{getattr(registers, name):#010x}" for name in ("eax", "ebx", "ecx", "edx")}
