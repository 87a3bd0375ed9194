"""What a registered device plugin does when there is nothing to do: `make idle`.

Usage: python -m bench.device_plugin.idle [--minutes N] [--mib N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.beside import Checkout
from bench.device_plugin.plugins import confcom_command, offer_of, running
from bench.machine import Cores, SchedulerTimes, on_core, resident_bytes, wakeups

MINUTES = 20.0
MIB = 2_048
"""As much as is advertised by default."""
SETTLE_SECONDS = 2.0
"""After registration, before the idle time begins: for what a start leaves to do."""


@dataclass(frozen=True, slots=True)
class IdleRun:
    """One run; memory is bytes.

    Args:
        seconds: how long.
        cpu_seconds: of the plugin in that time.
        wakeups: how often one of its threads went to sleep by itself in that time, so was woken before.
        resident: at the beginning and at the end.
        registrations: of each resource since the plugin's start.
    """

    seconds: float
    cpu_seconds: float
    wakeups: int
    resident: tuple[int, int]
    registrations: dict[str, int]

    @property
    def failures(self) -> list[str]:
        """What an idle plugin must not have done."""
        return [
            f"{name} was registered {count} times, not once" for name, count in self.registrations.items() if count != 1
        ]


def idle(seconds: float, mib: int, directory: Path) -> IdleRun:
    """Have a plugin registered and leave it alone; nobody asks its probes."""
    cores = Cores.choose()
    with on_core(cores.clients):
        command = confcom_command(mib, Checkout.this())
        offer = offer_of(command, directory / "offer", core=cores.server)
        with running(command, directory / "idle", core=cores.server) as plugin:
            plugin.kubelet.registered(offer.counts)
            time.sleep(SETTLE_SECONDS)
            began, cpu, woken = time.monotonic(), SchedulerTimes.of(plugin.pid).running, wakeups(plugin.pid)
            resident = resident_bytes(plugin.pid)
            time.sleep(seconds)
            return IdleRun(
                seconds=time.monotonic() - began,
                cpu_seconds=SchedulerTimes.of(plugin.pid).running - cpu,
                wakeups=wakeups(plugin.pid) - woken,
                resident=(resident, resident_bytes(plugin.pid)),
                registrations={name: plugin.kubelet.counts.get(name, 0) for name in offer.counts},
            )


def as_table(run: IdleRun) -> str:
    """For people."""
    before, after = (f"{size / 1e6:.1f} MB" for size in run.resident)
    lines = [
        f"Device plugin, registered and idle for {run.seconds / 60:.1f} minutes",
        f"  CPU             {run.cpu_seconds:.3f} s, {run.cpu_seconds / run.seconds:.3%} of a core",
        f"  wakeups         {run.wakeups}, {run.wakeups / run.seconds:.1f} a second",
        f"  resident memory {before} at the start, {after} at the end",
        *(f"  registrations   {count} of {name}" for name, count in run.registrations.items()),
        *(f"  FAILED          {failure}" for failure in run.failures),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Run, and print what was used.

    Returns:
        1 if a resource was registered more than once, or not at all.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.device_plugin.idle", description="Watch an idle plugin.")
    parser.add_argument("--minutes", type=float, default=MINUTES, metavar="N", help=f"default: {MINUTES:g}")
    parser.add_argument("--mib", type=int, default=MIB, metavar="N", help=f"the node's EPC (default: {MIB})")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="idle-") as directory:
        run = idle(options.minutes * 60, options.mib, Path(directory))
    sys.stdout.write(as_table(run))
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
