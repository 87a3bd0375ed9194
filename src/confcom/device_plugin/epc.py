"""Discovers the node's SGX: platform, EPC (with the reason) and device nodes. Reads files only through HostFiles.

This module decides once whether the platform is hardware or simulated. Allocate tells containers the result.
The driver's entry in sysfs decides. /dev does not, since any program can create files there.
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from stat import S_ISCHR

from confcom.device_plugin.host import HostFiles
from confcom.errors import SettingsError, UnavailableError
from confcom.kubernetes.inventory import EpcSection, FoundEpc
from confcom.sgx.epc_from_cpuid import FEATURES_LEAF, MIB, SGX_LEAF, epc_section_sizes, sgx_supported

NODE_DIRECTORY = "/sys/devices/system/node"
SYSFS_ATTRIBUTE = f"{NODE_DIRECTORY}/node*/x86/sgx_total_bytes"
"""The EPC size of each NUMA node, in kernel 5.17 and later (Documentation/ABI/stable/sysfs-devices-node)."""
DRIVER_ENTRIES = ("/sys/class/misc/sgx_enclave", "/sys/class/misc/enclave", "/sys/class/misc/isgx")
"""The drivers' entries in sysfs. `sgx_enclave`: the kernel's driver (5.11+). `enclave`: Intel's out-of-tree
driver before its device was renamed (in "misc" from V1.32 on, says its README). `isgx`: the legacy driver,
whose device /dev/isgx is never offered, since it cannot serve DCAP attestation."""
ENCLAVE_NODES = ("/dev/sgx_enclave", "/dev/sgx/enclave")
"""Paths of the enclave device: of the kernel's driver and of the out-of-tree driver. Programs try both."""
PROVISION_NODES = ("/dev/sgx_provision", "/dev/sgx/provision")
SIMULATED_NODE = "/dev/null"
"""The host device that containers on a simulated node get at SGX's paths. Every host has this device."""

_NUMA_NODE = re.compile(r"node([0-9]{1,9})")
_NUMBER = re.compile(r"[0-9]{1,20}")


class Platform(StrEnum):
    """The kind of platform that runs enclaves; containers find it in the variable CONFCOM_SGX_PLATFORM."""

    HARDWARE = "hardware"
    SIMULATED = "simulated"


class NoSgxError(UnavailableError):
    """The node has no SGX that the plugin can offer; the error contains the reason."""


class EpcSource(StrEnum):
    SYSFS = "sysfs"
    CPUID = "cpuid"
    SIMULATED = "simulated"
    NONE = "none"
    """The node has no EPC, or no source gives the EPC's size."""


@dataclass(frozen=True, slots=True)
class Discovery:
    platform: Platform
    epc: FoundEpc
    enclave_node: str
    provision_node: str | None


def find_driver(host: HostFiles) -> str | None:
    return next((entry for entry in DRIVER_ENTRIES if host.exists(entry)), None)


def find_node(host: HostFiles, candidates: tuple[str, ...]) -> str | None:
    return next((node for node in candidates if (found := host.status(node)) and S_ISCHR(found.st_mode)), None)


def discover(host: HostFiles, *, simulated_epc_mib: int | None) -> Discovery:
    """Decide what this node offers. If `simulated_epc_mib` is None, look for hardware.

    A SettingsError is final. After a NoSgxError, which means no usable hardware yet, a later call may succeed.
    """
    driver = find_driver(host)
    if simulated_epc_mib is None:
        return _discover_hardware(host, driver)
    if driver is not None:
        raise SettingsError(
            "a simulated device plugin does not start on a node with SGX hardware",
            error_code="simulated-on-hardware",
            why=f"{driver} shows that an SGX driver is loaded",
            remedy="run it without --simulated, or remove the simulation label from this node",
        )
    reason = "simulated EPC was requested, and no SGX driver is loaded"
    epc = found_epc(EpcSource.SIMULATED, reason, (EpcSection(0, simulated_epc_mib * MIB),))
    return Discovery(Platform.SIMULATED, epc, SIMULATED_NODE, SIMULATED_NODE)


def _discover_hardware(host: HostFiles, driver: str | None) -> Discovery:
    epc = find_epc(host)
    if driver is None and epc.source == EpcSource.NONE:
        raise NoSgxError(
            "this node has no SGX driver",
            error_code="no-sgx-driver",
            why=f"none of {', '.join(DRIVER_ENTRIES)} exists; {epc.reason}",
            remedy="enable SGX in the firmware and use kernel 5.11 or newer; --simulated needs no hardware",
        )
    if driver is None:
        raise NoSgxError(
            "this node has EPC and no SGX driver",
            error_code="epc-without-driver",
            why=f"none of {', '.join(DRIVER_ENTRIES)} exists, although the node has EPC ({epc.reason})",
            remedy="use kernel 5.11 or newer with CONFIG_X86_SGX, and let the firmware enable flexible launch control",
        )
    enclave_node = find_node(host, ENCLAVE_NODES)
    if enclave_node is None:
        raise NoSgxError(
            "this node has an SGX driver without a usable enclave device",
            error_code="no-enclave-device",
            why=f"none of {', '.join(ENCLAVE_NODES)} is a character device; the driver is {driver}",
            remedy="use kernel 5.11 or newer, mount the host's /dev, and check its udev rules",
        )
    if epc.source == EpcSource.NONE:
        raise NoSgxError(
            "this node's EPC is unknown or less than 1 MiB",
            error_code="epc-not-found",
            why=epc.reason,
            remedy="set the size of the EPC (PRMRR) in the firmware, or use kernel 5.17 or newer",
        )
    epc = replace(epc, reason=f"{driver}; EPC: {epc.reason}")
    return Discovery(Platform.HARDWARE, epc, enclave_node, find_node(host, PROVISION_NODES))


def found_epc(source: EpcSource, reason: str, sections: tuple[EpcSection, ...]) -> FoundEpc:
    return FoundEpc(source, reason, _total(sections), _total(sections) // MIB, sections)


def find_epc(host: HostFiles) -> FoundEpc:
    """Return the EPC of sysfs, which the kernel uses, or else of CPUID. Less than 1 MiB counts as none."""
    sections, no_sysfs = _read_sysfs(host)
    if _total(sections) >= MIB:
        return found_epc(EpcSource.SYSFS, SYSFS_ATTRIBUTE, sections)
    try:
        sections, why = _read_cpuid(host)
    except UnavailableError as error:
        sections, why = (), ": ".join(filter(None, (error.what, error.why)))
    if _total(sections) < MIB:
        return FoundEpc(EpcSource.NONE, f"{no_sysfs}; {why}")
    reason = f"CPUID leaf 0x12 has {len(sections)} EPC section{'s'[: len(sections) > 1]}; {no_sysfs}"
    return found_epc(EpcSource.CPUID, reason, sections)


def _total(sections: tuple[EpcSection, ...]) -> int:
    return sum(section.bytes for section in sections)


def _read_sysfs(host: HostFiles) -> tuple[tuple[EpcSection, ...], str]:
    """Return the EPC sections in sysfs, and the reason to report if their sum is below 1 MiB."""
    found = []
    for name in host.children(NODE_DIRECTORY):
        match = _NUMA_NODE.fullmatch(name)
        text = host.read_text(f"{NODE_DIRECTORY}/{name}/x86/sgx_total_bytes") if match else None
        if match is None or text is None:
            continue
        if not _NUMBER.fullmatch(text.strip()):
            return (), f"{SYSFS_ATTRIBUTE} contains {text[:32]!r} instead of a number of bytes"
        found.append(EpcSection(int(match[1]), int(text)))
    sections = tuple(sorted(found, key=lambda section: section.node or 0))
    if not sections:
        return (), f"{SYSFS_ATTRIBUTE} does not exist (it needs kernel 5.17)"
    return sections, f"{SYSFS_ATTRIBUTE} says {_total(sections)} bytes"


def _read_cpuid(host: HostFiles) -> tuple[tuple[EpcSection, ...], str]:
    """Return CPUID's EPC sections, and the reason if they are below 1 MiB. May raise UnavailableError."""
    max_leaf = host.cpuid(0, 0).eax
    if max_leaf < SGX_LEAF:
        return (), f"the processor has no SGX: CPUID ends with leaf {max_leaf:#x}, before {SGX_LEAF:#x}"
    if not sgx_supported(max_leaf, host.cpuid(FEATURES_LEAF, 0).ebx):
        return (), "the processor has no SGX, or the firmware has switched it off: CPUID leaf 7, EBX bit 2, is 0"
    sizes = epc_section_sizes(host.cpuid)
    if not sizes:
        return (), "the processor has SGX, but the firmware assigns no EPC: CPUID leaf 0x12 has no EPC section"
    sections = tuple(EpcSection(None, size) for size in sizes if size)
    return sections, f"CPUID leaf 0x12 says {_total(sections)} bytes"
