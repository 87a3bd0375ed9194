"""The daemons of a node while they are attacked: restarts, probes, memory, log lines."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.memory import MemoryGroup, memory_hierarchy
from confcom.errors import UnavailableError
from e2e.add_on import COMPONENT, SYSTEM, daemons
from e2e.attacks.outcome import DaemonSeen
from e2e.cluster import Cluster, Node
from e2e.cluster.lifecycle import group_name

PROBE_PORT = 8080
SAMPLE_SECONDS = 0.5
"""Between looks at a Pod's memory."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon's Pod, at one moment.

    Args:
        component: which daemon.
        pod: the Pod's name.
        uid: the Pod's.
        address: of the Pod.
        restarts: of the container.
        ready_since: when the Pod became ready; empty if it is not.
        unhealthy: how many of its probes had failed, by its events.
    """

    component: str
    pod: str
    uid: str
    address: str
    restarts: int
    ready_since: str
    unhealthy: int

    @property
    def probes(self) -> str:
        """Where its probes and metrics are asked."""
        return f"{self.address}:{PROBE_PORT}"


def daemons_on(cluster: Cluster, node: Node) -> tuple[Daemon, ...]:
    """All on a node, in the order of their names."""
    here = [pod for pod in daemons(cluster) if pod["spec"].get("nodeName") == node.name]
    failed = _failed_probes(cluster)
    return tuple(
        sorted((_daemon(pod, failed.get(pod["metadata"]["uid"], 0)) for pod in here), key=lambda one: one.component)
    )


def _daemon(pod: dict[str, Any], unhealthy: int) -> Daemon:
    status = pod["status"]
    (container,) = status["containerStatuses"]
    ready = [one for one in status["conditions"] if one["type"] == "Ready" and one["status"] == "True"]
    return Daemon(
        component=pod["metadata"]["labels"][COMPONENT],
        pod=pod["metadata"]["name"],
        uid=pod["metadata"]["uid"],
        address=status.get("podIP", ""),
        restarts=container["restartCount"],
        ready_since=ready[0]["lastTransitionTime"] if ready else "",
        unhealthy=unhealthy,
    )


def _failed_probes(cluster: Cluster) -> dict[str, int]:
    """By the UIDs of Pods."""
    query = ("get", "events", f"--namespace={SYSTEM}", "--field-selector=reason=Unhealthy")
    found: dict[str, int] = {}
    for event in cluster.kubectl_json(*query)["items"]:
        uid = event["involvedObject"]["uid"]
        found[uid] = found.get(uid, 0) + (event.get("count") or 1)
    return found


def memory_of(cluster: Cluster, node: Node, daemon: Daemon) -> MemoryGroup:
    """Its Pod's control group, to which passes what the kernel still holds for a container that has ended.

    Raises:
        UnavailableError: it is not where the kubelet makes it.
    """
    top = memory_hierarchy(Path("/proc/self/mountinfo").read_text()).mountpoint / group_name(cluster.places)
    found = [*top.glob(f"{node.name}/**/pod{daemon.uid}")]
    if len(found) != 1:
        raise UnavailableError(f"{daemon.pod} has no control group", why=f"{top} has {found}")
    return MemoryGroup(found[0])


@dataclass(slots=True)
class _Samples:
    usages: list[int] = field(default_factory=list)
    highest: int = 0


@dataclass(slots=True)
class Watch:
    """Daemons that are watched.

    Args:
        cluster: where.
        node: theirs.
        first: how they were when it began.
        since: when that was.
        samples: of memory, by the name of the Pod.
    """

    cluster: Cluster
    node: Node
    first: tuple[Daemon, ...]
    since: datetime
    samples: dict[str, _Samples]

    def seen(self) -> list[DaemonSeen]:
        """What became of them; those that are not there any more were replaced."""
        now = {daemon.pod: daemon for daemon in daemons_on(self.cluster, self.node)}
        return [self._seen(one, now[one.pod]) for one in self.first if one.pod in now]

    def _seen(self, first: Daemon, now: Daemon) -> DaemonSeen:
        samples = self.samples[first.pod]
        spec = self.cluster.kubectl_json("get", "pod", now.pod, f"--namespace={SYSTEM}")["spec"]
        log = ("logs", now.pod, f"--namespace={SYSTEM}", f"--since-time={self.since:%Y-%m-%dT%H:%M:%SZ}")
        return DaemonSeen(
            name=now.component,
            restarts=now.restarts - first.restarts,
            unhealthy=now.unhealthy - first.unhealthy,
            stayed_ready=bool(now.ready_since) and now.ready_since == first.ready_since,
            memory=tuple(samples.usages),
            highest=samples.highest,
            limit=_bytes(spec["containers"][0]["resources"]["limits"]["memory"]),
            log_lines=len(self.cluster.kubectl(*log, check=False).stdout.splitlines()),
        )


def _bytes(quantity: str) -> int:
    """Of a limit as our chart writes it."""
    return int(quantity.removesuffix("Mi")) * 1024 * 1024


@contextlib.contextmanager
def watching(cluster: Cluster, node: Node) -> Iterator[Watch]:
    """Watch a node's daemons for the block."""
    first = daemons_on(cluster, node)
    watch = Watch(cluster, node, first, datetime.now(UTC), {one.pod: _Samples() for one in first})
    groups = [(memory_of(cluster, node, one), watch.samples[one.pod]) for one in first]
    end = threading.Event()
    thread = threading.Thread(target=_sample, args=(groups, end))
    thread.start()
    try:
        yield watch
    finally:
        end.set()
        thread.join()


def _sample(groups: Sequence[tuple[MemoryGroup, _Samples]], end: threading.Event) -> None:
    while True:
        for group, samples in groups:
            with contextlib.suppress(OSError, ValueError):  # a Pod that was replaced has no group any more
                samples.usages.append(group.usage)
                samples.highest = max(samples.highest, group.highest)
        if end.wait(SAMPLE_SECONDS):
            return
