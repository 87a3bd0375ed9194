"""What SGX the node has: platform, EPC and device nodes, each with the reason. Decisions only; a HostReader looks.

Hardware or simulated is decided here, once, and carried to every container by Allocate. It follows the driver's entry
in sysfs, never a path in /dev: anyone can put a file there, and a simulated node does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from confcom.device_plugin.discovery.epc_sources import EpcFinding, EpcSection, EpcSource, find_epc
from confcom.device_plugin.discovery.host import HostReader
from confcom.errors import ConfcomError, ExitCode, UnavailableError
from confcom.sgx.epc import MIB, whole_mib

DRIVER_ENTRIES = ("/sys/class/misc/sgx_enclave", "/sys/class/misc/enclave", "/sys/class/misc/isgx")
"""The misc device of the kernel's driver (5.11+) and of Intel's out-of-tree driver (its README: from V1.32 in "misc";
`enclave` before it was renamed), and of the legacy driver."""
LEGACY_DRIVER_ENTRY = "/sys/class/misc/isgx"
ENCLAVE_NODES = ("/dev/sgx_enclave", "/dev/sgx/enclave")
"""The enclave device as the kernel's driver and as the out-of-tree driver name it; programs look for either."""
PROVISION_NODES = ("/dev/sgx_provision", "/dev/sgx/provision")
LEGACY_ENCLAVE_NODE = "/dev/isgx"
"""The legacy driver's. It has no provision device and cannot serve DCAP attestation: told of, never offered."""
SIMULATED_NODE = "/dev/null"
"""What a simulated node hands out under SGX's names: it exists on every host, and nothing has to be created."""


class Platform(StrEnum):
    """Where enclaves run; containers see it as CONFCOM_SGX_PLATFORM."""

    HARDWARE = "hardware"
    SIMULATED = "simulated"


class SimulatedOnHardwareError(ConfcomError):
    """A simulated plugin on a node with an SGX driver: it would hand out pretended devices where real ones are."""

    exit_code = ExitCode.USAGE


class NoSgxError(UnavailableError):
    """The node has no SGX that can be offered; the reason is in the error."""


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


def find_driver(host: HostReader) -> str | None:
    """The loaded SGX driver's entry in sysfs."""
    return next((entry for entry in DRIVER_ENTRIES if host.exists(entry)), None)


def find_node(host: HostReader, candidates: tuple[str, ...]) -> str | None:
    """The first of the candidates that is a character device."""
    return next((node for node in candidates if (found := host.status(node)) and found.character_device), None)


def discover(host: HostReader, *, simulated_epc_mib: int | None) -> Discovery:
    """Decide what this node offers.

    Args:
        host: where to look.
        simulated_epc_mib: MiB of EPC to pretend, or None to look for hardware.

    Raises:
        SimulatedOnHardwareError: simulated was asked for, and an SGX driver is loaded.
        NoSgxError: hardware was asked for, and there is none that can be used.
    """
    driver = find_driver(host)
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
    epc = find_epc(host)
    if driver is None:
        raise _no_driver(epc)
    enclave_node = find_node(host, ENCLAVE_NODES)
    if enclave_node is None:
        raise _no_enclave_node(host, driver)
    if epc.source is EpcSource.NONE:
        raise NoSgxError(
            "this node's EPC is unknown or less than 1 MiB",
            why=epc.reason,
            remedy="give the EPC (PRMRR) a size in the firmware, or use kernel 5.17 or newer",
        )
    return Discovery(
        platform=Platform.HARDWARE,
        source=epc.source,
        reason=f"{driver}, and EPC by {epc.reason}",
        sections=epc.sections,
        enclave_node=enclave_node,
        provision_node=find_node(host, PROVISION_NODES),
    )


def _no_driver(epc: EpcFinding) -> NoSgxError:
    none = f"none of {', '.join(DRIVER_ENTRIES)} is there"
    if epc.source is EpcSource.NONE:
        return NoSgxError(
            "this node has no SGX driver",
            why=f"{none}; {epc.reason}",
            remedy="enable SGX in the firmware and use kernel 5.11 or newer; --simulated needs no hardware",
        )
    return NoSgxError(
        "this node has no SGX driver",
        why=f"{none}, although there is EPC, by {epc.reason}",
        remedy="use kernel 5.11 or newer with CONFIG_X86_SGX, and let the firmware enable flexible launch control",
    )


def _no_enclave_node(host: HostReader, driver: str) -> NoSgxError:
    if driver == LEGACY_DRIVER_ENTRY:
        legacy = host.status(LEGACY_ENCLAVE_NODE) is not None
        return NoSgxError(
            "this node has an SGX driver without a usable enclave device",
            why=f"the legacy driver (isgx{f', {LEGACY_ENCLAVE_NODE}' if legacy else ''}) cannot serve DCAP attestation",
            remedy="use kernel 5.11 or newer",
        )
    return NoSgxError(
        "this node has an SGX driver without a usable enclave device",
        why=f"none of {', '.join(ENCLAVE_NODES)} is a character device",
        remedy="mount the host's /dev and check its udev rules",
    )
