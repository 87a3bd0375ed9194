"""A helper process while it is the newest: stalls of its event loop, failed probes, memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from bench.machine import SchedulerTimes
from bench.memory import MemoryGroup
from testkit.helper_process import RunningHelper

PROBE_SECONDS = 0.02
"""Between probes of the event loop: no stall of 50 ms is between two."""
MAX_STALL_SECONDS = 0.05
"""For which the event loop may be blocked. Both measures are upper bounds: a probe takes several turns of the loop, and
the helper's own metric counts the time in which others had the CPU. So only a stall that both show is a failure."""
STALLS = "confcom_quote_helper_loop_stall_seconds"


@dataclass(slots=True)
class Watched:
    name: str
    probes: int = 0
    longest_stall: float = 0.0
    """Seconds of /livez, without the time in which the helper's threads and this one waited for a CPU."""
    long_stalls: int = 0
    """Stalls of more than 50 ms by the helper's own metric."""
    highest: int = 0
    """Bytes of its control group at most, those of the kernel and of files included."""
    complaints: list[str] = field(default_factory=list)

    def failures(self) -> Iterator[str]:
        yield from (f"{self.name}: {complaint}" for complaint in self.complaints)
        if self.long_stalls and self.longest_stall > MAX_STALL_SECONDS:
            yield f"{self.name}: its event loop stalled for {self.longest_stall:.3f} s"

    def watch(self, helper: RunningHelper, memory: MemoryGroup, seconds: float) -> None:
        """Probe the helper for so long, or until it ends, and read its metrics."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and helper.process.poll() is None:
            waited, began = self._waited(helper), time.perf_counter()
            status, text = helper.get("/livez")
            stall = time.perf_counter() - began - (self._waited(helper) - waited)
            self.probes += 1
            self.longest_stall = max(self.longest_stall, stall)
            if status != HTTPStatus.OK and helper.process.poll() is None:
                self.complaints.append(f"/livez: {status} {text}")
            time.sleep(PROBE_SECONDS)
        if memory.killed:
            self.complaints.append("it needed more memory than its limit, and was killed")
        if (code := helper.process.poll()) is not None:
            self.complaints.append(f"it ended by itself, with {code}")
            return
        metrics = helper.metrics()
        self.long_stalls = int(metrics[f"{STALLS}_count"] - metrics[f'{STALLS}_bucket{{le="0.05"}}'])
        self.highest = memory.highest

    @staticmethod
    def _waited(helper: RunningHelper) -> float:
        own = int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
        return SchedulerTimes.of(helper.process.pid).waiting + own
