"""Restarts of kubelets, each with its Pods: when the new kubelet reports, and when a new Pod runs."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cluster.measure import describe, namespace
from bench.cluster.restarts.nodes import IN_TURN, Group, Place, places
from bench.cluster.watch import Change, Watch, watching
from bench.load import WrongAnswerError
from bench.machine import load_average
from confcom.kubernetes.objects import condition, container_statuses, name_of, text
from e2e.cluster import Cluster
from e2e.images_workshop import references

START_SECONDS = 1800.0
"""For all Pods to run: half a second each, on every node at once, and with many devices more."""
REPORT_SECONDS = 900.0
"""For a kubelet's first report after its start: two, and minutes where it has many devices."""
NEW_POD_SECONDS = 900.0
"""For a new Pod to run: one to five, and minutes where the kubelet has many devices."""
GONE_SECONDS = 600.0
"""For all Pods to be gone."""
SETTLE_SECONDS = 60.0
"""After the start of all Pods, which takes all of the machine."""
REST_SECONDS = 5.0
"""Between two restarts: a kubelet with many Pods looks at all of them after its start."""
NEW = "new"
"""Value of the label `app` of the Pods that come with a restart."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    pods: int = 100
    """On each node."""
    runs: int = 10
    device_runs: int = 0
    """Of the kubelet with many devices."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """A node each, in this order."""
        return (*IN_TURN, *([Group.DEVICES] if self.device_runs else []))


@dataclass(frozen=True, slots=True)
class Restart:
    """One restart of a kubelet; seconds from the start of the new one.

    Args:
        group: what its Pods have.
        reported: until the API server told of its first heartbeat.
        admitted: until the kubelet had taken on a Pod without devices that was bound to the node before.
        new_pod: until that Pod ran; a kubelet looks once a second whether a container does.
    """

    group: Group
    reported: float
    admitted: float
    new_pod: float


@dataclass(frozen=True, slots=True)
class Results:
    """What was measured."""

    plan: Plan
    machine: dict[str, object]
    load_average: tuple[float, float]
    """Before and after."""
    limits: dict[Group, dict[str, int]]
    """Of each Pod."""
    restarts: list[Restart]


def measure(cluster: Cluster, plan: Plan, directory: Path, *, say: Callable[[str], None]) -> Results:
    """Measure all of it, on a cluster with a node for each group; the add-on is installed for the time.

    Raises:
        WrongAnswerError: a Pod was lost.
        ConfcomError: something did not happen in time.
    """
    done: list[Restart] = []
    with places(cluster, plan.groups, plan.pods, directory) as of, namespace(cluster, GONE_SECONDS) as here:
        for group, place in of.items():
            say(f"{plan.pods} Pods with {group}")
            _start(cluster, here, place, plan.pods)
        time.sleep(SETTLE_SECONDS)
        before, before_load = _running(cluster, here, plan.pods * len(of)), load_average()
        pods = f"/api/v1/namespaces/{here}/pods"
        with watching(cluster, "/api/v1/nodes") as nodes, watching(cluster, pods, f"labelSelector=app%3D{NEW}") as new:
            restart = functools.partial(_restart, cluster, here, nodes=nodes, new=new)
            for run in range(plan.runs):
                say(f"restarts of {len(IN_TURN)} kubelets, {run + 1} of {plan.runs}")
                for group in IN_TURN if run % 2 == 0 else reversed(IN_TURN):
                    done.append(restart(of[group], f"{NEW}-{len(done)}"))
            for run in range(plan.device_runs):
                say(f"restart with many devices, {run + 1} of {plan.device_runs}")
                done.append(restart(of[Group.DEVICES], f"{NEW}-{len(done)}"))
        after_load = load_average()
        if lost := before.items() - _running(cluster, here, plan.pods * len(of)).items():
            raise WrongAnswerError(f"Pods were lost: {sorted(lost)}")
        limits = {group: dict(place.limits) for group, place in of.items()}
        return Results(plan, describe(cluster), (before_load, after_load), limits, done)


def pod(name: str, app: str, limits: Mapping[str, int], **placed: object) -> dict[str, Any]:
    """A Pod that sleeps.

    Args:
        name: its own.
        app: its label's value.
        limits: of its container.
        placed: the fields that say where it runs.
    """
    container = {
        "name": "main",
        "image": references("sample-workload")[0],
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 86400 & wait $!"],
        "resources": {"limits": dict(limits)},
    }
    spec = {
        "containers": [container],
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **placed,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}}, "spec": spec}


def _start(cluster: Cluster, here: str, place: Place, count: int) -> None:
    """Start the Pods of a node; the scheduler places them by what they ask for."""
    app = place.group.name.lower()
    where = {"nodeSelector": {"kubernetes.io/hostname": place.node.name}}
    items = [pod(f"{app}-{number}", app, place.limits, **where) for number in range(count)]
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    cluster.kubectl("create", f"--namespace={here}", "--filename=-", input=manifest)
    ready = ("--for=condition=Ready", "pods", f"--selector=app={app}", f"--timeout={START_SECONDS:.0f}s")
    cluster.kubectl("wait", f"--namespace={here}", *ready, timeout=START_SECONDS + 30)


def _running(cluster: Cluster, here: str, count: int) -> dict[str, tuple[str, int]]:
    """UID and restarts of each Pod, all of which run."""
    found = {
        name_of(one): (one["metadata"]["uid"], sum(each["restartCount"] for each in container_statuses(one)))
        for one in cluster.kubectl_json("get", "pods", f"--namespace={here}", f"--selector=app!={NEW}")["items"]
        if text(one, "status", "phase") == "Running"
    }
    if len(found) != count:
        raise WrongAnswerError(f"{len(found)} of {count} Pods run")
    return found


def _restart(cluster: Cluster, here: str, place: Place, name: str, *, nodes: Watch, new: Watch) -> Restart:
    """Restart one kubelet, with a new Pod that waits for it."""
    time.sleep(REST_SECONDS)
    place.node.stop("kubelet")
    manifest = json.dumps(pod(name, NEW, {}, nodeName=place.node.name))
    cluster.kubectl("create", f"--namespace={here}", "--filename=-", input=manifest)
    began = time.monotonic()
    place.node.start("kubelet")
    reported = nodes.wait(
        functools.partial(first_report, node=place.node.name, since=began),
        f"the kubelet of {place.node.name} reports",
        seconds=REPORT_SECONDS,
    )
    ran = new.wait(functools.partial(first_run, name=name), f"the Pod {name} runs", seconds=NEW_POD_SECONDS)
    admitted = new.wait(
        functools.partial(first_status, name=name), f"the Pod {name} has a status", seconds=REPORT_SECONDS
    )
    cluster.kubectl("delete", f"--namespace={here}", "pod", name, "--grace-period=1")
    return Restart(place.group, reported - began, admitted - began, ran - began)


def first_report(changes: Sequence[Change], node: str, since: float) -> float | None:
    """When a node's heartbeat was told the first time after a moment; None if that has not been.

    Raises:
        WrongAnswerError: the node was not Ready in between.
    """
    before = ""
    for change in changes:
        if name_of(change.changed) != node:
            continue
        ready = condition(change.changed, "Ready")
        heartbeat = text(ready, "lastHeartbeatTime")
        if change.at <= since:
            before = heartbeat
        elif text(ready, "status") != "True":
            raise WrongAnswerError(f"{node} is not Ready: {text(ready, 'message')}")
        elif heartbeat != before:
            return change.at
    return None


def first_status(changes: Sequence[Change], name: str) -> float | None:
    """When the kubelet told its first status of a Pod, which follows the admission of the Pod; None if not yet."""
    for change in changes:
        if name_of(change.changed) == name and text(change.changed, "status", "startTime"):
            return change.at
    return None


def first_run(changes: Sequence[Change], name: str) -> float | None:
    """When a Pod was told to be Running; None if it was not yet."""
    for change in changes:
        if name_of(change.changed) == name and text(change.changed, "status", "phase") == "Running":
            return change.at
    return None
