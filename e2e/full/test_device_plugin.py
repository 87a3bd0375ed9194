"""The device plugin against the real kubelet: what is measured is what the kubelet's own log says."""

import signal
import statistics
import subprocess
import time

import pytest

from e2e.beside import beside
from e2e.cluster import Cluster
from e2e.cluster.addresses import NODE_NAME
from e2e.kubelet_log import LIST_PROCESSED, LOST, SERVING, KubeletLog
from e2e.plugins import OFFERED_MIB, Plugins, registered, replica_set
from e2e.waiting import until

RESTARTS = KILLS = 20
PODS, GROUPS = 40, 8
DEREGISTERED = "Deregistered client"
IN_FLIGHT = "Pod was rejected: Allocate failed due to rpc error: "

pytestmark = pytest.mark.timeout(600, func_only=True)


def offered(cluster: Cluster, resource: str) -> str:
    """What the API says of the node."""
    return str(cluster.kubectl_json("get", "node", NODE_NAME)["status"]["allocatable"].get(resource, ""))


def wait_until_offered(cluster: Cluster, plugins: Plugins) -> None:
    until(lambda: offered(cluster, plugins.epc) == str(OFFERED_MIB), "the node offers all EPC")


def lost(log: KubeletLog) -> set[str]:
    return {event.values["resourceName"] for event in log.events() if event.message == LOST}


def pods_in(cluster: Cluster, namespace: str) -> list[dict]:
    return cluster.kubectl_json("get", "pods", f"--namespace={namespace}")["items"]


def test_restarts_of_the_kubelet(cluster: Cluster, plugins: Plugins, log: KubeletLog, tell) -> None:
    plugins.start()
    until(lambda: registered(log, plugins), "the plugin is registered")
    took = [restart(cluster, plugins, log) for _ in range(RESTARTS)]
    tell(
        f"{RESTARTS} restarts, from before kubelet.sock listens to the last of four lists processed: "
        f"p50 {statistics.median(took) * 1e3:.0f} ms, longest {max(took) * 1e3:.0f} ms"
    )
    # A failed dial-back would cost ten seconds.
    assert max(took) < 5


def restart(cluster: Cluster, plugins: Plugins, log: KubeletLog) -> float:
    """Restart the kubelet; seconds from before kubelet.sock listens until it has processed the last of all lists."""
    log.mark()
    cluster.node.restart("kubelet")
    until(lambda: registered(log, plugins), "the plugin is registered again", seconds=30)
    (serving,) = [event for event in log.events() if event.message == SERVING]
    assert not [event for event in log.events() if "connecting to device plugin client" in event.message]
    return max(log.lists(name)[0].after(serving) for name in plugins.names)


def test_twenty_kills_lose_no_pod(cluster: Cluster, plugins: Plugins, log: KubeletLog, namespace: str, tell) -> None:
    plugin = plugins.start()
    until(lambda: registered(log, plugins), "the plugin is registered")
    cluster.kubectl("create", f"--namespace={namespace}", "--filename=-", input=replica_set("held", plugins.epc, 5))
    cluster.kubectl("wait", f"--namespace={namespace}", "--for=jsonpath={.status.readyReplicas}=5", "rs/held")
    before = {pod["metadata"]["uid"] for pod in pods_in(cluster, namespace)}
    took = []
    for _ in range(KILLS):
        log.mark()
        plugins.end(plugin, signal.SIGKILL)
        plugin = plugins.start()
        began = time.monotonic()
        until(lambda: registered(log, plugins), "the next instance is registered")
        took.append(time.monotonic() - began)

    wait_until_offered(cluster, plugins)
    tell(f"{KILLS} kills: registered again p50 {statistics.median(took):.2f} s after the next start, polled")
    after = pods_in(cluster, namespace)
    assert {pod["metadata"]["uid"] for pod in after} == before
    assert [pod["status"]["phase"] for pod in after] == ["Running"] * 5
    assert [pod["status"]["containerStatuses"][0]["restartCount"] for pod in after] == [0] * 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("first_to_end", ["old", "new"])
def test_a_hand_over_under_a_burst_of_pods(
    cluster: Cluster,
    plugins: Plugins,
    log: KubeletLog,
    namespace: str,
    *,
    tmp_path,
    kubelet_version,
    first_to_end,
    number,
    tell,
) -> None:
    """The old instance ends first in an update, the new one in an update that is rolled back."""
    keeps = kubelet_version >= (1, 37)
    old = plugins.start()
    until(lambda: registered(log, plugins), "the old instance is registered")
    wait_until_offered(cluster, plugins)
    shown = "--output=jsonpath={.status.allocatable." + plugins.epc.replace(".", r"\.") + "}{'\\n'}"
    with beside(cluster, "get", "node", NODE_NAME, "--watch", shown, output=subprocess.PIPE) as watch:
        new = plugins.start()
        until(lambda: registered(log, plugins, times=2), "the new instance is registered")
        log.mark()
        for group in range(GROUPS):
            manifest = replica_set(f"burst-{group}", plugins.epc, PODS // GROUPS)
            cluster.kubectl("create", f"--namespace={namespace}", "--filename=-", input=manifest)
            if group == GROUPS // 2:
                plugins.end(old if first_to_end == "old" else new, number)
                if not keeps:
                    # Up to 1.36 the kubelet takes the resource from the other instance too, and does not tell it.
                    until(lambda: registered(log, plugins), "the other instance is registered again")
        if keeps:
            until(lambda: disconnected(log, plugins), "the kubelet has seen the end")

        def ready() -> int:
            sets = cluster.kubectl_json("get", "replicasets", f"--namespace={namespace}")["items"]
            return sum(one["status"].get("readyReplicas", 0) for one in sets)

        until(lambda: ready() == PODS, "every controller has its pods running", seconds=120)
        wait_for_report(cluster, tmp_path / "later")
        watch.terminate()
        values = set(watch.communicate(timeout=30)[0].decode().split())
    rejected = [pod["status"]["message"] for pod in pods_in(cluster, namespace) if pod["status"]["phase"] == "Failed"]
    tell(
        f"{first_to_end} ended first by {number.name}: allocatable {sorted(values)}, {len(rejected)} of {PODS} rejected"
    )
    assert len(pods_in(cluster, namespace)) - len(rejected) == PODS
    assert all(message.startswith("Pod was rejected: ") for message in rejected)
    wait_until_offered(cluster, plugins)
    if not keeps:
        return
    assert plugins.epc not in lost(log)
    lists = [event.values for event in log.events() if event.message == LIST_PROCESSED]
    assert {one["healthyCount"] for one in lists if one["resourceName"] == plugins.epc} <= {str(OFFERED_MIB)}
    assert values == {str(OFFERED_MIB)}
    if first_to_end == "old":  # the new one is asked by then; else what is being asked when it ends is lost
        assert not rejected
    assert all(message.startswith(IN_FLIGHT) for message in rejected)


def disconnected(log: KubeletLog, plugins: Plugins) -> bool:
    """Whether the kubelet has let go of an instance since the mark."""
    return set(plugins.names) <= {event.values["name"] for event in log.events() if event.message == DEREGISTERED}


def wait_for_report(cluster: Cluster, folder) -> None:
    """Until the kubelet has reported again: it reports all resources at once, those of a later plugin too."""
    folder.mkdir()
    later = Plugins(cluster, folder)
    marker = later.start()
    try:
        wait_until_offered(cluster, later)
    finally:
        later.end(marker)


@pytest.mark.usefixtures("from_1_37")
def test_a_new_kubelet_knows_both_and_notices_the_last_end(cluster: Cluster, plugins: Plugins, log: KubeletLog) -> None:
    old = plugins.start()
    until(lambda: registered(log, plugins), "the old instance is registered")
    new = plugins.start()
    until(lambda: registered(log, plugins, times=2), "the new instance is registered")
    log.mark()
    cluster.node.restart("kubelet")
    until(lambda: registered(log, plugins, times=2), "both are registered again")
    plugins.end(old)
    until(lambda: disconnected(log, plugins), "the kubelet has seen the end")
    wait_until_offered(cluster, plugins)
    assert not lost(log)
    plugins.end(new)
    until(lambda: lost(log) >= set(plugins.names), "every resource is lost")
    until(lambda: offered(cluster, plugins.epc) == "0", "the node offers nothing")
