"""Checks of each change in a watch of all Pods: too much EPC bound to a node, Pods rejected, Pods lost."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

from confcom.kubernetes.objects import TERMINAL, container_statuses, mapping, name_of, namespace_of, requests_of, text
from e2e.add_on import EPC
from e2e.beside import beside
from e2e.cluster import Cluster

WATCH_SECONDS = 3600
"""Seconds after which the API server ends the watch: longer than any case takes."""
REJECTED = ("UnexpectedAdmissionError", "OutOf")
"""If a kubelet rejects a Pod because of its resources, the reason begins with one of these prefixes."""


@dataclass(frozen=True, slots=True)
class Rejection:
    pod: str
    node: str
    bound: float
    told: float
    why: str


@dataclass(slots=True)
class _Seen:
    """State of a Pod. `restarts` counts restarts before a container ran; killed kubelets may lose a start."""

    bound: float | None = None
    judged: bool = False
    ran: bool = False
    restarts: int = 0


@dataclass(slots=True)
class Ledger:
    """The listener of a watch of all Pods, which gets changes in the order in which the API server made them.

    Pods of `namespace` come and go. Pods of other namespaces only count in the sums.
    """

    namespace: str
    epc_mib: Mapping[str, int]
    most: Counter[str] = field(default_factory=Counter)
    """Largest sum of EPC requests of bound Pods that have not ended, keyed by node."""
    ran: Counter[str] = field(default_factory=Counter)
    """Number of Pods that have been Running, by node."""
    complaints: list[str] = field(default_factory=list)
    """Errors found: more EPC bound than a node has, and Pods that were lost."""
    rejections: list[Rejection] = field(default_factory=list)
    _held: dict[str, tuple[str, int]] = field(default_factory=dict)
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _phases: dict[str, str] = field(default_factory=dict)
    _to_delete: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def expect_deletion(self, name: str) -> None:
        """Record that a Pod's maker will delete the Pod, so that its later failure is no error."""
        with self._lock:
            self._to_delete.add(name)

    def phases(self) -> Mapping[str, str]:
        with self._lock:
            return dict(self._phases)

    def complain(self, complaint: str) -> None:
        with self._lock:
            self.complaints.append(complaint)

    def tell(self, at: float, kind: str, pod: dict[str, Any]) -> None:
        """Count and judge a change: ADDED, MODIFIED or DELETED, reported at this time of CLOCK_MONOTONIC."""
        if kind == "ERROR":
            self.complain(f"the watch told of an error: {pod}")
            return
        with self._lock:
            self._count(kind, pod)
            if namespace_of(pod) == self.namespace:
                self._judge(at, kind, pod)

    def _count(self, kind: str, pod: dict[str, Any]) -> None:
        uid, node = pod["metadata"]["uid"], text(pod, "spec", "nodeName")
        if kind == "DELETED" or text(pod, "status", "phase") in TERMINAL or node not in self.epc_mib:
            self._held.pop(uid, None)
            return
        self._held[uid] = (node, requests_of(pod, EPC))
        total = sum(mib for there, mib in self._held.values() if there == node)
        self.most[node] = max(self.most[node], total)
        if total > self.epc_mib[node]:
            self.complaints.append(f"{total} MiB are bound to {node}, which has {self.epc_mib[node]}: {name_of(pod)}")

    def _judge(self, at: float, kind: str, pod: dict[str, Any]) -> None:
        name, node, phase = name_of(pod), text(pod, "spec", "nodeName"), text(pod, "status", "phase")
        seen = self._seen.setdefault(pod["metadata"]["uid"], _Seen())
        if node and seen.bound is None:
            seen.bound = at
        if not seen.ran and any(mapping(one, "state", "running") for one in container_statuses(pod)):
            seen.ran, seen.restarts = True, _restarts(pod)
            self.ran[node] += 1
        if kind == "DELETED":
            self._phases.pop(name, None)
        else:
            self._phases[name] = phase
        if seen.judged:
            return
        reason = text(pod, "status", "reason")
        wanted = name not in self._to_delete
        if phase == "Failed" and (reason.startswith(REJECTED) or (wanted and not seen.ran)):
            seen.judged = True
            why = f"{reason}: {text(pod, 'status', 'message')}"
            self.rejections.append(Rejection(name, node, at if seen.bound is None else seen.bound, at, why))
        elif wanted and (why := _lost(pod, kind, seen)):
            seen.judged = True
            self.complaints.append(f"the Pod {name} on {node or 'no node'} was lost: {why}")


def _restarts(pod: Mapping[str, Any]) -> int:
    return sum(one.get("restartCount", 0) for one in container_statuses(pod))


def _lost(pod: Mapping[str, Any], kind: str, seen: _Seen) -> str:
    """Reason why a Pod is lost, unless its maker deleted the Pod; empty if the Pod is not lost."""
    if seen.ran and _restarts(pod) > seen.restarts:
        return f"its container was restarted: {container_statuses(pod)}"
    if text(pod, "status", "phase") == "Failed":
        return f"it failed: {pod['status']}"
    if kind == "DELETED" or "deletionTimestamp" in pod["metadata"]:
        return "somebody else deleted it"
    return ""


@contextmanager
def watched(ledger: Ledger, cluster: Cluster) -> Iterator[None]:
    url = f"/api/v1/pods?watch=1&timeoutSeconds={WATCH_SECONDS}"
    with beside(cluster, "get", "--raw", url, output=subprocess.PIPE) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=_read, args=(process.stdout, ledger))
        reader.start()
        yield
    reader.join()


def _read(output: IO[bytes], ledger: Ledger) -> None:
    with output:
        for line in output:
            event = json.loads(line)
            ledger.tell(time.monotonic(), event["type"], event["object"])
    ledger.complain("the watch ended")
