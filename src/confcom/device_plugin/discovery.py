"""What SGX the node has: platform, EPC and device nodes, each with the reason. Decisions only; a HostReader looks.

Hardware or simulated is decided here, once, and carried to every container by Allocate. It follows the driver's entry
in sysfs, never a path in /dev: anyone can put a file there, and a simulated node does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from confcom.device_plugin.host import HostReader
from confcom.errors import ConfcomError, ExitCode, MalformedError, UnavailableError
from confcom.sgx.epc import MIB, whole_mib

DRIVER_ENTRIES = ("/sys/class/misc/sgx_enclave", "/sys/class/misc/enclave", "/sys/class/misc/isgx")
"""The misc device of the kernel's driver (5.11+) and of Intel's out-of-tree driver (its README: from V1.32 in "misc";
`enclave` before it was renamed), and of the legacy driver."""
LEGACY_DRIVER_ENTRY = "/sys/class/misc/isgx"
ENCLAVE_NODES = ("/dev/sgx_enclave", "/dev/sgx/enclave")
"""The enclave device as the kernel's driver and as the out-of-tree driver name it; programs look for either."""
PROVISION_NODES = ("/dev/sgx_provision", "/dev/sgx/provision")
SIMULATED_NODE = "/dev/null"
"""What a simulated node hands out under SGX's names: it exists on every host, and nothing has to be created."""
NODE_DIRECTORY = "/sys/devices/system/node"
"""Each NUMA node's x86/sgx_total_bytes is there from kernel 5.17 on (Documentation/ABI/stable/sysfs-devices-node)."""

_NUMA_NODE = re.compile(r"node([0-9]{1,9})")


class Platform(StrEnum):
    """Where enclaves run; containers see it as CONFCOM_SGX_PLATFORM."""

    HARDWARE = "hardware"
    SIMULATED = "simulated"


class EpcSource(StrEnum):
    """Where the size of the EPC was found."""

    SYSFS = "sysfs"
    SIMULATED = "simulated"


class SimulatedOnHardwareError(ConfcomError):
    """A simulated plugin on a node with an SGX driver: it would hand out pretended devices where real ones are."""

    exit_code = ExitCode.USAGE


class NoSgxError(UnavailableError):
    """The node has no SGX that can be offered; the reason is in the error."""


@dataclass(frozen=True, slots=True)
class EpcSection:
    """EPC of one NUMA node, in bytes."""

    numa_node: int
    size: int


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found, and how it was decided."""

    platform: Platform
    source: EpcSource
    reason: str
    sections: tuple[EpcSection, ...]
    enclave_node: str
    provision_node: str | None

    @property
    def epc_bytes(self) -> int:
        """All sections together."""
        return sum(section.size for section in self.sections)

    @property
    def epc_mib(self) -> int:
        """Whole MiB: summed first, then rounded down once."""
        return whole_mib(section.size for section in self.sections)


def discover(host: HostReader, *, simulated_epc_mib: int | None) -> Discovery:
    """Decide what this node offers.

    Args:
        host: where to look.
        simulated_epc_mib: MiB of EPC to pretend, or None to look for hardware.

    Raises:
        SimulatedOnHardwareError: simulated was asked for, and an SGX driver is loaded.
        NoSgxError: hardware was asked for, and there is none that can be used.
        MalformedError: sysfs does not hold a number where the kernel writes one.
    """
    driver = next((entry for entry in DRIVER_ENTRIES if host.exists(entry)), None)
    if simulated_epc_mib is None:
        return _discover_hardware(host, driver)
    if driver is not None:
        raise SimulatedOnHardwareError(
            "a simulated device plugin does not start on a node with SGX hardware",
            why=f"{driver} shows that an SGX driver is loaded",
            remedy="run it without --simulated, or take the simulation label off this node",
        )
    return Discovery(
        platform=Platform.SIMULATED,
        source=EpcSource.SIMULATED,
        reason="simulated EPC was asked for, and no SGX driver is loaded",
        sections=(EpcSection(numa_node=0, size=simulated_epc_mib * MIB),),
        enclave_node=SIMULATED_NODE,
        provision_node=SIMULATED_NODE,
    )


def _discover_hardware(host: HostReader, driver: str | None) -> Discovery:
    if driver is None:
        raise NoSgxError(
            "this node has no SGX driver",
            why=f"none of {', '.join(DRIVER_ENTRIES)} is there",
            remedy="enable SGX in the firmware and use kernel 5.11 or newer; --simulated needs no hardware",
        )
    enclave_node = next((node for node in ENCLAVE_NODES if host.is_character_device(node)), None)
    if enclave_node is None:
        legacy = driver == LEGACY_DRIVER_ENTRY
        raise NoSgxError(
            "this node has an SGX driver without a usable enclave device",
            why="the legacy driver (isgx) cannot serve DCAP attestation"
            if legacy
            else f"none of {', '.join(ENCLAVE_NODES)} is a character device",
            remedy="use kernel 5.11 or newer" if legacy else "mount the host's /dev and check its udev rules",
        )
    sections = _sysfs_sections(host)
    if sum(section.size for section in sections) < MIB:
        raise NoSgxError(
            "this node's EPC is unknown or less than 1 MiB",
            why=f"{NODE_DIRECTORY}/node*/x86/sgx_total_bytes says {sum(section.size for section in sections)} bytes"
            if sections
            else f"{NODE_DIRECTORY}/node*/x86/sgx_total_bytes is not there",
            remedy="use kernel 5.17 or newer, and give the EPC (PRMRR) a size in the firmware",
        )
    return Discovery(
        platform=Platform.HARDWARE,
        source=EpcSource.SYSFS,
        reason=f"{driver} and {NODE_DIRECTORY}/node*/x86/sgx_total_bytes",
        sections=sections,
        enclave_node=enclave_node,
        provision_node=next((node for node in PROVISION_NODES if host.is_character_device(node)), None),
    )


def _sysfs_sections(host: HostReader) -> tuple[EpcSection, ...]:
    found = []
    for name in host.children(NODE_DIRECTORY):
        match = _NUMA_NODE.fullmatch(name)
        path = f"{NODE_DIRECTORY}/{name}/x86/sgx_total_bytes"
        text = host.read_text(path) if match else None
        if match is None or text is None:
            continue
        if not re.fullmatch(r"[0-9]{1,20}", text.strip()):
            raise MalformedError(
                f"{path} holds {text[:32]!r}",
                why="the kernel writes a number of bytes there",
                remedy="check that this is the host's own sysfs",
            )
        found.append(EpcSection(numa_node=int(match[1]), size=int(text)))
    return tuple(sorted(found, key=lambda section: section.numa_node))
