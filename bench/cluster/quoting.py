"""Measures how fast Pods get quotes, in rounds that alternate with the same load from outside of Pods."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.cluster.client import sign
from bench.load import Latency, WrongAnswerError
from bench.machine import SchedulerTimes, seconds_per_signature
from bench.report import Section, in_turn
from e2e.add_on import HELPER, ROOT
from e2e.cluster import Cluster, Node
from e2e.tenants import CLIENT_RESULTS, client_pod
from e2e.waiting import until

PODS, NODE = "from Pods", "from the node"
PROCESSES, CLIENTS, QUOTES = 4, 16, 1000
"""Number of Pods, of clients in each Pod, and of each client's quotes in a round."""
SIGNATURES = 1000
"""Number of signatures that measure the CPU unit before and after each round; they take 25 ms."""
ROUND_SECONDS = 180.0
"""Seconds within which one round must end on a busy machine; usually a round takes some seconds."""


def quote_rounds(
    cluster: Cluster, namespace: str, pids: Mapping[str, int], rounds: int, directory: Path
) -> tuple[Section, list[tuple[bytes, bytes]]]:
    """Run all rounds; also return quotes to be verified."""
    title = f"Quotes: {PROCESSES} Pods with {CLIENTS} clients each, and as many processes on the node"
    section = Section(f"{title}; {PROCESSES * QUOTES} quotes in each round", [PODS, NODE])
    sample: list[tuple[bytes, bytes]] = []
    with in_pods(cluster, namespace, rounds, directory) as pods, on_node(cluster.node, rounds, directory) as processes:
        sides = {PODS: pods, NODE: processes}
        for turn in range(rounds):
            for side in in_turn([PODS, NODE], turn):
                sample += _round(section, side, sides[side], turn, pids)
    return section, sample


def _round(
    section: Section, side: str, processes: Sequence[Path], turn: int, pids: Mapping[str, int]
) -> list[tuple[bytes, bytes]]:
    _wait(processes, "ready", turn)
    signature = seconds_per_signature(SIGNATURES)
    before = {component: SchedulerTimes.of(pid) for component, pid in pids.items()}
    for process in processes:
        sign(process, "go", turn).touch()
    _wait(processes, "answered", turn)
    after = {component: SchedulerTimes.of(pid) for component, pid in pids.items()}
    signature = (signature + seconds_per_signature(SIGNATURES)) / 2
    answers = [json.loads(sign(process, "answered", turn).read_text()) for process in processes]
    for answer in answers:
        if "failure" in answer:
            raise WrongAnswerError(answer["failure"])
    seconds = max(answer["ended"] for answer in answers) - min(answer["began"] for answer in answers)
    latencies = [latency for answer in answers for latency in answer["latencies"]]
    latency, quotes = Latency.of(latencies), len(latencies)
    section.add(side, "quotes per second", "/s", quotes / seconds)
    section.add(side, "p50 of a round's latencies", "ms", latency.p50 * 1e3)
    section.add(side, "p99 of a round's latencies", "ms", latency.p99 * 1e3)
    used = {component: after[component].running - before[component].running for component in pids}
    waited = after[HELPER].waiting - before[HELPER].waiting
    section.add(side, "helper's CPU per quote", "signatures", used[HELPER] / quotes / signature)
    section.add(side, "time in which the helper ran or waited for a CPU", "%", (used[HELPER] + waited) / seconds * 100)
    for component, cpu in used.items():
        section.add(side, f"{component}: CPU for 1,000 quotes", "ms", cpu / quotes * 1e6)
    return [(base64.b64decode(quote), base64.b64decode(data)) for answer in answers for quote, data in answer["sample"]]


def _wait(processes: Sequence[Path], state: str, turn: int) -> None:
    until(
        lambda: all(sign(process, state, turn).exists() for process in processes),
        f"all processes are {state}",
        seconds=ROUND_SECONDS,
    )


@contextmanager
def in_pods(cluster: Cluster, namespace: str, rounds: int, directory: Path) -> Iterator[list[Path]]:
    """Run each client process in a Pod with 1 MiB of EPC until the namespace ends; yield Pods' folders."""
    processes = [_process(directory, f"client-{number}") for number in range(PROCESSES)]
    command, node = _command(CLIENT_RESULTS, rounds), cluster.node.name
    items = [client_pod(one.name, command, "bench", one, node=node, epc_mib=1) for one in processes]
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    cluster.kubectl("create", f"--namespace={namespace}", "--filename=-", input=manifest)
    yield processes


@contextmanager
def on_node(node: Node, rounds: int, directory: Path) -> Iterator[list[Path]]:
    """Run the same number of client processes on the node, outside of any Pod."""
    processes = [_process(directory, f"process-{number}") for number in range(PROCESSES)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running: list[subprocess.Popen[bytes]] = []
    try:
        for process in processes:
            command = node.entering([sys.executable, *_command(str(process), rounds)])
            running.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True))
        yield processes
    finally:
        for started in running:  # nsenter and its child, if they still run
            if started.poll() is None:
                os.killpg(started.pid, signal.SIGTERM)
            started.wait()


def _command(folder: str, rounds: int) -> list[str]:
    return ["-m", "bench.cluster.client", folder, *map(str, (rounds, QUOTES, CLIENTS))]


def _process(directory: Path, name: str) -> Path:
    folder = directory / name
    folder.mkdir()
    folder.chmod(0o777)  # the image runs as another user
    return folder
