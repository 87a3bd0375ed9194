"""The machine: its cores, the CPU and memory of processes, and the cost of a signature."""

from __future__ import annotations

import contextlib
import copy
import os
import platform
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from confcom.errors import SettingsError
from confcom.sgx.quote import SIGNED_PART_SIZE

PROC = Path("/proc")
ROOT = Path(__file__).resolve().parent.parent
THIS, OTHER = "this one", "the other"
"""Names, in tables and JSON, of this checkout and of the other checkout that is measured beside it."""
LIBRARIES = ("cryptography", "grpcio", "uvloop", "protobuf", "prometheus-client")
SETTLE_SECONDS = 0.02
"""Seconds to wait after a server's last answer; the server closes and counts connections much faster."""


class Checkout:
    """A folder from which daemons are started: this checkout, or another one with its own libraries."""

    def __init__(self, root: Path = ROOT) -> None:
        python = root.resolve() / ".venv" / "bin" / "python"
        if root != ROOT and not python.exists():
            raise SettingsError(
                f"{root} cannot be measured", why=f"there is no {python}", remedy="run make setup there"
            )
        self.python = sys.executable if root == ROOT else str(python)
        self.source = root.resolve() / "src"
        self.environment = {**os.environ, "PYTHONPATH": str(self.source)}

    def with_import_times(self) -> Checkout:
        """Variables with which daemons log each module that they import."""
        timed = copy.copy(self)
        timed.environment = {**self.environment, "PYTHONPROFILEIMPORTTIME": "1"}
        return timed


@dataclass(frozen=True, slots=True)
class Cores:
    """A core for the server and a core for the clients; on a single core, clients disturb the server."""

    server: int = field(default_factory=lambda: max(os.sched_getaffinity(0)))
    clients: int = field(default_factory=lambda: min(os.sched_getaffinity(0)))


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Run on one core only during the block; processes started in the block keep this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def stolen_seconds() -> float:
    """Return how long the host has not run the machine's cores since boot (proc(5): `steal`)."""
    return int(Path("/proc/stat").read_text().split()[8]) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class SchedulerTimes:
    """Seconds of all living threads of a process: on a CPU, and ready but without a CPU."""

    running: float
    waiting: float

    @classmethod
    def of(cls, pid: int) -> SchedulerTimes:
        """Read /proc/PID/task/*/schedstat, which has nanoseconds (Documentation/scheduler/sched-stats.rst)."""
        running = waiting = 0
        for task in (PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has just ended
                on_cpu, queued, _ = (task / "schedstat").read_text().split()
                running += int(on_cpu)
                waiting += int(queued)
        return cls(running / 1e9, waiting / 1e9)


def cpu_when_idle(pid: int) -> float:
    """CPU seconds that a process has used, read when the process has finished its work."""
    time.sleep(SETTLE_SECONDS)
    return SchedulerTimes.of(pid).running


def children_of(pid: int) -> list[int]:
    lists = (PROC / str(pid) / "task").glob("*/children")
    return [int(child) for one in lists for child in one.read_text().split()]


def resident_bytes(pid: int, *, peak: bool = False) -> int:
    """Resident memory of a process, with shared pages: the present amount (VmRSS) or the highest (VmHWM)."""
    name = "VmHWM:" if peak else "VmRSS:"
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, including that of its ended threads."""
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def seconds_per_signature(count: int) -> float:
    """CPU time of one ECDSA signature, P-256 with SHA-256, over as many bytes as in a quote.

    The library uses random nonces, which cost less CPU than the simulated platform's nonces of RFC 6979.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    message = secrets.token_bytes(SIGNED_PART_SIZE)
    algorithm = ec.ECDSA(hashes.SHA256())
    key.sign(message, algorithm)
    started = time.thread_time_ns()
    for _ in range(count):
        key.sign(message, algorithm)
    return (time.thread_time_ns() - started) / count / 1e9


def commit() -> str:
    """Return the short name of this checkout's commit, with `-dirty` after changes; empty without git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def describe_machine() -> dict[str, object]:
    models = [line for line in (PROC / "cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "openssl": backend.openssl_version_text(),
        **{name: version(name) for name in LIBRARIES},
    }


def with_byte_code(directory: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """An environment in which Python keeps byte code in a directory, because images contain all byte code.

    Some environments switch byte code off, so every start would compile. The first start writes byte code.
    """
    return {**environ, "PYTHONPYCACHEPREFIX": str(directory / "byte-code"), "PYTHONDONTWRITEBYTECODE": ""}
