"""All measurements of `make bench-e2e`, in one run on one cluster."""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.cluster.pods import pod_starts
from bench.cluster.quoting import quote_rounds
from bench.machine import PROC, SchedulerTimes, resident_bytes
from bench.report import Section
from bench.serving import verify_sample
from confcom.errors import UnavailableError
from confcom.quote_provider.state_directory import ROOT_FOLDER
from e2e import add_on
from e2e.add_on import COMPONENT, ROOT_SECRET, SIMULATED_LABEL, SYSTEM
from e2e.cluster import Cluster

SGX_NODES = 2
"""Of the cluster's nodes, the first ones."""

IDLE_SECONDS = 60.0
STARTS_PER_ROUND = 3
"""Pairs of Pods."""
MODULES = {"device-plugin": b"confcom.device_plugin", "quote-helper": b"confcom.quote_helper"}
"""In the command line of each component's process."""


def measure(cluster: Cluster, rounds: int, directory: Path, say: Callable[[str], None]) -> list[Section]:
    """Measure on a cluster that has our images and two nodes or more; the add-on is installed, and stays.

    Raises:
        WrongAnswerError: a quote is over another report, or does not verify.
        ConfcomError: something did not happen in time.
    """
    add_on.uninstall(cluster)
    add_on.install(cluster, [node.name for node in cluster.nodes[:SGX_NODES]])
    pids = daemons(cluster)
    here = {component: pid for (component, node), pid in pids.items() if node == cluster.node.name}
    say(f"{IDLE_SECONDS:g} s of idle daemons")
    use = daemons_at_rest(pids)
    say(f"{rounds} rounds of quotes from Pods, and as many from the node")
    with cluster.new_namespace("bench") as name:
        quoted, sample = quote_rounds(cluster, name, here, rounds, directory)
    for component, pid in here.items():
        use.add("use", f"{component}: resident memory after all quotes", "MB", resident_bytes(pid) / 1e6)
    say(f"verifying {len(sample)} quotes")
    verify_sample(sample, platform_of(cluster, directory))
    say(f"{STARTS_PER_ROUND * rounds} starts of Pods with EPC, and as many without")
    with cluster.new_namespace("bench") as name:
        starts = pod_starts(cluster, cluster.node, name, STARTS_PER_ROUND * rounds)
    return [quoted, starts, use]


def uninstall(cluster: Cluster) -> None:
    add_on.uninstall(cluster)
    cluster.kubectl("label", "nodes", "--all", f"{SIMULATED_LABEL}-")


def daemons(cluster: Cluster) -> dict[tuple[str, str], int]:
    """Process IDs of the daemons, by component and node."""
    found = {}
    for pod in add_on.daemons(cluster):
        component = pod["metadata"]["labels"][COMPONENT]
        found[component, pod["spec"]["nodeName"]] = process_of(pod["metadata"]["uid"], MODULES[component])
    return found


def process_of(uid: str, module: bytes) -> int:
    """The process of a Pod that runs a module; a Pod's UID is in the path of its control group, on every node."""
    for process in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            if f"pod{uid}/" in (process / "cgroup").read_text() and module in (process / "cmdline").read_bytes():
                return int(process.name)
    raise UnavailableError(
        f"no process of the Pod {uid} runs {module.decode()}",
        why="it may have been replaced just now, or its control group is not one of this machine",
        remedy="run the benchmark on the machine of the cluster, with nobody else updating the add-on",
    )


def daemons_at_rest(pids: Mapping[tuple[str, str], int]) -> Section:
    """CPU and memory of all daemons while only the kubelet's probes ask; a value for each node."""
    section = Section(f"Daemons, idle for {IDLE_SECONDS:g} s, and after all quotes", ["use"])
    before = {key: SchedulerTimes.of(pid).running for key, pid in pids.items()}
    began = time.monotonic()
    time.sleep(IDLE_SECONDS)
    took = time.monotonic() - began
    for (component, node), pid in pids.items():
        used = SchedulerTimes.of(pid).running - before[component, node]
        section.add("use", f"{component}: resident memory, idle", "MB", resident_bytes(pid) / 1e6)
        section.add("use", f"{component}: CPU, idle", "% of a core", used / took * 100)
    return section


def platform_of(cluster: Cluster, directory: Path) -> Path:
    """A state directory with the cluster's simulated platform."""
    values = cluster.kubectl_json("get", "secret", ROOT_SECRET, f"--namespace={SYSTEM}")["data"]
    root = directory / "platform" / ROOT_FOLDER
    root.mkdir(mode=0o700, parents=True)
    for name, value in values.items():
        (root / name).touch(mode=0o600)
        (root / name).write_bytes(base64.b64decode(value))
    return root.parent
