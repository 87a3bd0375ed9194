"""The size of the node's EPC, from sysfs or else from CPUID, and why a source failed. Reads only by HostFiles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from confcom.device_plugin.discovery.host import HostFiles
from confcom.errors import UnavailableError
from confcom.sgx.epc_from_cpuid import FEATURES_LEAF, MIB, SGX_LEAF, enumerate_epc, sgx_supported

NODE_DIRECTORY = "/sys/devices/system/node"
SYSFS_ATTRIBUTE = f"{NODE_DIRECTORY}/node*/x86/sgx_total_bytes"
"""Each NUMA node has it from kernel 5.17 on (Documentation/ABI/stable/sysfs-devices-node)."""

_NUMA_NODE = re.compile(r"node([0-9]{1,9})")
_NUMBER = re.compile(r"[0-9]{1,20}")


class EpcSource(StrEnum):
    """The source of the EPC's size."""

    SYSFS = "sysfs"
    CPUID = "cpuid"
    SIMULATED = "simulated"
    NONE = "none"
    """There is no EPC, or no source has its size."""


@dataclass(frozen=True, slots=True)
class EpcSection:
    """A section of the EPC."""

    numa_node: int | None
    """None if CPUID is the source, which has sections without their NUMA nodes."""
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class EpcFinding:
    """The EPC's sections, their source, and the reason why it is this source."""

    source: EpcSource
    reason: str
    sections: tuple[EpcSection, ...] = ()
    codes: tuple[str, ...] = ()
    """For each source that was tried in vain, the code of its error."""


def find_epc(host: HostFiles) -> EpcFinding:
    """Return the EPC according to sysfs, which has NUMA nodes and what the kernel uses; else according to CPUID.

    Less than 1 MiB counts as none, since a device is 1 MiB.
    """
    try:
        return EpcFinding(EpcSource.SYSFS, SYSFS_ATTRIBUTE, _read_sysfs(host))
    except UnavailableError as error:
        no_sysfs = error
    try:
        sections = _read_cpuid(host)
    except UnavailableError as error:
        why = ": ".join(filter(None, (error.what, error.why)))
        return EpcFinding(EpcSource.NONE, f"{no_sysfs.what}; {why}", codes=(no_sysfs.error_code, error.error_code))
    reason = f"CPUID leaf 0x12 has {len(sections)} EPC section{'s'[: len(sections) > 1]}; {no_sysfs.what}"
    return EpcFinding(EpcSource.CPUID, reason, sections, (no_sysfs.error_code,))


def _read_sysfs(host: HostFiles) -> tuple[EpcSection, ...]:
    found = []
    for name in host.children(NODE_DIRECTORY):
        match = _NUMA_NODE.fullmatch(name)
        path = f"{NODE_DIRECTORY}/{name}/x86/sgx_total_bytes"
        text = host.read_text(path) if match else None
        if match is None or text is None:
            continue
        if not _NUMBER.fullmatch(text.strip()):
            raise UnavailableError(
                f"{path} contains {text[:32]!r} instead of a number of bytes",
                error_code="epc-size-malformed",
            )
        found.append(EpcSection(numa_node=int(match[1]), size=int(text)))
    if not found:
        raise UnavailableError(
            f"{SYSFS_ATTRIBUTE} does not exist (it needs kernel 5.17)", error_code="epc-size-missing"
        )
    return _at_least_a_device(SYSFS_ATTRIBUTE, sorted(found, key=lambda section: section.numa_node or 0))


def _read_cpuid(host: HostFiles) -> tuple[EpcSection, ...]:
    max_leaf = host.cpuid(0, 0).eax
    if max_leaf < SGX_LEAF:
        raise UnavailableError(
            f"the processor has no SGX: CPUID ends with leaf {max_leaf:#x}, before {SGX_LEAF:#x}",
            error_code="processor-without-sgx",
        )
    if not sgx_supported(max_leaf, host.cpuid(FEATURES_LEAF, 0).ebx):
        raise UnavailableError(
            "the processor has no SGX, or the firmware has switched it off: CPUID leaf 7, EBX bit 2, is 0",
            error_code="sgx-switched-off",
        )
    declared = enumerate_epc(host.cpuid)
    if not declared:
        raise UnavailableError(
            "the processor has SGX, but the firmware assigns no EPC:  CPUID leaf 0x12 has no EPC section",
            error_code="no-epc-section",
        )
    sections = [EpcSection(numa_node=None, size=section.size) for section in declared if section.size]
    return _at_least_a_device("CPUID leaf 0x12", sections)


def _at_least_a_device(source: str, sections: list[EpcSection]) -> tuple[EpcSection, ...]:
    total = sum(section.size for section in sections)
    if total < MIB:
        raise UnavailableError(f"{source} says {total} bytes", error_code="epc-too-small")
    return tuple(sections)
