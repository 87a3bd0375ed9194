"""`make bench-e2e`: measure the add-on on this machine's cluster, or on a temporary cluster."""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.cluster.quoting import quote_rounds
from bench.machine import PROC, SchedulerTimes, resident_bytes
from bench.report import Measured, Section, command_line, in_turn, run, say
from bench.serving import verify_sample
from confcom.errors import UnavailableError
from confcom.quote_provider.state_directory import ROOT_FOLDER
from e2e import add_on
from e2e.add_on import COMPONENT, EPC, PROGRAMS, ROOT_SECRET, SIMULATED_LABEL, SYSTEM
from e2e.cluster import Cluster, Shape
from e2e.conftest import NODES, shared_cluster
from e2e.tenants import HOLD, container, pod

SGX_NODES = 2
"""Number of the nodes that are measured: the cluster's first nodes."""

IDLE_SECONDS = 60.0
STARTS_PER_ROUND = 3
"""Number of pairs of Pods."""
POD_MIB = 10
"""MiB of EPC of a Pod that starts with EPC, as in the example."""
POD_SECONDS = 120.0
"""Seconds within which a Pod must be ready, or must be gone, on a busy machine."""
WITH, WITHOUT = "with EPC", "without EPC"


def measure(options: argparse.Namespace) -> Measured:
    running = Cluster.runs()
    shared = shared_cluster(Shape(nodes=NODES))
    with shared as cluster, tempfile.TemporaryDirectory(dir="/tmp", prefix="bench-") as directory:
        sections = measure_cluster(cluster, options.rounds, Path(directory))
        info = cluster.kubectl_json("get", "node", cluster.node.name)["status"]["nodeInfo"]
        if running:
            add_on.uninstall(cluster)
            cluster.kubectl("label", "nodes", "--all", f"{SIMULATED_LABEL}-")
    return sections, {"kubernetes": info["kubeletVersion"], "nodes": NODES}


def measure_cluster(cluster: Cluster, rounds: int, directory: Path) -> Sequence[Section]:
    """Measure on a cluster with our images and at least two nodes; install the add-on, and leave it there."""
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
        starts = pod_starts(cluster, name, STARTS_PER_ROUND * rounds)
    return [quoted, starts, use]


def daemons(cluster: Cluster) -> dict[tuple[str, str], int]:
    """Process IDs of the daemons, keyed by component and node."""
    found = {}
    for one in add_on.daemons(cluster):
        component = one["metadata"]["labels"][COMPONENT]
        found[component, one["spec"]["nodeName"]] = process_of(one["metadata"]["uid"], PROGRAMS[component])
    return found


def process_of(uid: str, module: str) -> int:
    """A Pod's process that runs this Python module; the path of its control group has the Pod's UID."""
    for process in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # the process has just ended
            if f"pod{uid}/" in (process / "cgroup").read_text() and module in (process / "cmdline").read_text():
                return int(process.name)
    raise UnavailableError(
        f"no process of the Pod {uid} runs {module}",
        why="it may have been replaced just now, or its control group is not one of this machine",
        remedy="run the benchmark on the machine of the cluster, with nobody else updating the add-on",
    )


def daemons_at_rest(pids: Mapping[tuple[str, str], int]) -> Section:
    """CPU and memory of all daemons while only the kubelet probes them; one value for each node."""
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


def pod_starts(cluster: Cluster, namespace: str, pairs: int) -> Section:
    """Start Pods of one image on one node, in turn with and without EPC; wait until kubectl reports Ready."""
    section = Section("Pod start: one image on one node, in turn, until `kubectl wait` sees it Ready", [WITH, WITHOUT])
    here = f"--namespace={namespace}"
    for number in range(pairs):
        for side in in_turn([WITH, WITHOUT], number):
            name = f"{side.replace(' ', '-').lower()}-{number}"
            limits = {EPC: POD_MIB} if side == WITH else {}
            manifest = json.dumps(pod(name, container("main", limits=limits, program=HOLD), node=cluster.node.name))
            began = time.monotonic()
            cluster.kubectl("create", here, "--filename=-", input=manifest)
            ready = ("--for=condition=Ready", f"pod/{name}", f"--timeout={POD_SECONDS:.0f}s")
            cluster.kubectl("wait", here, *ready, timeout=POD_SECONDS + 30)
            section.add(side, "start", "s", time.monotonic() - began)
            cluster.kubectl("delete", here, "pod", name, "--grace-period=1", timeout=POD_SECONDS)
    return section


if __name__ == "__main__":
    parser = command_line("bench.cluster", __doc__)
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="default: %(default)s; 1 for a first look")
    sys.exit(run(parser, measure))
