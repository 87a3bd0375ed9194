"""The machine that is measured on: what it is, which core does what, what a process uses, what a signature costs."""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from confcom.sgx.quote import SIGNED_PART_SIZE

PROC = Path("/proc")
LIBRARIES = ("cryptography", "grpcio", "uvloop", "protobuf", "prometheus-client")
"""Those that do the work of the daemons."""
SETTLE_SECONDS = 0.02
"""For a server to do what is left after its last answer (closing, counting): some hundred times as long as it takes."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core is whose. With one core it is both's, and clients disturb the server's caches."""

    server: int
    clients: int

    @classmethod
    def choose(cls) -> Cores:
        """The last core that this process may use for the server, the first for the clients."""
        allowed = sorted(os.sched_getaffinity(0))
        return cls(server=allowed[-1], clients=allowed[0])


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Run on one core only; processes that are started in the block stay there for good."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True, slots=True)
class SchedulerTimes:
    """Of all threads of a process that live now, in seconds, to the nanosecond.

    Args:
        running: on a CPU, in user mode and in the kernel.
        waiting: ready to run, while others had the CPU.
    """

    running: float
    waiting: float

    @classmethod
    def of(cls, pid: int) -> SchedulerTimes:
        """Read /proc/PID/task/*/schedstat (Documentation/scheduler/sched-stats.rst)."""
        running = waiting = 0
        for task in (PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                on_cpu, queued, _ = (task / "schedstat").read_text().split()
                running += int(on_cpu)
                waiting += int(queued)
        return cls(running / 1e9, waiting / 1e9)


def cpu_when_idle(pid: int) -> float:
    """CPU seconds that a process has used, when it has finished what it was doing."""
    time.sleep(SETTLE_SECONDS)
    return SchedulerTimes.of(pid).running


def resident_bytes(pid: int) -> int:
    """Resident memory of a process, shared pages included (VmRSS)."""
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def wakeups(pid: int) -> int:
    """How often threads of a process that live now went to sleep by themselves (voluntary_ctxt_switches)."""
    switches = 0
    for task in (PROC / str(pid) / "task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches:"):
                    switches += int(line.split()[1])
    return switches


def seconds_per_signature(count: int, *, deterministic: bool = False) -> float:
    """CPU time of one ECDSA signature, P-256 with SHA-256, over as many bytes as a quote signs.

    Args:
        count: how many are made.
        deterministic: with RFC 6979's nonces, as the simulated platform signs. The library's default draws them at
            random, which is cheaper, and so the stricter unit.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    message = secrets.token_bytes(SIGNED_PART_SIZE)
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=deterministic)
    key.sign(message, algorithm)
    started = time.thread_time_ns()
    for _ in range(count):
        key.sign(message, algorithm)
    return (time.thread_time_ns() - started) / count / 1e9


def describe_machine(cores: Cores) -> dict[str, object]:
    """What a reader of the numbers must know."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "server_core": cores.server,
        "client_core": cores.clients,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "openssl": backend.openssl_version_text(),
        **{name: version(name) for name in LIBRARIES},
    }


def load_average() -> float:
    """Runnable processes in the last minute; above the benchmark's own two, others disturbed it."""
    return os.getloadavg()[0]


def with_byte_code(directory: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """An environment, but that Python keeps byte code in a directory: images have all of it.

    Some environments switch it off, and every start would compile the program anew. The first start fills it.
    """
    changed = {**environ, "PYTHONPYCACHEPREFIX": str(directory)}
    changed.pop("PYTHONDONTWRITEBYTECODE", None)
    return changed


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in (PROC / "cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
