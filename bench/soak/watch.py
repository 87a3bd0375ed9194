"""What is watched meanwhile, in threads of the soak's own process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from bench.machine import SchedulerTimes, resident_bytes
from bench.memory import MemoryGroup
from confcom.quote_helper.limits_and_deadlines import DROP_REASONS
from testkit.helper_process import RunningHelper, http_get

PROBE_SECONDS = 0.02
"""Between probes of the event loop: no stall of 50 ms can hide between two."""
MEMORY_SECONDS = 5.0
_LATENESS = "confcom_quote_helper_loop_stall_seconds"
_DROPPED = "confcom_quote_helper_connections_dropped_total"


@dataclass(slots=True)
class Watched:
    """One helper process, as long as it was the newest.

    Args:
        stalls: longest time in seconds that /livez took, and of it what was spent on the event loop at most, which is
            all but the time that the helper's threads and the probe were ready to run while others had the CPU.
    """

    name: str
    probes: int = 0
    slowest_probe: float = 0.0
    longest_stall: float = 0.0
    resident: list[tuple[float, int]] = field(default_factory=list)
    """Time since it was watched in seconds, and bytes."""
    highest: int = 0
    """Bytes of its control group at most, those of the kernel and of files included."""
    killed: int = 0
    """How many processes the kernel ended there because memory ran out."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Connections that were closed without an answer, by reason, at the end."""
    late_looks: int = 0
    """How often the helper itself found its event loop more than 50 ms late; waiting for the CPU counts too."""
    complaints: list[str] = field(default_factory=list)
    """Probes that failed."""
    exit_code: int | None = None
    stop_seconds: float = 0.0


def _own_wait() -> float:
    queued = Path("/proc/thread-self/schedstat").read_text().split()[1]
    return int(queued) / 1e9


@contextlib.contextmanager
def watching(helper: RunningHelper, watched: Watched, memory: MemoryGroup) -> Iterator[None]:
    """Probe it until the end of the block, or until it ends."""
    end = threading.Event()
    thread = threading.Thread(target=_watch, args=(helper, watched, end))
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
        watched.highest, watched.killed = memory.highest, memory.killed
        watched.exit_code = helper.process.poll()
        if watched.exit_code is None:
            _read_metrics(helper, watched)
        else:
            watched.complaints.append(f"it ended by itself, with {watched.exit_code}")


def _read_metrics(helper: RunningHelper, watched: Watched) -> None:
    metrics = helper.metrics()
    watched.dropped = {reason: int(metrics[f'{_DROPPED}{{reason="{reason}"}}']) for reason in DROP_REASONS}
    watched.late_looks = int(metrics[f"{_LATENESS}_count"] - metrics[f'{_LATENESS}_bucket{{le="0.05"}}'])


def _watch(helper: RunningHelper, watched: Watched, end: threading.Event) -> None:
    started = time.monotonic()
    pid = helper.process.pid
    while not end.wait(PROBE_SECONDS) and helper.process.poll() is None:
        waited, own = SchedulerTimes.of(pid).waiting, _own_wait()
        began = time.perf_counter()
        try:
            status, text = http_get(helper.probes, "/livez")
        except OSError as error:
            status, text = 0, str(error)
        seconds = time.perf_counter() - began
        waited = SchedulerTimes.of(pid).waiting - waited + _own_wait() - own
        watched.probes += 1
        if status != HTTPStatus.OK and helper.process.poll() is None:
            watched.complaints.append(f"/livez: {status} {text}")
        watched.slowest_probe = max(watched.slowest_probe, seconds)
        watched.longest_stall = max(watched.longest_stall, seconds - waited)
        now = time.monotonic() - started
        if not watched.resident or now - watched.resident[-1][0] >= MEMORY_SECONDS:
            watched.resident.append((now, resident_bytes(pid)))
