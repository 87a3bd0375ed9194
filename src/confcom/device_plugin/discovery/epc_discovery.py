"""Discovery of the node's SGX: platform, EPC and device nodes, with the reason. Reads the host only by HostFiles.

Hardware or simulated is decided here, once, and Allocate tells every container. The decision depends on the driver's
entry in sysfs, never on a path in /dev: any program can create a file there, and on a simulated node there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from confcom.device_plugin.discovery.epc_sources import EpcFinding, EpcSection, EpcSource, find_epc
from confcom.device_plugin.discovery.host import HostFiles
from confcom.errors import ConfcomError, ExitCode, UnavailableError
from confcom.sgx.epc_from_cpuid import MIB, whole_mib

DRIVER_ENTRIES = ("/sys/class/misc/sgx_enclave", "/sys/class/misc/enclave", "/sys/class/misc/isgx")
"""The misc devices of the kernel's driver (5.11+), of Intel's out-of-tree driver (its README: in "misc" from V1.32 on;
`enclave` before it was renamed), and of the legacy driver."""
LEGACY_DRIVER_ENTRY = "/sys/class/misc/isgx"
ENCLAVE_NODES = ("/dev/sgx_enclave", "/dev/sgx/enclave")
"""The enclave device's paths with the kernel's and with the out-of-tree driver; programs look for either."""
PROVISION_NODES = ("/dev/sgx_provision", "/dev/sgx/provision")
LEGACY_ENCLAVE_NODE = "/dev/isgx"
"""The legacy driver's device. This driver has no provision device and cannot serve DCAP attestation, so the device is
reported and never offered."""
SIMULATED_NODE = "/dev/null"
"""The device that containers on a simulated node get under SGX's names. Every host has it, so nothing is created."""


class Platform(StrEnum):
    """The kind of platform on which enclaves run; containers get it as CONFCOM_SGX_PLATFORM."""

    HARDWARE = "hardware"
    SIMULATED = "simulated"


class SimulatedOnHardwareError(ConfcomError):
    """A simulated plugin on a node with an SGX driver: containers would get simulated devices instead of real ones."""

    error_code = "simulated-on-hardware"
    exit_code = ExitCode.USAGE


class NoSgxError(UnavailableError):
    """The node has no SGX that can be offered; the error has the reason."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was discovered, and the reason of the decision."""

    platform: Platform
    source: EpcSource
    reason: str
    sections: tuple[EpcSection, ...]
    enclave_node: str
    provision_node: str | None

    @property
    def epc_bytes(self) -> int:
        """Size of all sections together."""
        return sum(section.size for section in self.sections)

    @property
    def epc_mib(self) -> int:
        """Whole MiB of all sections: the sum, rounded down."""
        return whole_mib(section.size for section in self.sections)


def find_driver(host: HostFiles) -> str | None:
    """Return the loaded SGX driver's entry in sysfs; None if no driver is loaded."""
    return next((entry for entry in DRIVER_ENTRIES if host.exists(entry)), None)


def find_node(host: HostFiles, candidates: tuple[str, ...]) -> str | None:
    """Return the first candidate that is a character device; None if none is."""
    return next((node for node in candidates if (found := host.status(node)) and found.character_device), None)


def discover(host: HostFiles, *, simulated_epc_mib: int | None) -> Discovery:
    """Decide what this node offers; `simulated_epc_mib` is None to look for hardware.

    Raises:
        SimulatedOnHardwareError: simulated EPC was requested, and an SGX driver is loaded.
        NoSgxError: hardware was requested, and none can be used.
    """
    driver = find_driver(host)
    if simulated_epc_mib is None:
        return _discover_hardware(host, driver)
    if driver is not None:
        raise SimulatedOnHardwareError(
            "a simulated device plugin does not start on a node with SGX hardware",
            why=f"{driver} shows that an SGX driver is loaded",
            remedy="run it without --simulated, or remove the simulation label from this node",
        )
    return Discovery(
        platform=Platform.SIMULATED,
        source=EpcSource.SIMULATED,
        reason="simulated EPC was requested, and no SGX driver is loaded",
        sections=(EpcSection(numa_node=0, size=simulated_epc_mib * MIB),),
        enclave_node=SIMULATED_NODE,
        provision_node=SIMULATED_NODE,
    )


def _discover_hardware(host: HostFiles, driver: str | None) -> Discovery:
    epc = find_epc(host)
    if driver is None:
        raise _no_driver(epc)
    enclave_node = find_node(host, ENCLAVE_NODES)
    if enclave_node is None:
        raise _no_enclave_node(host, driver)
    if epc.source is EpcSource.NONE:
        raise NoSgxError(
            "this node's EPC is unknown or less than 1 MiB",
            error_code="epc-not-found",
            why=epc.reason,
            remedy="set the size of the EPC (PRMRR) in the firmware, or use kernel 5.17 or newer",
        )
    return Discovery(
        platform=Platform.HARDWARE,
        source=epc.source,
        reason=f"{driver}; EPC: {epc.reason}",
        sections=epc.sections,
        enclave_node=enclave_node,
        provision_node=find_node(host, PROVISION_NODES),
    )


def _no_driver(epc: EpcFinding) -> NoSgxError:
    none = f"none of {', '.join(DRIVER_ENTRIES)} exists"
    if epc.source is EpcSource.NONE:
        return NoSgxError(
            "this node has no SGX driver",
            error_code="no-sgx-driver",
            why=f"{none}; {epc.reason}",
            remedy="enable SGX in the firmware and use kernel 5.11 or newer; --simulated needs no hardware",
        )
    return NoSgxError(
        "this node has no SGX driver",
        error_code="epc-without-driver",
        why=f"{none}, although the node has EPC ({epc.reason})",
        remedy="use kernel 5.11 or newer with CONFIG_X86_SGX, and let the firmware enable flexible launch control",
    )


def _no_enclave_node(host: HostFiles, driver: str) -> NoSgxError:
    if driver == LEGACY_DRIVER_ENTRY:
        legacy = host.status(LEGACY_ENCLAVE_NODE) is not None
        return NoSgxError(
            "this node has an SGX driver without a usable enclave device",
            error_code="legacy-sgx-driver",
            why=f"the legacy driver (isgx{f', {LEGACY_ENCLAVE_NODE}' if legacy else ''}) cannot serve DCAP attestation",
            remedy="use kernel 5.11 or newer",
        )
    return NoSgxError(
        "this node has an SGX driver without a usable enclave device",
        error_code="no-enclave-device",
        why=f"none of {', '.join(ENCLAVE_NODES)} is a character device",
        remedy="mount the host's /dev and check its udev rules",
    )
