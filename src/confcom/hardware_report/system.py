"""Reads the node's kernel, SGX driver, device nodes and EPC from its files."""

import re
import stat

from confcom.device_plugin import epc
from confcom.device_plugin.device_nodes import group_names
from confcom.device_plugin.host import HostFiles
from confcom.hardware_report import Facts

NODES = (*epc.ENCLAVE_NODES, *epc.PROVISION_NODES, "/dev/sgx_vepc", "/dev/isgx")
GROUPS = ("sgx", "sgx_prv")
"""The groups to which udev rules of systemd and Intel assign SGX device nodes."""

_OS_NAME = re.compile(r'^PRETTY_NAME="?([^"\n]*)', re.MULTILINE)
_SGX_FLAGS = ("sgx", "sgx_lc")
_DISABLING = frozenset({"nosgx", "clearcpuid=sgx"})


def kernel_facts(files: HostFiles) -> Facts:
    """Return the kernel, distribution, microcode, and words in the kernel's command line that disable SGX."""
    release = files.read_text("/proc/sys/kernel/osrelease")
    os_name = _OS_NAME.search(files.read_text("/etc/os-release") or "")
    first = (files.read_text("/proc/cpuinfo") or "").partition("\n\n")[0]
    lines = (line.partition(":") for line in first.splitlines())
    processor = {name.strip(): value.strip() for name, _, value in lines}
    flags = processor.get("flags", "").split()
    command_line = files.read_text("/proc/cmdline") or ""
    return {
        "kernel": release and release.strip(),
        "distribution": os_name and os_name[1],
        "microcode": processor.get("microcode"),
        "kernel_flags": [flag for flag in _SGX_FLAGS if flag in flags] if flags else None,
        "switched_off_by": [word for word in command_line.split() if word in _DISABLING],
    }


def device_facts(files: HostFiles) -> Facts:
    """Return the driver, the device nodes with their modes, the EPC, and what our device plugin offers."""
    groups = group_names(files)
    return {
        "drivers": [path for path in epc.DRIVER_ENTRIES if files.exists(path)],
        "nodes": {path: entry for path in NODES if (entry := entry_facts(files, path, groups))},
        "groups": {name: gid for gid, name in groups.items() if name in GROUPS},
        "epc_bytes": {
            name: text.strip()
            for name in files.children(epc.NODE_DIRECTORY)
            if (text := files.read_text(f"{epc.NODE_DIRECTORY}/{name}/x86/sgx_total_bytes"))
        },
        "device_plugin": _device_plugin(files),
    }


def entry_facts(files: HostFiles, path: str, groups: dict[int, str]) -> Facts | None:
    """Return the type, mode and owner of a directory entry, in the notation of `ls -l`."""
    entry = files.status(path)
    if entry is None:
        return None
    mode, group = stat.filemode(entry.st_mode), groups.get(entry.st_gid)
    return {"mode": mode, "uid": entry.st_uid, "gid": entry.st_gid, "group": group}


def _device_plugin(files: HostFiles) -> Facts:
    try:
        found = epc.discover(files, simulated_epc_mib=None)
    except epc.NoSgxError as error:
        return {"code": error.error_code}
    return {"epc_mib": found.epc.mib, "source": found.epc.source}
