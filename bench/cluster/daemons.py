"""The daemons' processes as the machine has them: what they use when nothing is asked, and when much is."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from bench.machine import PROC, SchedulerTimes, resident_bytes, wakeups
from confcom.errors import UnavailableError
from e2e.add_on import SYSTEM
from e2e.cluster import Cluster

MODULES = {"device-plugin": b"confcom.device_plugin", "quote-helper": b"confcom.quote_helper"}
"""What each component's process has in its command line."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon's process."""

    component: str
    node: str
    pid: int


@dataclass(frozen=True, slots=True)
class Idle:
    """What a daemon used while nobody asked anything of it but the kubelet's probes."""

    component: str
    node: str
    seconds: float
    cpu_seconds: float
    wakeups: int
    resident: int


def daemons(cluster: Cluster) -> list[Daemon]:
    """All daemons of the add-on, which are neither starting nor ending."""
    pods = cluster.kubectl_json("get", "pods", f"--namespace={SYSTEM}")["items"]
    found = []
    for pod in pods:
        component = pod["metadata"]["labels"].get("app.kubernetes.io/component", "")
        if component in MODULES:
            pid = process_of(PROC, pod["metadata"]["uid"], MODULES[component])
            found.append(Daemon(component, pod["spec"]["nodeName"], pid))
    return found


def process_of(proc: Path, uid: str, module: bytes) -> int:
    """The process of a pod that runs a module; a pod's UID is in the path of its control group, on every node.

    Raises:
        UnavailableError: there is none.
    """
    for process in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            if f"pod{uid}/" in (process / "cgroup").read_text() and module in (process / "cmdline").read_bytes():
                return int(process.name)
    raise UnavailableError(
        f"no process of the pod {uid} runs {module.decode()}",
        why="it may have been replaced just now, or its control group is not one of this machine",
        remedy="run the benchmark on the machine that the cluster is on, with nobody else updating the add-on",
    )


def watch_idle(of: list[Daemon], seconds: float) -> list[Idle]:
    """Leave all of them alone for so long, at the same time."""
    before = [(SchedulerTimes.of(daemon.pid).running, wakeups(daemon.pid)) for daemon in of]
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return [
        Idle(
            daemon.component,
            daemon.node,
            took,
            SchedulerTimes.of(daemon.pid).running - running,
            wakeups(daemon.pid) - slept,
            resident_bytes(daemon.pid),
        )
        for daemon, (running, slept) in zip(of, before, strict=True)
    ]
