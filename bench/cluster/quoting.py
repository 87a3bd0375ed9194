"""Quotes as fast as pods get them, in rounds that alternate with the same load from the node itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.cluster.client import SOCKET, Answered, Turns
from bench.cluster.daemons import Daemon
from bench.cluster.watch import end_group
from bench.load import WrongAnswerError
from bench.machine import SchedulerTimes, seconds_per_signature
from bench.summary import Latency
from e2e.add_on import EPC, ROOT
from e2e.cluster import Cluster, Node
from e2e.images_workshop import references
from e2e.waiting import until

PODS, NODE = "pods", "node"
"""Where the load of a round comes from: pods, or as many processes on their node, outside of any pod."""
CODE, RESULTS = "/code", "/results"
"""Where a pod finds its program, and leaves what it has to tell."""
SIGNATURES = 1000
"""For the unit, before and after each round: 25 ms."""
ROUND_SECONDS = 180.0
"""For one round, on a machine that is busy; some seconds are usual."""
HELPER, PLUGIN = "quote-helper", "device-plugin"


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked for.

    Args:
        processes: pods, and processes on the node.
        clients: of each process, with a connection and a fresh report for each quote.
        quotes: of each process in each round.
        rounds: of each kind.
    """

    processes: int
    clients: int
    quotes: int
    rounds: int

    def command(self, folder: str) -> list[str]:
        """What a process runs, after its Python."""
        numbers = map(str, (self.rounds, self.quotes, self.clients))
        return ["-m", "bench.cluster.client", folder, *numbers]


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one kind; times are seconds.

    Args:
        origin: `PODS` or `NODE`.
        quotes: how many there were.
        seconds: from the first connect() of any process to the last answer of any.
        latency: of all its quotes.
        helper_cpu: of the quote helper.
        helper_share: of the time between, in which the helper ran or waited for a CPU: near 1, it was what bounded.
        plugin_cpu: of the device plugin.
        signature: CPU of a bare P-256 signature, before and after.
    """

    origin: str
    quotes: int
    seconds: float
    latency: Latency
    helper_cpu: float
    helper_share: float
    plugin_cpu: float
    signature: float

    @property
    def rate(self) -> float:
        """Quotes per second."""
        return self.quotes / self.seconds

    @property
    def cost(self) -> float:
        """The helper's CPU for a quote, in bare signatures."""
        return self.helper_cpu / self.quotes / self.signature


@dataclass(frozen=True, slots=True)
class Quoted:
    """All rounds, and quotes to be verified."""

    rounds: tuple[Round, ...]
    sample: tuple[tuple[bytes, bytes], ...]

    def of(self, origin: str) -> list[Round]:
        """The rounds of a kind, in order."""
        return [one for one in self.rounds if one.origin == origin]


def run_load(
    cluster: Cluster, node: Node, namespace: str, of: Sequence[Daemon], load: Load, *, directory: Path
) -> Quoted:
    """Run all rounds.

    Raises:
        WrongAnswerError: an answer was none, or not over the report that was sent.
        UnavailableError: a process did not do its part in time.
    """
    pids = {daemon.component: daemon.pid for daemon in of if daemon.node == node.name}
    rounds, sample = [], []
    with (
        in_pods(cluster, node, namespace, load, directory) as pods,
        on_node(node, load, directory) as processes,
    ):
        places = {PODS: pods, NODE: processes}
        for turn in range(load.rounds):
            for origin in (PODS, NODE) if turn % 2 == 0 else (NODE, PODS):
                done, answers = _round(origin, places[origin], turn, helper=pids[HELPER], plugin=pids[PLUGIN])
                rounds.append(done)
                sample += [quote for answer in answers for quote in answer.sample]
    return Quoted(tuple(rounds), tuple(sample))


def _round(
    origin: str, places: Sequence[Turns], turn: int, *, helper: int, plugin: int
) -> tuple[Round, list[Answered]]:
    until(lambda: all(place.ready(turn).exists() for place in places), "all reports are made", seconds=ROUND_SECONDS)
    signature = seconds_per_signature(SIGNATURES)
    before, plugin_before = SchedulerTimes.of(helper), SchedulerTimes.of(plugin)
    for place in places:
        place.go(turn).touch()
    until(lambda: all(place.answered(turn).exists() for place in places), "all quotes are there", seconds=ROUND_SECONDS)
    after, plugin_after = SchedulerTimes.of(helper), SchedulerTimes.of(plugin)
    signature = (signature + seconds_per_signature(SIGNATURES)) / 2
    answers = [Answered.parse(place.answered(turn).read_text()) for place in places]
    seconds, latencies = together(answers)
    running = after.running - before.running
    return (
        Round(
            origin,
            quotes=len(latencies),
            seconds=seconds,
            latency=Latency.of(latencies),
            helper_cpu=running,
            helper_share=(running + after.waiting - before.waiting) / seconds,
            plugin_cpu=plugin_after.running - plugin_before.running,
            signature=signature,
        ),
        answers,
    )


def together(answers: Sequence[Answered]) -> tuple[float, list[float]]:
    """Of all processes of a round: seconds from the first one's begin to the last one's end, and all latencies."""
    for answer in answers:
        if answer.failure:
            raise WrongAnswerError(answer.failure)
    seconds = max(answer.ended for answer in answers) - min(answer.began for answer in answers)
    return seconds, [latency for answer in answers for latency in answer.latencies]


@contextmanager
def in_pods(cluster: Cluster, node: Node, namespace: str, load: Load, directory: Path) -> Iterator[list[Turns]]:
    """Have the load's processes in a pod each, which hold 1 MiB of EPC each; the pods go with their namespace."""
    places = [_place(directory, f"client-{number}") for number in range(load.processes)]
    items = [pod(place.folder, node.name, load) for place in places]
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    cluster.kubectl("create", f"--namespace={namespace}", "--filename=-", input=manifest)
    yield places


def pod(folder: Path, node: str, load: Load) -> dict[str, object]:
    """A pod of the load. What it runs is mounted, read-only: an image has no benchmark in it."""
    mounts = {
        "testkit": (ROOT / "testkit", f"{CODE}/testkit", True),
        "bench": (ROOT / "bench", f"{CODE}/bench", True),
        "aesmd": (SOCKET.parent, str(SOCKET.parent), True),
        "results": (folder, RESULTS, False),
    }
    container = {
        "name": "client",
        "image": references("sample-workload")[0],
        "imagePullPolicy": "Never",
        "command": ["python", *load.command(RESULTS)],
        "env": [{"name": "PYTHONPATH", "value": CODE}],
        "resources": {"limits": {EPC: 1}},
        "volumeMounts": [
            {"name": name, "mountPath": path, "readOnly": read_only} for name, (_, path, read_only) in mounts.items()
        ],
    }
    spec = {
        "restartPolicy": "Never",
        "nodeSelector": {"kubernetes.io/hostname": node},
        "containers": [container],
        "volumes": [
            {"name": name, "hostPath": {"path": str(path), "type": "Directory"}}
            for name, (path, _, _) in mounts.items()
        ],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": folder.name}, "spec": spec}


@contextmanager
def on_node(node: Node, load: Load, directory: Path) -> Iterator[list[Turns]]:
    """Have as many processes on the node, which end when they have done all rounds, or with the block."""
    places = [_place(directory, f"process-{number}") for number in range(load.processes)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running: list[subprocess.Popen[bytes]] = []
    try:
        for place in places:
            command = node.entering([sys.executable, *load.command(str(place.folder))])
            running.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True))
        yield places
    finally:
        for process in running:
            end_group(process)


def _place(directory: Path, name: str) -> Turns:
    folder = directory / name
    folder.mkdir()
    folder.chmod(0o777)  # the image's user is not ours
    return Turns(folder)
