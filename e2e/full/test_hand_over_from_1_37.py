"""An update of the device plugin on a kubelet from 1.37 on: its clients are told apart by their sockets' paths.

What 1.36 does in the same steps is in test_device_plugin.py: for some hundred milliseconds the resource is lost.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import Cluster
from e2e.cluster.addresses import NODE_NAME
from e2e.kubelet_log import LIST_PROCESSED, LOST, KubeletLog
from e2e.plugins import OFFERED_MIB, Plugins, registered, replica_set
from e2e.waiting import until

DEREGISTERED = "Deregistered client"
IN_FLIGHT = "Pod was rejected: Allocate failed due to rpc error: "
PODS, GROUPS = 40, 8

pytestmark = pytest.mark.usefixtures("from_1_37")


class Watch:
    """Every value that a resource's allocatable has had in the API since the start."""

    def __init__(self, lines: Path) -> None:
        self._lines = lines

    def values(self) -> list[str]:
        return self._lines.read_text().split()


@contextlib.contextmanager
def watching(cluster: Cluster, resource: str, folder: Path) -> Iterator[Watch]:
    """Follow the node's allocatable; kubectl ends with our end of its standard input."""
    column = "{.status.allocatable." + resource.replace(".", r"\.") + "}{'\\n'}"
    kubectl = f'kubectl get node {NODE_NAME} --watch --output=jsonpath="$0" & read -r _; kill $!'
    lines = folder / "allocatable"
    environ = {**os.environ, **cluster.environment}
    with (
        lines.open("wb") as output,
        subprocess.Popen(
            cluster.entering(["sh", "-c", kubectl, column]), stdin=subprocess.PIPE, stdout=output, env=environ
        ) as process,
    ):
        watch = Watch(lines)
        try:
            until(watch.values, "the watch has begun")
            yield watch
        finally:
            process.communicate(b"\n")


def disconnected(log: KubeletLog, plugins: Plugins) -> bool:
    """Whether the kubelet has let go of an instance since the mark."""
    return set(plugins.names) <= {event.values["name"] for event in log.events() if event.message == DEREGISTERED}


def lost(log: KubeletLog) -> set[str]:
    return {event.values["resourceName"] for event in log.events() if event.message == LOST}


def offered(cluster: Cluster, resource: str) -> str:
    return str(cluster.kubectl_json("get", "node", NODE_NAME)["status"]["allocatable"].get(resource, ""))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("first_to_end", ["old", "new"])
def test_allocatable_never_falls(
    cluster: Cluster, plugins: Plugins, log: KubeletLog, namespace: str, *, tmp_path, first_to_end, number, tell
) -> None:
    """The old one ends first in an update, the new one in an update that is rolled back."""
    old = plugins.start()
    until(lambda: registered(log, plugins), "the old instance is registered")
    until(lambda: offered(cluster, plugins.epc) == str(OFFERED_MIB), "the node offers all EPC")
    with watching(cluster, plugins.epc, tmp_path) as watch:
        new = plugins.start()
        until(lambda: registered(log, plugins, times=2), "the new instance is registered")
        for group in range(GROUPS):
            manifest = replica_set(f"burst-{group}", plugins.epc, PODS // GROUPS)
            cluster.kubectl("create", f"--namespace={namespace}", "--filename=-", input=manifest)
            if group == GROUPS // 2:
                plugins.end(old if first_to_end == "old" else new, number)

        until(lambda: disconnected(log, plugins), "the kubelet has seen the end")

        def ready() -> int:
            sets = cluster.kubectl_json("get", "replicasets", f"--namespace={namespace}")["items"]
            return sum(one["status"].get("readyReplicas", 0) for one in sets)

        until(lambda: ready() == PODS, "every pod runs", seconds=120)
        later = Plugins(cluster, tmp_path / "later")
        later.folder.mkdir()
        marker = later.start()
        try:  # the kubelet reports all of its resources at once: what it says of the later one, it says after the end
            until(lambda: offered(cluster, later.epc) == str(OFFERED_MIB), "the kubelet has reported since")
        finally:
            later.end(marker)
    events = [event for event in log.events() if event.values.get("resourceName") == plugins.epc]
    lists = [event.values["healthyCount"] for event in events if event.message == LIST_PROCESSED]
    pods = cluster.kubectl_json("get", "pods", f"--namespace={namespace}")["items"]
    rejected = [pod["status"]["message"] for pod in pods if pod["status"]["phase"] == "Failed"]
    tell(
        f"{first_to_end} instance ended first by {number.name}: lists of {sorted(set(lists))} devices, allocatable "
        f"{sorted(set(watch.values()))} in {len(watch.values())} updates, {len(rejected)} of {PODS} pods rejected"
    )
    assert not [event for event in events if event.message == LOST]
    assert set(lists) == {str(OFFERED_MIB)}
    assert set(watch.values()) == {str(OFFERED_MIB)}
    assert len(pods) - len(rejected) == PODS
    if first_to_end == "old":  # the new one is asked by then; else what is being asked when it ends is lost
        assert not rejected
    assert all(message.startswith(IN_FLIGHT) for message in rejected)


def test_a_new_kubelet_knows_both_instances(cluster: Cluster, plugins: Plugins, log: KubeletLog) -> None:
    old = plugins.start()
    until(lambda: registered(log, plugins), "the old instance is registered")
    plugins.start()
    until(lambda: registered(log, plugins, times=2), "the new instance is registered")
    log.mark()
    cluster.kubelet_restart()
    until(lambda: registered(log, plugins, times=2), "both are registered again")
    plugins.end(old)
    until(lambda: disconnected(log, plugins), "the kubelet has seen the end")
    until(lambda: offered(cluster, plugins.epc) == str(OFFERED_MIB), "the node offers all EPC")
    assert not lost(log)


def test_the_last_instances_end_is_noticed(cluster: Cluster, plugins: Plugins, log: KubeletLog) -> None:
    """So that nothing above passes because the kubelet notices no end at all."""
    old = plugins.start()
    until(lambda: registered(log, plugins), "the old instance is registered")
    new = plugins.start()
    until(lambda: registered(log, plugins, times=2), "the new instance is registered")
    plugins.end(old)
    plugins.end(new)
    until(lambda: lost(log) >= set(plugins.names), "every resource is lost")
    until(lambda: offered(cluster, plugins.epc) == "0", "the node offers nothing")
