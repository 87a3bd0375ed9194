"""EPC, driver and device nodes, by the device plugin's own discovery. Reads the node by NodeFiles only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from confcom.device_plugin.discovery.device_nodes import READ_WRITE, inspect_devices
from confcom.device_plugin.discovery.epc_discovery import (
    DRIVER_ENTRIES,
    ENCLAVE_NODES,
    LEGACY_DRIVER_ENTRY,
    LEGACY_ENCLAVE_NODE,
    PROVISION_NODES,
    NoSgxError,
    discover,
)
from confcom.device_plugin.discovery.epc_sources import NODE_DIRECTORY
from confcom.errors import UnavailableError
from confcom.hardware_report.document.redaction import Value
from confcom.hardware_report.document.report import Finding, Section
from confcom.hardware_report.node_files import Entry, NodeFiles
from confcom.sgx.epc_from_cpuid import enumerate_epc

NODES = (*ENCLAVE_NODES, *PROVISION_NODES, "/dev/sgx_vepc", LEGACY_ENCLAVE_NODE)
GROUPS = ("sgx", "sgx_prv")
"""Groups of systemd's and Intel's udev rules."""
UDEV_RULES = ("/etc/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d")
_DRIVERS = dict(zip(DRIVER_ENTRIES, ("in the kernel", "out of the tree", "legacy"), strict=True))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who runs the command."""

    uid: int
    gids: frozenset[int]


def epc_section(files: NodeFiles) -> Section:
    """Return the EPC by each source, and what this project's device plugin would offer."""
    by_sysfs, by_cpuid = _sysfs_sizes(files), _cpuid_sections(files)
    total = sum(by_sysfs.values()) if by_sysfs else None
    declared = None if by_cpuid is None else sum(size for _, size in by_cpuid)
    values: dict[str, Value] = {
        "sysfs": [{"numa_node": node, "bytes": size} for node, size in by_sysfs.items()],
        "sysfs_bytes": total,
        "cpuid": [{"base": f"{base:#x}", "bytes": size} for base, size in by_cpuid or ()],
        "cpuid_bytes": declared,
    }
    findings = []
    if total is None:
        findings.append(
            Finding(
                code="no-epc-in-sysfs",
                what=f"no NUMA node has a number in {NODE_DIRECTORY}/node*/x86/sgx_total_bytes",
                do="use kernel 5.17 or newer, with the SGX driver",
            )
        )
    elif declared and total != declared:
        findings.append(
            Finding(
                code="epc-sources-differ",
                what=f"the kernel has {total} bytes of EPC, and the processor declares {declared}",
                do="read `dmesg | grep -i sgx`: the kernel uses a part of the EPC only",
            )
        )
    values["device_plugin"] = _device_plugin(files)
    return Section("epc", values, tuple(findings))


def devices_section(files: NodeFiles, caller: Caller) -> Section:
    """Return the driver, its device nodes, and whether the caller can open them."""
    groups = files.groups()
    entries = {path: entry for path in NODES if (entry := files.entry(path))}
    loaded = [path for path in DRIVER_ENTRIES if files.exists(path)]
    rules = sorted({name for folder in UDEV_RULES for name in files.children(folder) if "sgx" in name})
    values: dict[str, Value] = {
        "driver": [_DRIVERS[path] for path in loaded],
        "driver_entries": [*loaded],
        "nodes": [{"path": path, **entry_value(entry, groups)} for path, entry in entries.items()],
        "udev_rules": [*rules],
        "groups": [
            {"group": name, "gid": gid, "caller_is_member": gid in caller.gids}
            for gid, name in sorted(groups.items())
            if name in GROUPS
        ],
        "caller_is_root": caller.uid == 0,
    }
    problems = (
        Finding(code=problem.code, what=problem.what, do=problem.remedy)
        for node in inspect_devices(files).nodes
        for problem in node.problems
    )
    return Section("devices", values, (*_missing(loaded, entries), *problems, *_closed_to(caller, entries)))


def entry_value(entry: Entry, groups: dict[int, str]) -> dict[str, Value]:
    """Return an entry's members, with the name of its group."""
    return {
        "kind": entry.kind,
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "group": groups.get(entry.gid),
    }


def _sysfs_sizes(files: NodeFiles) -> dict[int, int]:
    found = {}
    for name in files.children(NODE_DIRECTORY):
        number = name.removeprefix("node")
        text = files.read_text(f"{NODE_DIRECTORY}/{name}/x86/sgx_total_bytes") if number.isdecimal() else None
        if text and text.strip().isdecimal():
            found[int(number)] = int(text)
    return dict(sorted(found.items()))


def _cpuid_sections(files: NodeFiles) -> list[tuple[int, int]] | None:
    try:
        return [(section.base, section.size) for section in enumerate_epc(files.cpuid)]
    except UnavailableError:
        return None


def _device_plugin(files: NodeFiles) -> dict[str, Value]:
    try:
        found = discover(files, simulated_epc_mib=None)
    except NoSgxError as error:
        return {"epc_mib": 0, "code": error.error_code}
    return {
        "epc_mib": found.epc_mib,
        "source": found.source.value,
        "enclave_node": found.enclave_node,
        "provision_node": found.provision_node,
    }


def _missing(loaded: list[str], entries: dict[str, Entry]) -> Iterator[Finding]:
    devices = {path for path, entry in entries.items() if entry.kind == "character device"}
    if not loaded:
        yield Finding(
            code="no-driver",
            what=f"no SGX driver is loaded: none of {', '.join(DRIVER_ENTRIES)} exists",
            do="use kernel 5.11 or newer with CONFIG_X86_SGX, and enable SGX in the firmware",
        )
    elif loaded == [LEGACY_DRIVER_ENTRY]:
        yield Finding(
            code="legacy-driver",
            what="only the legacy driver (isgx) is loaded, which cannot serve DCAP attestation",
            do="use kernel 5.11 or newer",
        )
    if not devices.intersection(ENCLAVE_NODES):
        yield Finding(
            code="no-enclave-node",
            what=f"there is no enclave device: none of {', '.join(ENCLAVE_NODES)} is a character device",
            do="load the driver; in a container, mount the node's /dev",
        )
    if not devices.intersection(PROVISION_NODES):
        yield Finding(
            code="no-provision-node",
            what=f"there is no provision device: none of {', '.join(PROVISION_NODES)} is a character device",
            do="load the driver; aesmd makes no quotes without this device",
        )


def _closed_to(caller: Caller, entries: dict[str, Entry]) -> Iterable[Finding]:
    needed = (*ENCLAVE_NODES, *PROVISION_NODES)
    closed = [path for path, entry in entries.items() if path in needed and not _can_open(caller, entry)]
    if closed:
        yield Finding(
            code="caller-without-device",
            what=f"the user who runs this command cannot open {', '.join(closed)}",
            do="nothing is to be done for this report; a service that needs a device must be in the device's group",
        )


def _can_open(caller: Caller, entry: Entry) -> bool:
    if caller.uid == 0:
        return True
    shift = 6 if caller.uid == entry.uid else 3 if entry.gid in caller.gids else 0
    return entry.mode >> shift & READ_WRITE == READ_WRITE
