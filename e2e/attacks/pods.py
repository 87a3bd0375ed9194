"""Attackers as Pods, states of a node's daemons before and after an attack, and attestations of a victim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from e2e.add_on import COMPONENT, EPC, HERE, PROBES_PORT, ROOT, daemons
from e2e.cluster import Cluster, Node
from e2e.load.client import Attestation
from e2e.tenants import Manifest, container, pod

PROGRAMS = (
    "e2e/__init__.py",
    "e2e/attacks/__init__.py",
    "e2e/attacks/kinds.py",
    "testkit/__init__.py",
    "testkit/passing_descriptors.py",
    "testkit/replay/__init__.py",
    "testkit/replay/wire.py",
)
"""Programs of an attacker. They come from a ConfigMap, because Pod Security forbids attackers a hostPath."""
CONFIG_MAP = "attacks"
CODE = "/code"
RESTRICTED = {
    "runAsUser": 12_345,  # a user ID that does not exist in the image
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def attacker(kind: str, node: str, seconds: float, places: tuple[str, ...], *, root: bool) -> Manifest:
    """A Pod that attacks these addresses, as root with default capabilities, or as a user without any."""
    main = container(
        "main",
        limits={EPC: 1},  # the plugin mounts the socket's directory into the Pod
        environment={"PYTHONPATH": CODE},
        securityContext={"runAsUser": 0} if root else RESTRICTED,
        volumeMounts=[{"name": "code", "mountPath": CODE, "readOnly": True}],
    )
    main["command"] = ["python", "-m", "e2e.attacks.kinds", kind, str(seconds), *places]
    items = [{"key": path.replace("/", "."), "path": path} for path in PROGRAMS]
    code = {"name": "code", "configMap": {"name": CONFIG_MAP, "items": items}}
    return pod(kind, main, node=node, volumes=[code])


def config_map() -> Manifest:
    data = {path.replace("/", "."): (ROOT / path).read_text() for path in PROGRAMS}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG_MAP}, "data": data}


@dataclass(frozen=True, slots=True)
class Daemon:
    """State of a daemon's Pod at one moment.

    `ready_since` is empty if the Pod is not ready; `unhealthy` is the number of failed probes in its Events.
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
        return f"{self.address}:{PROBES_PORT}"


def daemons_on(cluster: Cluster, node: Node) -> tuple[Daemon, ...]:
    query = ("get", "events", HERE, "--field-selector=reason=Unhealthy")
    failed: Counter[str] = Counter()
    for event in cluster.kubectl_json(*query)["items"]:
        failed[event["involvedObject"]["uid"]] += event.get("count") or 1
    found = []
    for one in daemons(cluster):
        status, uid = one["status"], one["metadata"]["uid"]
        if one["spec"].get("nodeName") != node.name:
            continue
        ready = [each for each in status["conditions"] if each["type"] == "Ready" and each["status"] == "True"]
        found.append(
            Daemon(
                component=one["metadata"]["labels"][COMPONENT],
                pod=one["metadata"]["name"],
                uid=uid,
                address=status.get("podIP", ""),
                restarts=status["containerStatuses"][0]["restartCount"],
                ready_since=ready[0]["lastTransitionTime"] if ready else "",
                unhealthy=failed[uid],
            )
        )
    return tuple(sorted(found, key=lambda one: one.component))


def log_lines(cluster: Cluster, daemon: Daemon, since: datetime) -> int:
    query = ("logs", daemon.pod, HERE, f"--since-time={since:%Y-%m-%dT%H:%M:%SZ}")
    return len(cluster.kubectl(*query, check=False).stdout.splitlines())


def harm(before: Sequence[Daemon], after: Sequence[Daemon], *, stayed_ready: bool = True) -> list[str]:
    """Damage to daemons between two moments; `stayed_ready` says whether they were ready all the time."""
    found = []
    for was, now in zip(before, after, strict=True):
        if now.uid != was.uid:
            found.append(f"{now.component}: was replaced")
        if now.restarts != was.restarts:
            found.append(f"{now.component}: {now.restarts - was.restarts} restarts")
        if now.unhealthy != was.unhealthy:
            found.append(f"{now.component}: {now.unhealthy - was.unhealthy} failed probes")
        if stayed_ready and (not now.ready_since or now.ready_since != was.ready_since):
            found.append(f"{now.component}: was not ready all the time")
    return found


@dataclass(frozen=True, slots=True)
class Period:
    """A victim's attestations that began in one period of time."""

    made: int
    failures: tuple[str, ...]

    @classmethod
    def of(cls, attestations: Iterable[Attestation], began: float, ended: float) -> Period:
        here = [one for one in attestations if began <= one.began < ended]
        return cls(len(here), tuple(one.failure for one in here if one.failure))
