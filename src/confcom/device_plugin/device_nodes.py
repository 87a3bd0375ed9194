"""Finds problems of the host's SGX device nodes, and names a remedy for each. Reads only through HostFiles.

A container gets a device node with the host's owner, group and mode. If a user cannot open the node on the
host, a container that runs as this user cannot open the node either.
"""

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from confcom.device_plugin.epc import ENCLAVE_NODES, PROVISION_NODES, find_driver, find_node
from confcom.device_plugin.host import HostFiles

MOUNTINFO = "/proc/1/mountinfo"
"""The mounts of process 1. They are the host's mounts if the host root has the host's /proc. In a container,
a mount of the host's /dev may have options that differ from the host's."""
READ_WRITE = 0o6
"""Permission bits. To build and map enclaves, programs open the device for reading and writing."""

_OCTAL = re.compile(r"\\([0-7]{3})")
"""mountinfo's escape sequences for space, tab, line feed and backslash (proc_pid_mountinfo(5))."""


class Device(StrEnum):
    ENCLAVE = "enclave"
    PROVISION = "provision"


NODE_PATHS = {Device.ENCLAVE: ENCLAVE_NODES, Device.PROVISION: PROVISION_NODES}
_RULES = {Device.ENCLAVE: 'MODE="0666"', Device.PROVISION: 'GROUP="sgx_prv", MODE="0660"'}
"""The udev rule for each device in Intel's PSW (91-sgx-enclave.rules, 92-sgx-provision.rules)."""


@dataclass(frozen=True, slots=True)
class Problem:
    what: str
    remedy: str
    code: str

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"

    def to_json(self) -> dict[str, object]:
        return {"code": self.code, "problem": self.what, "remedy": self.remedy}


@dataclass(frozen=True, slots=True)
class NodeState:
    device: Device
    path: str | None
    status: os.stat_result | None = None
    problems: tuple[Problem, ...] = ()

    def to_json(self, *, healthy: bool) -> dict[str, object]:
        access: dict[str, object] = {}
        if self.status:
            access = {"mode": _mode(self.status), "uid": self.status.st_uid, "gid": self.status.st_gid}
        problems = [problem.to_json() for problem in self.problems]
        return {"device": self.device, "path": self.path, "healthy": healthy, **access, "problems": problems}


@dataclass(frozen=True, slots=True)
class HostDevices:
    driver: str | None = None
    """The driver's entry in sysfs; None if no driver is loaded."""
    nodes: tuple[NodeState, ...] = ()

    def has(self, path: str) -> bool:
        return self.driver is not None and any(node.path == path for node in self.nodes)

    def healthy(self, device: Device) -> bool:
        node = self.node(device)
        return self.driver is not None and node.path is not None and not node.problems

    def node(self, device: Device) -> NodeState:
        return next(node for node in self.nodes if node.device is device)

    def to_json(self, *, enclave: str | None, provision: str | None) -> dict[str, object]:
        """Return the inventory's part about devices; the parameters name the nodes that containers get."""
        nodes = [node.to_json(healthy=self.healthy(node.device)) for node in self.nodes]
        return {"enclave": enclave, "provision": provision, "driver": self.driver, "nodes": nodes}


def inspect_devices(host: HostFiles, *, expected: Iterable[str] = ()) -> HostDevices:
    mountinfo = host.read_text(MOUNTINFO) or ""
    preferred = tuple(expected)
    nodes = tuple(_inspect_device(host, device, preferred, mountinfo) for device in NODE_PATHS)
    return HostDevices(find_driver(host), nodes)


def mounted_noexec(mountinfo: str, path: str) -> bool:
    """Return whether the last mount with the longest mount point above an absolute path is noexec."""
    depth, noexec = 0, False
    for line in mountinfo.splitlines():
        fields = line.split(" ", 6)
        if len(fields) < 7:
            continue
        point = _OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4])
        below = point in ("/", path) or path.startswith(point + "/")
        if below and len(point) >= depth:
            depth, noexec = len(point), "noexec" in fields[5].split(",")
    return noexec


def _inspect_device(host: HostFiles, device: Device, preferred: tuple[str, ...], mountinfo: str) -> NodeState:
    candidates = NODE_PATHS[device]
    path = find_node(host, (*(path for path in candidates if path in preferred), *candidates))
    status = host.status(path) if path else None
    if path is None or status is None:
        return NodeState(device, None)
    problems = [*_access_problems(host, device, path, status)]
    if given := [wanted for wanted in candidates if wanted in preferred and wanted != path]:
        what = f"{path} exists, but containers get {given[0]}"
        problems.append(Problem(what, "restart the plugin", code="other-device-path"))
    if device is Device.ENCLAVE and mounted_noexec(mountinfo, path):
        what = (
            f"{path} is on a mount with the option noexec: mapping an enclave's code fails with EPERM, on the host "
            "and in containers that mount the host's /dev"
        )
        remedy = "mount -o remount,exec /dev, and remove noexec from its mount configuration"
        problems.append(Problem(what, remedy, code="device-mounted-noexec"))
    return NodeState(device, path, status, tuple(problems))


def _access_problems(host: HostFiles, device: Device, path: str, status: os.stat_result) -> Iterable[Problem]:
    rule = f'a udev rule: SUBSYSTEM=="misc", KERNEL=="{path.rpartition("/")[2]}", {_RULES[device]}'
    if status.st_uid:
        what = f"{path} belongs to user {status.st_uid}, who may change who opens it"
        yield Problem(what, f"chown root {path}", code="device-owner-not-root")
    everyone, members, owner = (status.st_mode >> shift & READ_WRITE == READ_WRITE for shift in (0, 3, 6))
    if everyone:
        if device is Device.PROVISION:
            what = f"{path} has mode {_mode(status)}: any user of the host may ask for the provisioning key"
            yield Problem(what, rule, code="device-open-to-all")
    elif not members or not status.st_gid:
        whose = "only root" if owner else "nobody without CAP_DAC_OVERRIDE"
        what = f"{path} has mode {_mode(status)}: {whose} can open it, and no container of another user"
        yield Problem(what, rule, code="device-closed")
    elif device is Device.ENCLAVE:
        name = group_names(host).get(status.st_gid)
        group = f"{name} ({status.st_gid})" if name else status.st_gid
        what = f"{path} has mode {_mode(status)}: only root and members of group {group} can open it"
        remedy = f"{rule}; or give pods supplementalGroups: [{status.st_gid}]"
        yield Problem(what, remedy, code="device-for-group-only")


def _mode(status: os.stat_result) -> str:
    return f"{stat.S_IMODE(status.st_mode):04o}"


def group_names(host: HostFiles) -> dict[int, str]:
    lines = (line.split(":") for line in (host.read_text("/etc/group") or "").splitlines())
    return {int(parts[2]): parts[0] for parts in lines if len(parts) >= 3 and parts[2].isdecimal()}
