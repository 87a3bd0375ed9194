"""The cluster itself is what the other cases take it for: three machines that share nothing but their network."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest

from confcom.errors import UnavailableError
from e2e.cluster import Cluster, CommandError, Node
from e2e.cluster.addresses import API_SERVICE_ADDRESS
from e2e.cluster.self_check import OWN_FOLDERS
from e2e.images_workshop import references
from e2e.waiting import until

Nodes = tuple[Node, Node, Node]

ASK_THE_API = f"""
import ssl
from urllib.request import Request, urlopen
folder = "/var/run/secrets/kubernetes.io/serviceaccount"
trust = ssl.create_default_context(cafile=f"{{folder}}/ca.crt")
bearer = {{"Authorization": "Bearer " + open(f"{{folder}}/token").read()}}
print(urlopen(Request("https://{API_SERVICE_ADDRESS}/version", headers=bearer), context=trust).read().decode())
"""
PORT = 8080
SERVE = f"""
import http.server, os
class Names(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{{os.environ['HOSTNAME']}} to {{self.client_address[0]}}".encode())
http.server.HTTPServer(("", {PORT}), Names).serve_forever()
"""
WAIT = "import time; time.sleep(600)"
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"


def pod(name: str, command: str, node: Node, **more: object) -> str:
    container = {
        "name": "main",
        "image": references("sample-workload")[0],
        "imagePullPolicy": "Never",
        "command": ["python", "-c", command],
    }
    spec = {"containers": [container], "nodeName": node.name, "terminationGracePeriodSeconds": 0}
    metadata = {"name": name, "labels": {"app": name}}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, **more}})


def status(cluster: Cluster, namespace: str, name: str) -> dict:
    return cluster.kubectl_json("get", f"--namespace={namespace}", "pod", name)["status"]


@pytest.fixture
def run(cluster: Cluster, namespace: str):
    """Creates a pod, and waits until it is ready."""

    def start(name: str, command: str, node: Node, **more: object) -> None:
        here = f"--namespace={namespace}"
        cluster.kubectl("apply", here, "--filename=-", input=pod(name, command, node, **more))
        cluster.kubectl("wait", here, "--for=condition=Ready", f"pod/{name}", "--timeout=60s")

    return start


@pytest.fixture
def ask(cluster: Cluster, namespace: str):
    """Runs Python in a pod."""

    def inside(name: str, command: str, *arguments: str) -> str:
        python = ["python", "-c", command, *arguments]
        return cluster.kubectl("exec", f"--namespace={namespace}", name, "--", *python).stdout.strip()

    return inside


def test_a_pod_on_each_node_reaches_the_api_at_its_service(cluster: Cluster, nodes: Nodes, namespace: str) -> None:
    here = f"--namespace={namespace}"
    for node in nodes:
        once = pod(f"on-{node.name}", ASK_THE_API, node, restartPolicy="Never")
        cluster.kubectl("apply", here, "--filename=-", input=once)
    for node in nodes:
        name = f"on-{node.name}"
        cluster.kubectl("wait", here, "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", "--timeout=60s")
        answer = json.loads(cluster.kubectl("logs", here, name).stdout)
        info = cluster.kubectl_json("get", "node", node.name)["status"]["nodeInfo"]
        assert answer["gitVersion"] == info["kubeletVersion"]


def test_pods_reach_each_other_from_every_node_to_every_node(cluster, nodes: Nodes, namespace, run, ask) -> None:
    names = [f"on-{node.name}" for node in nodes]
    for node, name in zip(nodes, names, strict=True):
        run(name, SERVE, node)
    addresses = {name: status(cluster, namespace, name)["podIP"] for name in names}
    assert len(set(addresses.values())) == 3
    for client in names:
        for server in names:
            answer = ask(client, ASK, f"http://{addresses[server]}:{PORT}/")
            assert answer == f"{server} to {addresses[client]}"


def test_a_service_is_reached_from_every_node(cluster: Cluster, nodes: Nodes, namespace, run, ask) -> None:
    run("serves", SERVE, nodes[1])
    here = f"--namespace={namespace}"
    cluster.kubectl("expose", here, "pod", "serves", f"--port={PORT}")
    service = cluster.kubectl_json("get", here, "service", "serves")["spec"]["clusterIP"]
    for node in nodes:
        run(f"asks-on-{node.identity.number}", WAIT, node)

        def answer(asking: str = f"asks-on-{node.identity.number}") -> str:
            return ask(asking, ASK, f"http://{service}:{PORT}/")

        assert until(answer, "kube-proxy knows the service").startswith("serves to ")
        fetched = node.run(["python3", "-c", ASK, f"http://{service}:{PORT}/"]).stdout
        assert fetched.startswith("serves to ")


def test_pods_outlive_the_kubelet(cluster: Cluster, nodes: Nodes, namespace: str, run, ask) -> None:
    run("stays", WAIT, nodes[1])
    nodes[1].restart("kubelet")
    assert until(lambda: ask("stays", "print(6 * 7)"), "the kubelet knows its pods again") == "42"
    assert status(cluster, namespace, "stays")["containerStatuses"][0]["restartCount"] == 0


def test_pods_outlive_containerd(cluster: Cluster, nodes: Nodes, namespace: str, run, ask) -> None:
    run("stays", WAIT, nodes[1])
    nodes[1].kill("containerd")
    with pytest.raises(CommandError):
        ask("stays", "print(6 * 7)")
    nodes[1].start("containerd")
    assert until(lambda: ask("stays", "print(6 * 7)"), "containerd knows its pods again") == "42"
    until(cluster.ready, "all nodes are Ready")
    assert status(cluster, namespace, "stays")["containerStatuses"][0]["restartCount"] == 0


def test_pods_outlive_the_api_server(cluster: Cluster, nodes: Nodes, namespace: str, run, ask) -> None:
    run("stays", WAIT, nodes[2])
    cluster.kill("apiserver")
    with pytest.raises(CommandError):
        cluster.kubectl("get", "nodes")
    assert "stays" in nodes[2].run(["sh", "-c", "cat /var/log/pods/*/main/0.log; ls /var/log/pods"]).stdout
    cluster.start("apiserver")
    assert ask("stays", "print(6 * 7)") == "42"
    assert status(cluster, namespace, "stays")["containerStatuses"][0]["restartCount"] == 0


@pytest.mark.parametrize("folder", [*(f"/{folder}" for folder in OWN_FOLDERS), "/var/run", "/var"])
def test_a_file_of_one_node_is_seen_nowhere_else(nodes: Nodes, folder: str) -> None:
    name = f"{folder}/confcom-e2e-{secrets.token_hex(4)}"
    for node in nodes:
        node.run(["touch", name])
        assert not Path(name).exists()
        seen_by = [each for each in nodes if not each.run(["test", "-e", name], check=False).returncode]
        assert seen_by == [node]
        node.run(["rm", name])


def test_a_reboot_of_one_node(cluster: Cluster, nodes: Nodes, namespace: str, run, ask) -> None:
    """Its processes, /run and /dev go, its disk stays; the kubelet takes it for a reboot; the others notice nothing."""
    _, node, other = nodes
    run("reboots", WAIT, node)
    run("stays", WAIT, other)
    node.run(["touch", "/run/gone", "/dev/gone", "/var/kept"])
    before = cluster.kubectl_json("get", "node", node.name)["status"]["nodeInfo"]
    pid = node.pid

    node.power_off()

    assert not node.on
    with pytest.raises(UnavailableError, match=node.name):
        node.run(["true"])
    assert not Path(f"/proc/{pid}").exists()
    node.power_on()

    def seen_by_the_api() -> bool:
        after = cluster.kubectl_json("get", "node", node.name)["status"]["nodeInfo"]
        assert after["machineID"] == before["machineID"]
        return after["bootID"] != before["bootID"]

    until(seen_by_the_api, "the kubelet reports another boot")
    found = node.run(["ls", "/run/gone", "/dev/gone", "/var/kept"], check=False)
    assert found.stdout.split() == ["/var/kept"]

    def restarted() -> int:
        containers = status(cluster, namespace, "reboots")["containerStatuses"]
        return containers[0]["restartCount"] if containers[0]["ready"] else 0

    assert until(restarted, "the pod runs again") == 1
    assert ask("reboots", "print(6 * 7)") == "42"
    assert status(cluster, namespace, "stays")["containerStatuses"][0]["restartCount"] == 0


def test_nodes_differ_where_machines_do(cluster: Cluster, nodes: Nodes) -> None:
    infos = [cluster.kubectl_json("get", "node", node.name)["status"]["nodeInfo"] for node in nodes]
    for kind in ("bootID", "machineID"):
        assert len({info[kind] for info in infos}) == 3
