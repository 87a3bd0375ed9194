"""Reads the node's kernel, SGX driver, device nodes and EPC from its files, each up to a limit."""

import os
import re
import shlex
import stat
from dataclasses import dataclass, field

from confcom.device_plugin import epc
from confcom.device_plugin.device_nodes import group_names
from confcom.device_plugin.host import HostFiles
from confcom.hardware_report import Facts

SMALL_FILE_BYTES = 256 * 1024
_LIMITS = {
    "/proc/cpuinfo": 16 * 1024 * 1024,  # at most 4,096 processors, each with under 4 KiB
    "/var/lib/dpkg/status": 64 * 1024 * 1024,  # each package takes 1 to 2 KiB
}

NODES = (*epc.ENCLAVE_NODES, *epc.PROVISION_NODES, "/dev/sgx_vepc", "/dev/isgx")
GROUPS = ("sgx", "sgx_prv")
"""The groups to which udev rules of systemd and Intel assign SGX device nodes."""
UDEV_RULES = ("/etc/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d")
OS_RELEASES = ("/etc/os-release", "/usr/lib/os-release")
"""The paths of os-release, in the order in which os-release(5) looks for them."""

_OS_MEMBERS = ("ID", "VERSION_ID", "PRETTY_NAME")
_SGX_FLAGS = ("sgx", "sgx_lc")
_DISABLING = frozenset({"nosgx", "clearcpuid=sgx"})
_CGROUP_EPC = re.compile(r"^sgx_epc (\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class NodeFiles(HostFiles):
    unread: dict[str, str] = field(default_factory=dict)
    """The reasons why existing files could not be read, keyed by the files' paths."""

    def read_text(self, path: str) -> str | None:
        limit = _LIMITS.get(path, SMALL_FILE_BYTES)
        try:
            # O_NONBLOCK is for FIFOs: otherwise, opening a FIFO that has no writer would block forever.
            descriptor = os.open(self._at(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    self.unread[path] = "not a regular file"
                    return None
                data = file.read(limit + 1)
        except OSError as error:
            self._note(path, error)
            return None
        if len(data) > limit:
            self.unread[path] = f"longer than {limit} bytes"
            return None
        return data.decode("utf-8", errors="replace")

    def _note(self, path: str, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            self.unread[path] = error.strerror or type(error).__name__


def kernel_facts(files: NodeFiles) -> Facts:
    """Return the kernel, distribution, microcode, and words in the kernel's command line that disable SGX."""
    release = files.read_text("/proc/sys/kernel/osrelease")
    os_release = next((text for path in OS_RELEASES if (text := files.read_text(path))), "")
    first = (files.read_text("/proc/cpuinfo") or "").partition("\n\n")[0]
    lines = (line.partition(":") for line in first.splitlines())
    processor = {name.strip(): value.strip() for name, _, value in lines}
    flags = processor.get("flags", "").split()
    command_line = files.read_text("/proc/cmdline") or ""
    cgroup_epc = _CGROUP_EPC.search(files.read_text("/sys/fs/cgroup/misc.capacity") or "")
    return {
        "kernel": release and release.strip(),
        "distribution": _os_members(os_release),
        "microcode": processor.get("microcode"),
        "kernel_flags": [flag for flag in _SGX_FLAGS if flag in flags] if flags else None,
        "switched_off_by": [word for word in command_line.split() if word in _DISABLING],
        "cgroup_epc_bytes": int(cgroup_epc[1]) if cgroup_epc else None,
    }


def device_facts(files: NodeFiles) -> Facts:
    """Return the driver, the device nodes with their modes, the EPC, and what our device plugin offers."""
    groups = group_names(files)
    return {
        "drivers": [path for path in epc.DRIVER_ENTRIES if files.exists(path)],
        "nodes": {path: entry for path in NODES if (entry := entry_facts(files, path, groups))},
        "udev_rules": [*sorted({name for folder in UDEV_RULES for name in files.children(folder) if "sgx" in name})],
        "groups": {name: gid for gid, name in groups.items() if name in GROUPS},
        "epc_bytes": {
            name: text.strip()
            for name in files.children(epc.NODE_DIRECTORY)
            if (text := files.read_text(f"{epc.NODE_DIRECTORY}/{name}/x86/sgx_total_bytes"))
        },
        "device_plugin": _device_plugin(files),
    }


def entry_facts(files: NodeFiles, path: str, groups: dict[int, str]) -> Facts | None:
    """Return the type, mode and owner of a directory entry, in the notation of `ls -l`."""
    entry = files.stat(path)
    if entry is None:
        return None
    mode, group = stat.filemode(entry.st_mode), groups.get(entry.st_gid)
    return {"mode": mode, "uid": entry.st_uid, "gid": entry.st_gid, "group": group}


def _device_plugin(files: NodeFiles) -> Facts:
    try:
        found = epc.discover(files, simulated_epc_mib=None)
    except epc.NoSgxError as error:
        return {"code": error.error_code}
    return {"epc_mib": found.epc.mib, "source": found.epc.source}


def _os_members(text: str) -> Facts:
    members: Facts = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name in _OS_MEMBERS:
            try:
                members[name.lower()] = "".join(shlex.split(value)[:1])
            except ValueError:
                members[name.lower()] = value
    return members
