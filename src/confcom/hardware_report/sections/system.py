"""Kernel, distribution and what the kernel says of the processor. Pure: texts of files in, a section out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from confcom.hardware_report.document.redaction import Value
from confcom.hardware_report.document.report import Finding, Section

KERNEL_RELEASE = "/proc/sys/kernel/osrelease"
KERNEL_COMMAND_LINE = "/proc/cmdline"
CPU_INFO = "/proc/cpuinfo"
OS_RELEASES = ("/etc/os-release", "/usr/lib/os-release")
"""In the order of os-release(5)."""
MISC_CAPACITY = "/sys/fs/cgroup/misc.capacity"

FIRST_KERNEL_WITH_SGX = (5, 11)
_OS_MEMBERS = ("ID", "VERSION_ID", "PRETTY_NAME")
_SGX_FLAGS = ("sgx", "sgx_lc")
_DISABLING = frozenset({"nosgx", "clearcpuid=sgx"})
_RELEASE = re.compile(r"(\d+)\.(\d+)")


def system_section(
    *, release: str | None, os_release: str | None, cpu_info: str | None, command_line: str | None, misc: str | None
) -> Section:
    """Return kernel and distribution.

    Args:
        release: content of KERNEL_RELEASE; None: it cannot be read, as for all others.
        os_release: of the first of OS_RELEASES that is there.
        cpu_info: the beginning of CPU_INFO, with the first processor.
        command_line: of KERNEL_COMMAND_LINE; of its words, only those that switch SGX off are shown.
        misc: of MISC_CAPACITY.
    """
    findings = []
    values: dict[str, Value] = {"kernel": release.strip() if release else None}
    if release is None:
        what = f"{KERNEL_RELEASE} cannot be read, so the kernel's release is unknown"
        findings.append(Finding(code="kernel-unknown", what=what, do="mount /proc"))
    elif (found := _RELEASE.match(release)) and (int(found[1]), int(found[2])) < FIRST_KERNEL_WITH_SGX:
        what = f"the kernel {release.strip()} has no SGX driver of its own"
        findings.append(Finding(code="kernel-without-sgx", what=what, do="use kernel 5.11 or newer"))
    members = _os_members(os_release or "")
    values["distribution"] = {**members} or None
    if not members:
        what = "neither /etc/os-release nor /usr/lib/os-release tells the distribution"
        findings.append(Finding(code="distribution-unknown", what=what, do="write its name into your message"))
    processor = _first_processor(cpu_info or "")
    flags = processor.get("flags", "").split()
    values |= {
        "microcode": processor.get("microcode"),
        "kernel_flags": [flag for flag in _SGX_FLAGS if flag in flags] if flags else None,
        "switched_off_by": [word for word in (command_line or "").split() if word in _DISABLING],
        "cgroup_epc_bytes": _cgroup_epc(misc or ""),
    }
    if values["switched_off_by"]:
        what = "the kernel's command line switches SGX off"
        findings.append(Finding(code="sgx-off-on-command-line", what=what, do="boot without nosgx"))
    return Section("system", values, tuple(findings))


def hidden_by_kernel(processor: Section, system: Section) -> Finding | None:
    """Return the finding for a processor that has SGX by CPUID, and not by the kernel."""
    flags = system.values.get("kernel_flags")
    if not processor.values.get("sgx") or not isinstance(flags, list) or "sgx" in flags:
        return None
    return Finding(
        code="sgx-hidden-by-kernel",
        what="the processor has SGX by CPUID, but the kernel does not use it (no flag sgx in /proc/cpuinfo)",
        do="read `dmesg | grep -i sgx`: the firmware may have locked SGX, or the kernel lacks CONFIG_X86_SGX",
    )


def _os_members(text: str) -> dict[str, str]:
    members = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name in _OS_MEMBERS:
            try:
                members[name.lower()] = "".join(shlex.split(value)[:1])
            except ValueError:
                members[name.lower()] = value
    return members


def _first_processor(text: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.partition(":")
        if not separator:
            break
        found[name.strip()] = value.strip()
    return found


def _cgroup_epc(text: str) -> int | None:
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "sgx_epc" and value.isdecimal():
            return int(value)
    return None
