"""Hand-over between device plugins under a burst of Pods, seen in the API, in the kubelet and in its log."""

import json
import secrets
import signal
import subprocess
import sys

import pytest

from e2e.beside import beside
from e2e.cluster.addresses import DEVICE_PLUGINS, NODE_NAME
from e2e.kubelet_log import LIST_PROCESSED, LOST, KubeletLog
from e2e.tenants import HOLD, container
from e2e.waiting import until

PODS, GROUPS = 40, 8
EPC_MIB, OFFERED_MIB = 168, 162
"""MiB of EPC of a node: the total, and the total without the part that is set aside for quote helpers."""
END_SECONDS = 20.0
"""Seconds for a plugin to end after SIGTERM; usually less than a second."""
DEREGISTERED = "Deregistered client"
IN_FLIGHT = "Pod was rejected: Allocate failed due to rpc error: "
KINDS = ("epc", "enclave", "provision", "helper")

pytestmark = pytest.mark.timeout(600, func_only=True)


class Plugins:
    """Plugin processes outside of the cluster, with their own resource names, which serve the first node."""

    def __init__(self, cluster, folder):
        self.folder = folder
        self.directory = cluster.node.inside(DEVICE_PLUGINS)
        self.unique = secrets.token_hex(3)
        self.names = [f"example.com/{self.unique}-{kind}" for kind in KINDS]
        self.epc = self.names[0]
        self.running = []

    def start(self):
        number = len(self.running)
        command = [sys.executable, "-m", "confcom.device_plugin", "--simulated", f"--simulated-epc-mib={EPC_MIB}"]
        command += [f"--host-root={self.folder}", f"--device-plugin-dir={self.directory}"]
        command += [f"--installation={self.unique}", f"--probe-address=unix:{self.folder}/p{number}"]
        command += [f"--{kind}-resource={name}" for kind, name in zip(KINDS, self.names, strict=True)]
        with (self.folder / f"plugin{number}.log").open("wb") as log:
            self.running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log))
        return self.running[-1]

    def end(self, plugin, number=signal.SIGTERM):
        plugin.send_signal(number)
        plugin.wait(END_SECONDS)


@pytest.fixture
def start_plugins(cluster, tmp_path):
    made = []

    def start(name):
        folder = tmp_path / name
        folder.mkdir()
        made.append(Plugins(cluster, folder))
        return made[-1]

    yield start
    for plugins in made:
        for plugin in plugins.running:
            plugins.end(plugin)


@pytest.fixture
def log(cluster):
    found = KubeletLog(cluster.node.kubelet_log)
    found.mark()
    return found


def registered(log, plugins, times=1):
    """Whether the kubelet has processed this many lists of each resource since the log's mark."""
    return all(len(log.lists(name)) >= times for name in plugins.names)


def replica_set(name, resource):
    """Pods that hold one device each; their controller replaces every rejected Pod."""
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [container("main", limits={resource: 1}, program=HOLD)]},
    }
    spec = {"replicas": PODS // GROUPS, "selector": {"matchLabels": labels}, "template": template}
    return json.dumps({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name}, "spec": spec})


def wait_until_offered(cluster, plugins):
    def offered():
        return cluster.kubectl_json("get", "node", NODE_NAME)["status"]["allocatable"].get(plugins.epc)

    until(lambda: offered() == str(OFFERED_MIB), "the node offers all EPC")


def pods_in(cluster, namespace):
    return cluster.kubectl_json("get", "pods", f"--namespace={namespace}")["items"]


def disconnected(log, plugins):
    """Whether the kubelet has disconnected from an instance since the log's mark."""
    return set(plugins.names) <= {event.values["name"] for event in log.events() if event.message == DEREGISTERED}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("first_to_end", ["old", "new"])
def test_a_hand_over_under_a_burst_of_pods(
    cluster, start_plugins, log, namespace, *, kubelet_version, first_to_end, number
):
    """In an update the old instance ends first; if the update is rolled back, the new instance ends first."""
    keeps, plugins = kubelet_version >= (1, 37), start_plugins("plugins")
    old = plugins.start()
    until(lambda: registered(log, plugins), "the old instance is registered")
    wait_until_offered(cluster, plugins)
    shown = "--output=jsonpath={.status.allocatable." + plugins.epc.replace(".", r"\.") + "}{'\\n'}"
    with beside(cluster, "get", "node", NODE_NAME, "--watch", shown, output=subprocess.PIPE) as watch:
        new = plugins.start()
        until(lambda: registered(log, plugins, times=2), "the new instance is registered")
        log.mark()
        for group in range(GROUPS):
            manifest = replica_set(f"burst-{group}", plugins.epc)
            cluster.kubectl("create", f"--namespace={namespace}", "--filename=-", input=manifest)
            if group == GROUPS // 2:
                plugins.end(old if first_to_end == "old" else new, number)
                if not keeps:
                    # Up to 1.36 the kubelet also takes the resource from the other instance, without notice.
                    until(lambda: registered(log, plugins), "the other instance is registered again")
        if keeps:
            until(lambda: disconnected(log, plugins), "the kubelet has seen the end")

        def ready():
            sets = cluster.kubectl_json("get", "replicasets", f"--namespace={namespace}")["items"]
            return sum(one["status"].get("readyReplicas", 0) for one in sets)

        until(lambda: ready() == PODS, "every controller has its pods running", seconds=120)
        # Each report has all resources, so the later plugin's resources appear together with the others.
        later = start_plugins("later")
        later.start()
        wait_until_offered(cluster, later)
        watch.terminate()
        values = set(watch.communicate(timeout=30)[0].decode().split())
    rejected = [pod["status"]["message"] for pod in pods_in(cluster, namespace) if pod["status"]["phase"] == "Failed"]
    assert len(pods_in(cluster, namespace)) - len(rejected) == PODS
    assert all(message.startswith("Pod was rejected: ") for message in rejected)
    wait_until_offered(cluster, plugins)
    if not keeps:
        return
    assert plugins.epc not in {event.values["resourceName"] for event in log.events() if event.message == LOST}
    lists = [event.values for event in log.events() if event.message == LIST_PROCESSED]
    assert {one["healthyCount"] for one in lists if one["resourceName"] == plugins.epc} <= {str(OFFERED_MIB)}
    assert values == {str(OFFERED_MIB)}
    if first_to_end == "old":  # by then calls go to the new plugin; a plugin that ends loses open calls
        assert not rejected
    assert all(message.startswith(IN_FLIGHT) for message in rejected)
