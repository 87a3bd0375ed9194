"""The shell of the report: it reads the node and asks its AESM service. Everything it reads is a parameter."""

from __future__ import annotations

import importlib.metadata
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from confcom.client.address import EXCHANGE_SECONDS
from confcom.client.blocking import AesmClient
from confcom.errors import ConfcomError
from confcom.hardware_report.aesm_calls import Clock, ask_service
from confcom.hardware_report.devices import Caller, devices_section, entry_value, epc_section
from confcom.hardware_report.document.redaction import Value
from confcom.hardware_report.document.report import Finding, HardwareReport, Section
from confcom.hardware_report.node_files import NodeFiles
from confcom.hardware_report.sections import configuration, packages, system
from confcom.hardware_report.sections.configuration import configuration_section
from confcom.hardware_report.sections.packages import packages_section
from confcom.hardware_report.sections.processor import processor_section
from confcom.hardware_report.sections.system import hidden_by_kernel, system_section

CPU_INFO_BYTES = 16 * 1024
"""The first processor's part of /proc/cpuinfo has under 4 KiB."""
RPM = Path("/usr/bin/rpm")
RPM_SECONDS = 20
QuoteReader = Callable[[], Section]


def query_rpm() -> str | None:
    """Ask this machine's rpm for its packages; None if there is none, or it fails or takes too long."""
    if not RPM.exists():
        return None
    command = [str(RPM), "-qa", "--queryformat", "%{NAME}\t%{VERSION}-%{RELEASE}\n"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=RPM_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", errors="replace") if done.returncode == 0 else None


@dataclass(frozen=True, slots=True)
class Node:
    """What is read.

    Args:
        files: the node's files, and CPUID.
        socket: the AESM socket, as this process connects to it.
        caller: who runs the command.
        query_rpm: returns lines of name and version of all packages; None: rpm is not asked.
        now: the time of the report.
        clock: measures calls.
        call_seconds: the time limit of one call of the AESM service.
    """

    files: NodeFiles
    socket: Path
    caller: Caller
    query_rpm: Callable[[], str | None] | None = query_rpm
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Clock = time.monotonic
    call_seconds: float = EXCHANGE_SECONDS


def collect(node: Node, quote: QuoteReader | None = None) -> HardwareReport:
    """Read everything and return the report; whatever is missing or fails is a finding."""
    return HardwareReport.of(_sections(node, quote))


def _sections(node: Node, quote: QuoteReader | None) -> Iterator[Section]:
    files = node.files
    yield _guarded("report", lambda: _about(node))
    processor = _guarded("processor", lambda: processor_section(files.cpuid))
    yield processor
    yield _guarded("epc", lambda: epc_section(files))
    yield _guarded("devices", lambda: devices_section(files, node.caller))
    yield _guarded("system", lambda: _system(files, processor))
    yield _guarded("packages", lambda: _packages(node))
    yield _guarded("configuration", lambda: _configuration(files))
    yield _guarded("aesm", lambda: _aesm(node))
    if quote is not None:
        yield _guarded("quote", quote)
    yield _unread(files)


def _guarded(key: str, collect_section: Callable[[], Section]) -> Section:
    """Collect a section; a bug, on a machine that nobody here has seen, costs this section and not the report."""
    try:
        return collect_section()
    except Exception as error:  # noqa: BLE001
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        place = f"{Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}" if where else "?"
        finding = Finding(
            code="section-failed",
            what=f"this part could not be collected: {type(error).__name__} in {place}",
            do="send the report as it is; this is a bug of confcom",
        )
        return Section(key, {}, (finding,))


def _about(node: Node) -> Section:
    return Section(
        "report",
        {
            "confcom": importlib.metadata.version("confcom"),
            "made_at": node.now().strftime("%Y-%m-%dT%H:%MZ"),
            "other_root": node.files.root != Path("/"),
        },
    )


def _system(files: NodeFiles, processor: Section) -> Section:
    section = system_section(
        release=files.read_text(system.KERNEL_RELEASE),
        os_release=next((text for path in system.OS_RELEASES if (text := files.read_text(path))), None),
        cpu_info=files.read_beginning(system.CPU_INFO, CPU_INFO_BYTES),
        command_line=files.read_text(system.KERNEL_COMMAND_LINE),
        misc=files.read_text(system.MISC_CAPACITY),
    )
    hidden = hidden_by_kernel(processor, section)
    return Section(section.key, section.values, (*section.findings, *([hidden] if hidden else [])))


def _packages(node: Node) -> Section:
    dpkg = node.files.read_text(packages.DPKG_STATUS)
    rpm = node.query_rpm() if dpkg is None and node.query_rpm is not None else None
    present = [path for path in packages.LIBRARIES if node.files.exists(path)]
    return packages_section(dpkg=dpkg, rpm=rpm, libraries=present)


def _configuration(files: NodeFiles) -> Section:
    qcnl, aesmd = (files.read_text(path) for path in configuration.FILES)
    return configuration_section(qcnl, aesmd, [path for path in configuration.FILES if files.exists(path)])


def _aesm(node: Node) -> Section:
    groups = node.files.groups()
    at = NodeFiles(Path("/"))
    values: dict[str, Value] = {"socket": None, "directory": None}
    for key, path in (("socket", node.socket), ("directory", node.socket.parent)):
        if entry := at.entry(str(path.absolute())):
            values[key] = entry_value(entry, groups)
    node.files.unread.update(at.unread)
    try:
        answers = ask_service(AesmClient(node.socket, timeout=node.call_seconds), node.clock)
    except ConfcomError as error:  # a path that no socket can have
        return Section("aesm", values, (Finding(code=error.error_code, what=error.what, do=error.remedy),))
    return Section("aesm", values | answers.values, tuple(answers.findings), answers.secrets)


def _unread(files: NodeFiles) -> Section:
    rows: list[Value] = [{"path": path, "reason": reason} for path, reason in sorted(files.unread.items())]
    findings = tuple(
        Finding(
            code="file-unread",
            what=f"{path} could not be read: {reason}",
            do="run the command as root if the file matters",
        )
        for path, reason in sorted(files.unread.items())
    )
    return Section("files", {"unread": rows}, findings)
