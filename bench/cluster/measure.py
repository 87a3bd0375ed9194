"""Every measurement of `make bench-e2e`, in one run on one cluster."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.cluster.changes import REPORT_SECONDS, Restart, Update, restarts, updates
from bench.cluster.daemons import Idle, daemons, watch_idle
from bench.cluster.pods import Held, Starts, held_by, start_pairs
from bench.cluster.quoting import Load, Quoted, run_load
from bench.machine import Cores, describe_machine, load_average, resident_bytes
from bench.measure import verify_sample
from confcom.quote_provider.state_directory import STATE_FILE
from e2e import add_on
from e2e.add_on import EPC, SIMULATED_LABEL, SYSTEM
from e2e.cluster import Cluster, Node
from e2e.waiting import until

SGX_NODES = 2
"""Of the cluster's nodes, the first ones."""
ROOT_SECRET = "confcom-simulated-platform"  # noqa: S105  (its name)
NAMESPACE_SECONDS = 120.0
"""For a namespace to be gone with all pods in it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int = 7
    """Of quotes from pods, and as many from the node."""
    quotes: int = 1000
    """Of each process in each round."""
    processes: int = 4
    clients: int = 16
    """Of each process."""
    starts: int = 20
    """Pairs of pods."""
    restarts: int = 10
    updates: int = 3
    """Of each daemon, on every SGX node."""
    idle_seconds: float = 60.0
    applications: tuple[int, ...] = (1, 20)


@dataclass(frozen=True, slots=True)
class Results:
    """What was measured; times are seconds, memory is bytes, EPC is MiB."""

    plan: Plan
    machine: dict[str, object]
    load_average: tuple[float, float]
    """Before and after."""
    idle: list[Idle]
    quoted: Quoted
    resident: dict[str, int]
    """Of the daemons of the node that quoted, by component, after it."""
    verified: int
    starts: Starts
    held: list[Held]
    restarts: list[Restart]
    updates: list[Update]


def measure(cluster: Cluster, plan: Plan, directory: Path, *, say: Callable[[str], None]) -> Results:
    """Measure all of it on a cluster that has our images; the add-on is installed, and stays.

    Args:
        cluster: with two nodes or more.
        plan: how much.
        directory: an empty one, which the nodes see too.
        say: told what is done now.

    Raises:
        WrongAnswerError: a quote is over another report, or does not verify.
        ConfcomError: something did not happen in time.
    """
    before = load_average()
    nodes, node = cluster.nodes[:SGX_NODES], cluster.node
    install(cluster, nodes)
    of = daemons(cluster)
    say(f"{plan.idle_seconds:g} s of idle daemons")
    idle = watch_idle(of, plan.idle_seconds)
    say(f"{plan.rounds} rounds of quotes from pods, and as many from the node")
    load = Load(plan.processes, plan.clients, plan.quotes, plan.rounds)
    with namespace(cluster) as name:
        quoted = run_load(cluster, node, name, of, load, directory=directory)
    resident = {daemon.component: resident_bytes(daemon.pid) for daemon in of if daemon.node == node.name}
    say(f"verifying {len(quoted.sample)} of the quotes")
    verified = verify(cluster, quoted, directory)
    say(f"{plan.starts} starts of pods with EPC, and as many without")
    with namespace(cluster) as name:
        starts = start_pairs(cluster, node, name, plan.starts)
    say(f"EPC that is held with {' and '.join(map(str, plan.applications))} applications")
    with namespace(cluster) as name:
        held = [held_by(cluster, node, name, count) for count in plan.applications]
    say(f"{plan.restarts} restarts of a kubelet")
    restarted = restarts(cluster, plan.restarts)
    say(f"{plan.updates} updates of each daemon on {SGX_NODES} nodes")
    updated = updates(cluster, plan.updates)
    return Results(
        plan,
        describe(cluster),
        (before, load_average()),
        idle,
        quoted,
        resident,
        verified,
        starts,
        held,
        restarted,
        updated,
    )


def install(cluster: Cluster, nodes: tuple[Node, ...]) -> None:
    """Install the chart on these nodes, as everybody does, with its default values."""
    add_on.uninstall(cluster)
    # Else helpers are scheduled by what a node no longer has, are rejected, and their DaemonSet waits for minutes.
    until(lambda: not any(offered(cluster, node) for node in nodes), "the nodes offer no EPC", seconds=REPORT_SECONDS)
    add_on.install(cluster, [node.name for node in nodes])
    until(lambda: len(daemons(cluster)) == 2 * len(nodes), "both daemons are on all nodes")


def offered(cluster: Cluster, node: Node) -> int:
    """A node's allocatable EPC, as the API has it, in MiB."""
    return int(cluster.kubectl_json("get", "node", node.name)["status"]["allocatable"].get(EPC, 0))


def uninstall(cluster: Cluster) -> None:
    """What `install` did, undone."""
    add_on.uninstall(cluster)
    cluster.kubectl("label", "nodes", "--all", f"{SIMULATED_LABEL}-")


@contextmanager
def namespace(cluster: Cluster, seconds: float = NAMESPACE_SECONDS) -> Iterator[str]:
    """A namespace for some of the pods, which go with it.

    Args:
        cluster: where.
        seconds: for all of it to be gone.
    """
    name = f"bench-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}")
    try:
        yield name
    finally:
        cluster.kubectl("delete", "namespace", name, timeout=seconds)


def verify(cluster: Cluster, quoted: Quoted, directory: Path) -> int:
    """Verify the sample against the cluster's simulated root; returns how many there were."""
    kept = cluster.kubectl_json("get", "secret", ROOT_SECRET, f"--namespace={SYSTEM}")["data"][STATE_FILE]
    state = directory / "platform"
    state.mkdir(mode=0o700)
    (state / STATE_FILE).touch(mode=0o600)
    (state / STATE_FILE).write_bytes(base64.b64decode(kept))
    return verify_sample(quoted.sample, state)


def describe(cluster: Cluster) -> dict[str, object]:
    """The machine and the cluster; nothing in it has a core of its own."""
    info = cluster.kubectl_json("get", "node", cluster.node.name)["status"]["nodeInfo"]
    machine = {key: value for key, value in describe_machine(Cores.choose()).items() if not key.endswith("_core")}
    return {
        **machine,
        "kubernetes": info["kubeletVersion"],
        "container_runtime": info["containerRuntimeVersion"],
        "nodes": len(cluster.nodes),
    }
