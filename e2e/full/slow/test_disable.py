"""`confcom disable` on the real cluster, whose kubelets keep a resource for five minutes after its plugin has gone."""

import json
import sys

import pytest

from confcom.playground.demo.context import examples_folder
from e2e.add_on import CHECKPOINT, EPC, EPC_MIB, SIMULATED_LABEL, SYSTEM, allocatable, install, uninstall
from e2e.images_workshop import CHART_REGISTRY

SLOW_SECONDS = 900
"""For the 5 minutes and what comes before and after."""
SECRET = f"{SYSTEM}/confcom-simulated-platform"
STAYS = {
    f"secrets/{SECRET}",
    f"configmaps/{SYSTEM}/confcom-simulated-root",  # the root's fingerprint, which goes with its Secret
    f"namespaces/<none>/{SYSTEM}",
    f"serviceaccounts/{SYSTEM}/default",  # Kubernetes makes these two in every namespace
    f"configmaps/{SYSTEM}/kube-root-ca.crt",
}
PLUGINS, AESM = "/var/lib/kubelet/device-plugins", "/run/aesmd"


def confcom(cluster, *arguments):
    done = cluster.run([sys.executable, "-m", "confcom", *arguments], check=False, timeout=SLOW_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def api_objects(cluster):
    """Every object of the API, events and leases excepted: they come and go by themselves."""
    kinds = cluster.kubectl("api-resources", "--verbs=list", "--output=name").stdout.split()
    columns = "--output=custom-columns=NS:.metadata.namespace,NAME:.metadata.name"
    found = set()
    for kind in kinds:
        if kind.partition(".")[0] not in {"events", "leases"}:
            listed = cluster.kubectl("get", kind, "--all-namespaces", columns, "--no-headers").stdout
            found |= {f"{kind}/{'/'.join(line.split())}" for line in listed.splitlines()}
    return found


def without(objects, namespace):
    return {one for one in objects if namespace not in one}


def written_on_nodes(cluster):
    """By the node's name: labels, annotations and taints."""
    nodes = cluster.kubectl_json("get", "nodes")["items"]
    return {
        node["metadata"]["name"]: (
            node["metadata"]["labels"],
            node["metadata"].get("annotations", {}),
            node["spec"].get("taints", []),
        )
        for node in nodes
    }


def status_keys(cluster):
    """The names of all resources in the nodes' status."""
    return {
        (node["metadata"]["name"], part, name)
        for node in cluster.kubectl_json("get", "nodes")["items"]
        for part in ("capacity", "allocatable")
        for name in node["status"][part]
    }


def entries(nodes, folder):
    """What is in the folder of each node, but for what the kubelet keeps there; nothing if it is not there."""
    return {node.name: set(node.run(["ls", folder], check=False).stdout.split()) - {CHECKPOINT} for node in nodes}


@pytest.fixture
def untouched(cluster, nodes):
    """Neither the add-on nor its namespace nor its label; afterwards the add-on is where other cases expect it."""
    uninstall(cluster)
    cluster.kubectl("delete", "namespace", SYSTEM, "--ignore-not-found")
    cluster.kubectl("label", "nodes", "--all", f"{SIMULATED_LABEL}-")
    confcom(cluster, "disable")  # whatever earlier cases left of the resources
    yield nodes
    install(cluster)


@pytest.mark.timeout(SLOW_SECONDS, func_only=True)
def test_nothing_stays_but_the_roots_secret_and_it_comes_back_the_same(cluster, untouched, namespace, tmp_path):
    sgx = [node.name for node in untouched[:2]]
    objects, written, keys = api_objects(cluster), written_on_nodes(cluster), status_keys(cluster)
    sockets = entries(untouched, PLUGINS)
    assert all("kubelet.sock" in found for found in sockets.values())
    assert not [one for one in objects if SYSTEM in one]
    assert not [name for _, _, name in keys if "sgx" in name]

    confcom(cluster, "enable", "--set", CHART_REGISTRY, *(f"--simulated-node={node}" for node in sgx))
    confcom(cluster, "simulation", "export", str(tmp_path / "before"))
    assert [node for node, found in entries(untouched, PLUGINS).items() if found - sockets[node]] == sgx
    assert [node for node, found in entries(untouched, AESM).items() if found == {"aesm.socket"}] == sgx
    here = f"--namespace={namespace}"
    cluster.kubectl("apply", here, "--filename=-", input=(examples_folder() / "job-holding.yaml").read_text())
    cluster.kubectl("wait", here, "--for=jsonpath={.status.ready}=1", "job/sgx-holding", "--timeout=60s")

    done = confcom(cluster, "disable", "--yes", "--output=json")

    assert f"{namespace}/sgx-holding" in done.stderr
    secret, kept_namespace, label = json.loads(done.stdout)["kept"]
    assert f" {SECRET}," in secret
    assert f"the namespace {SYSTEM} " in kept_namespace
    assert label.startswith(f"the label {SIMULATED_LABEL} on {', '.join(sgx)} ")
    assert without(api_objects(cluster), namespace) == without(objects, namespace) | STAYS
    for node in sgx:
        written[node][0][SIMULATED_LABEL] = "true"
    assert written_on_nodes(cluster) == written
    assert status_keys(cluster) == keys
    assert entries(untouched, PLUGINS) == sockets
    assert entries(untouched, AESM) == {node.name: set() for node in untouched}
    (pod,) = cluster.kubectl_json("get", "pods", here)["items"]
    assert pod["status"]["phase"] == "Running"

    confcom(cluster, "enable", "--simulated", "--set", CHART_REGISTRY)
    confcom(cluster, "simulation", "export", str(tmp_path / "after"))
    before, after = ((tmp_path / one / "root.sha256").read_text() for one in ("before", "after"))
    assert before == after
    assert [allocatable(cluster, node) for node in sgx] == [EPC_MIB, EPC_MIB]
    assert {node for node, _, name in status_keys(cluster) if name == EPC} == set(sgx)
    cluster.kubectl("delete", "job", "sgx-holding", here)
