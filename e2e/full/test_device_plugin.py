"""The device plugin against the real kubelet: what is measured is what the kubelet's own log says."""

import json
import signal
import statistics
import time
from datetime import datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e.add_on import EPC, SYSTEM, allocatable
from e2e.add_on import EPC_MIB as ADD_ON_EPC_MIB
from e2e.cluster import Cluster
from e2e.cluster.addresses import NODE_NAME
from e2e.kubelet_log import LOST, SERVING, KubeletLog
from e2e.plugins import OFFERED_MIB, Plugins, registered, replica_set, waiting_container
from e2e.waiting import until

KUBELET_RESTARTS, FEW_RESTARTS = 50, 5
MOST_OFFERED_MIB = 2_042
"""Of the 2,048 that a plugin counts as devices by default, without what is set aside for quote helpers."""
KILLS = 20
BURST, BURST_GROUPS = 80, 16


@pytest.mark.timeout(600, func_only=True)
def test_fifty_restarts_of_the_kubelet(cluster: Cluster, plugins: Plugins, log: KubeletLog, tell) -> None:
    plugins.start()
    until(lambda: registered(log, plugins), "the plugin is registered")
    took = [restart(cluster, plugins, log) for _ in range(KUBELET_RESTARTS)]
    tell(
        f"{KUBELET_RESTARTS} restarts, from before kubelet.sock listens to the last of four lists processed: "
        f"p50 {statistics.median(took) * 1e3:.0f} ms, longest {max(took) * 1e3:.0f} ms"
    )
    # A failed dial-back would cost ten seconds.
    assert max(took) < 5


def restart(cluster: Cluster, plugins: Plugins, log: KubeletLog) -> float:
    """Restart the kubelet; seconds from before kubelet.sock listens until it has processed the last of all lists."""
    log.mark()
    cluster.kubelet_restart()
    until(lambda: registered(log, plugins), "the plugin is registered again", seconds=30)
    (serving,) = [event for event in log.events() if event.message == SERVING]
    assert not [event for event in log.events() if "connecting to device plugin client" in event.message]
    return max(log.lists(name)[0].after(serving) for name in plugins.names)


@pytest.mark.timeout(300, func_only=True)
def test_restarts_with_all_epc_allocated(
    cluster: Cluster, plugins: Plugins, log: KubeletLog, namespace: str, tell
) -> None:
    """From 1.36 on, a first list costs the kubelet devices times allocated devices: why 2,048 MiB are the default."""
    plugins.start(epc_mib=2048)
    until(lambda: registered(log, plugins), "the plugin is registered")
    until(lambda: offered(cluster, plugins.epc) == MOST_OFFERED_MIB, "the node offers all EPC")
    free = statistics.median(restart(cluster, plugins, log) for _ in range(FEW_RESTARTS))
    here = f"--namespace={namespace}"
    spec = {"containers": [waiting_container(plugins.epc, MOST_OFFERED_MIB)]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "all"}, "spec": spec}
    until(lambda: offered(cluster, plugins.epc) == MOST_OFFERED_MIB, "the node offers all EPC again", seconds=30)
    cluster.kubectl("create", here, "--filename=-", input=json.dumps(pod))
    cluster.kubectl("wait", here, "--for=condition=Ready", "pod/all", "--timeout=60s")
    held = statistics.median(restart(cluster, plugins, log) for _ in range(FEW_RESTARTS))
    tell(
        f"restarts with {MOST_OFFERED_MIB} devices: {free * 1e3:.0f} ms with none allocated, {held * 1e3:.0f} ms with "
        f"all of them, {held / free:.1f} times as long"
    )
    until(lambda: offered(cluster, plugins.epc) == MOST_OFFERED_MIB, "the node offers all EPC again", seconds=30)
    seen = cluster.kubectl_json("get", here, "pod", "all")["status"]
    assert (seen["phase"], seen["containerStatuses"][0]["restartCount"]) == ("Running", 0)


def test_a_hand_over_under_a_burst_of_pods(
    cluster: Cluster, plugins: Plugins, log: KubeletLog, namespace: str, tell
) -> None:
    old = plugins.start()
    until(lambda: registered(log, plugins), "the old instance is registered")
    plugins.start()
    until(lambda: registered(log, plugins, times=2), "the new instance is registered")
    log.mark()
    for number in range(BURST_GROUPS):
        manifest = replica_set(f"burst-{number}", plugins.epc, BURST // BURST_GROUPS)
        cluster.kubectl("create", f"--namespace={namespace}", "--filename=-", input=manifest)
        if number == BURST_GROUPS // 2:
            plugins.end(old)
    until(lambda: registered(log, plugins), "the new instance is registered again")

    def ready() -> int:
        sets = cluster.kubectl_json("get", "replicasets", f"--namespace={namespace}")["items"]
        return sum(one["status"].get("readyReplicas", 0) for one in sets)

    until(lambda: ready() == BURST, "every controller has its pods running", seconds=120)
    pods = cluster.kubectl_json("get", "pods", f"--namespace={namespace}")["items"]
    rejected = [pod["status"]["message"] for pod in pods if pod["status"]["phase"] == "Failed"]
    (lost,) = [event for event in log.events() if event.message == LOST and event.values["resourceName"] == plugins.epc]
    back = log.lists(plugins.epc)[0]
    tell(
        f"hand-over on 1.36: without the resource for {back.after(lost) * 1e3:.0f} ms; "
        f"{len(rejected)} of {BURST} pods that arrived around it were rejected and made again"
    )
    for message in sorted(set(rejected)):
        tell(f"  {message}")
    assert len(pods) - len(rejected) == BURST
    running = [pod for pod in pods if pod["status"]["phase"] == "Running"]
    assert all(message.startswith("Pod was rejected: ") for message in rejected)
    assert len(running) == BURST


@pytest.mark.usefixtures("up_to_1_36")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_an_update_that_is_rolled_back(
    cluster: Cluster, plugins: Plugins, log: KubeletLog, *, namespace: str, tell, number: int
) -> None:
    """Up to 1.36 the kubelet takes the resource from the older instance too, and does not tell it."""
    plugins.start()
    until(lambda: registered(log, plugins), "the old instance is registered")
    cluster.kubectl("create", f"--namespace={namespace}", "--filename=-", input=replica_set("held", plugins.epc, 5))
    cluster.kubectl("wait", f"--namespace={namespace}", "--for=jsonpath={.status.readyReplicas}=5", "rs/held")
    new = plugins.start()
    until(lambda: registered(log, plugins, times=2), "the new instance is registered")
    log.mark()
    plugins.end(new, number)
    until(lambda: registered(log, plugins), "the old instance is registered again")
    (lost,) = [event for event in log.events() if event.message == LOST and event.values["resourceName"] == plugins.epc]
    tell(
        f"rolled back by {number.name} on 1.36: without the resource for {log.lists(plugins.epc)[0].after(lost):.2f} s"
    )
    until(lambda: offered(cluster, plugins.epc) == OFFERED_MIB, "the node offers all EPC again")
    cluster.kubectl("create", f"--namespace={namespace}", "--filename=-", input=replica_set("comes", plugins.epc, 5))
    cluster.kubectl("wait", f"--namespace={namespace}", "--for=jsonpath={.status.readyReplicas}=5", "rs/comes")
    pods = cluster.kubectl_json("get", "pods", f"--namespace={namespace}")["items"]
    assert [pod["status"]["phase"] for pod in pods] == ["Running"] * 10


def test_restart_to_allocatable_in_the_api(cluster: Cluster, plugins: Plugins, log: KubeletLog, tell) -> None:
    """What whoever looks at the node sees: the kubelet updates its status every ten seconds."""
    plugins.start()
    until(lambda: registered(log, plugins), "the plugin is registered")
    until(lambda: offered(cluster, plugins.epc) == OFFERED_MIB, "the node offers all EPC")
    took = []
    for _ in range(5):
        log.mark()
        began = time.monotonic()
        cluster.kubelet_restart()
        until(lambda: registered(log, plugins), "the plugin is registered again", seconds=30)
        until(lambda: offered(cluster, plugins.epc) == OFFERED_MIB, "the node offers all EPC again", seconds=30)
        took.append(time.monotonic() - began)
    tell(f"{len(took)} restarts, from the kubelet's end to all EPC in the API: longest {max(took):.1f} s")


@pytest.mark.timeout(300, func_only=True)
@pytest.mark.parametrize(("count", "pods"), [(10, 20), (1024, 1)])
def test_allocate_as_the_kubelet_sees_it(
    cluster: Cluster, plugins: Plugins, log: KubeletLog, *, namespace: str, tell, count: int, pods: int
) -> None:
    plugins.start(epc_mib=2048)
    until(lambda: registered(log, plugins), "the plugin is registered")
    until(lambda: offered(cluster, plugins.epc) == MOST_OFFERED_MIB, "the node offers all EPC")
    before = allocations(cluster, plugins.epc)
    spec = {"containers": [waiting_container(plugins.epc, count)]}
    for number in range(pods):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{number}"}, "spec": spec}
        cluster.kubectl("create", f"--namespace={namespace}", "--filename=-", input=json.dumps(pod))
        cluster.kubectl("wait", f"--namespace={namespace}", "--for=condition=Ready", f"pod/p{number}", "--timeout=60s")
    after = allocations(cluster, plugins.epc)
    calls, seconds = after[0] - before[0], after[1] - before[1]
    each = f"{seconds / calls * 1e3:.2f} ms each by the kubelet's metric"
    tell(f"Allocate of {count} among 2,042, {calls:.0f} calls: {each}")
    assert calls == pods


def offered(cluster: Cluster, resource: str) -> int:
    """What the API says of the node."""
    return int(cluster.kubectl_json("get", "node", NODE_NAME)["status"]["allocatable"].get(resource, 0))


def allocations(cluster: Cluster, resource: str) -> tuple[float, float]:
    """Allocate calls for a resource so far and the seconds that they took, as the kubelet counts them."""
    text = cluster.kubectl("get", "--raw", f"/api/v1/nodes/{NODE_NAME}/proxy/metrics").stdout
    name = "kubelet_device_plugin_alloc_duration_seconds"
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        if family.name == name
        for sample in family.samples
        if sample.labels["resource_name"] == resource
    }
    return found.get(f"{name}_count", 0.0), found.get(f"{name}_sum", 0.0)


@pytest.mark.timeout(300, func_only=True)
def test_twenty_kills_lose_no_pod(cluster: Cluster, plugins: Plugins, log: KubeletLog, namespace: str, tell) -> None:
    plugin = plugins.start()
    until(lambda: registered(log, plugins), "the plugin is registered")
    manifest = replica_set("held", plugins.epc, 5)
    cluster.kubectl("create", f"--namespace={namespace}", "--filename=-", input=manifest)
    cluster.kubectl("wait", f"--namespace={namespace}", "--for=jsonpath={.status.readyReplicas}=5", "rs/held")
    before = {
        pod["metadata"]["uid"] for pod in cluster.kubectl_json("get", "pods", f"--namespace={namespace}")["items"]
    }
    took = []
    for _ in range(KILLS):
        log.mark()
        plugins.end(plugin, signal.SIGKILL)
        plugin = plugins.start()
        began = time.monotonic()
        until(lambda: registered(log, plugins), "the next instance is registered")
        took.append(time.monotonic() - began)

    until(lambda: offered(cluster, plugins.epc) == OFFERED_MIB, "the node offers all EPC again")
    after = cluster.kubectl_json("get", "pods", f"--namespace={namespace}")["items"]
    tell(f"{KILLS} kills: registered again p50 {statistics.median(took):.2f} s after the next start, polled")
    assert {pod["metadata"]["uid"] for pod in after} == before
    assert [pod["status"]["phase"] for pod in after] == ["Running"] * 5
    assert [pod["status"]["containerStatuses"][0]["restartCount"] for pod in after] == [0] * 5


def test_a_reboot_of_the_node(installed: Cluster, namespace: str, tell) -> None:
    """As far as the kubelet can tell: it ends, every container is gone, and it starts again."""
    here = f"--namespace={namespace}"
    installed.kubectl("create", here, "--filename=-", input=replica_set("tenants", EPC, 5))
    spec = {"containers": [waiting_container(EPC)]}
    bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"}, "spec": spec}
    installed.kubectl("create", here, "--filename=-", input=json.dumps(bare))
    ready = "--for=jsonpath={.status.readyReplicas}=5"
    installed.kubectl("wait", here, ready, "rs/tenants", "--timeout=60s")
    installed.kubectl("wait", here, "--for=condition=Ready", "pod/bare", "--timeout=60s")

    installed.stop("kubelet")
    kill = "for task in $(ctr tasks list --quiet); do ctr tasks kill --signal SIGKILL --all $task; done"
    installed.run(["sh", "-c", kill])
    until(lambda: " RUNNING" not in installed.run(["ctr", "tasks", "list"]).stdout, "every container has ended")
    installed.start("kubelet")

    def all_are_back() -> bool:
        status = installed.kubectl_json("get", here, "rs", "tenants")["status"]
        bare = installed.kubectl_json("get", here, "pod", "bare")["status"]["phase"]
        return status.get("readyReplicas") == 5 and bare in {"Running", "Failed"}

    until(all_are_back, "the tenants of a controller run again", seconds=120)
    until(lambda: allocatable(installed) == ADD_ON_EPC_MIB, "the node offers its EPC")
    pods = installed.kubectl_json("get", "pods", here)["items"]
    failed = {
        pod["metadata"]["name"]: pod["status"].get("reason", "") for pod in pods if pod["status"]["phase"] == "Failed"
    }
    times = registration_times(installed)
    tell(
        f"reboot: the plugin was registered {max(times):.2f} s after the first line of its log; {len(failed)} of 6 "
        f"pods were rejected before and stay failed, {'with' if 'bare' in failed else 'without'} the bare one"
    )
    assert set(failed.values()) <= {"UnexpectedAdmissionError"}
    assert len(times) == 4


def registration_times(cluster: Cluster) -> list[float]:
    """Seconds from the first line of the running plugin's log to each of its registrations."""
    text = cluster.kubectl("logs", f"--namespace={SYSTEM}", "daemonset/confcom-device-plugin").stdout
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    began = datetime.fromisoformat(lines[0]["time"])
    return [
        (datetime.fromisoformat(line["time"]) - began).total_seconds()
        for line in lines
        if line["message"] == "registered"
    ]
