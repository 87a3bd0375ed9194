"""`confcom disable` on the real cluster, whose kubelets keep a resource for five minutes after its plugin has gone."""

import time

import pytest

from confcom.errors import ExitCode
from e2e.add_on import (
    CHECKPOINT,
    EPC,
    EPC_MIB,
    HERE,
    ROOT_SECRET,
    SIMULATED_LABEL,
    SYSTEM,
    allocatable,
    install,
    uninstall,
)
from e2e.cluster.addresses import DEVICE_PLUGINS
from e2e.confcom_command import JSON, codes_of, confcom, document_of
from e2e.images import CHART_REGISTRY
from e2e.relying_party import RelyingParty
from e2e.running_change import in_background
from e2e.tenants import example
from e2e.waiting import until

SECRET = f"{SYSTEM}/{ROOT_SECRET}"
STAYS = {
    f"secrets/{SECRET}",
    f"namespaces/<none>/{SYSTEM}",
    f"serviceaccounts/{SYSTEM}/default",  # Kubernetes makes these two objects in every namespace
    f"configmaps/{SYSTEM}/kube-root-ca.crt",
}
PLUGINS, AESM = str(DEVICE_PLUGINS), "/run/aesmd"
CLEANING_SECONDS = 315.0
"""Seconds for the kubelets to remove a resource, and 15 s more."""
SPARE_SECONDS = 60.0
"""Seconds for the rest of the command, on a busy machine."""


def without(objects, namespace):
    return {one for one in objects if namespace not in one}


def written_on_nodes(cluster):
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
    return {
        (node["metadata"]["name"], part, name)
        for node in cluster.kubectl_json("get", "nodes")["items"]
        for part in ("capacity", "allocatable")
        for name in node["status"][part]
    }


def entries(nodes, folder):
    """Entries of this folder on each node, except the kubelet's entries; empty for a missing folder."""
    return {node.name: set(node.run(["ls", folder], check=False).stdout.split()) - {CHECKPOINT} for node in nodes}


@pytest.fixture
def untouched(cluster, nodes):
    """A cluster without add-on, namespace and label; afterwards the fixture installs the add-on again."""
    uninstall(cluster)
    cluster.kubectl("delete", "namespace", SYSTEM, "--ignore-not-found")
    cluster.kubectl("label", "nodes", "--all", f"{SIMULATED_LABEL}-")
    confcom(cluster, "disable")  # remains of the resources from earlier cases
    yield nodes
    install(cluster)


@pytest.mark.timeout(900, func_only=True)
def test_only_the_root_stays_and_comes_back_the_same(cluster, untouched, tenant, tmp_path):
    sgx = [node.name for node in untouched[:2]]
    objects, written, keys = cluster.objects(), written_on_nodes(cluster), status_keys(cluster)
    sockets = entries(untouched, PLUGINS)
    assert all("kubelet.sock" in found for found in sockets.values())
    assert not [one for one in objects if SYSTEM in one]
    assert not [name for _, _, name in keys if "sgx" in name]

    confcom(cluster, "enable", "--set", CHART_REGISTRY, *(f"--simulated-node={node}" for node in sgx))
    before = RelyingParty.of(cluster, tmp_path / "before")
    assert [node for node, found in entries(untouched, PLUGINS).items() if found - sockets[node]] == sgx
    assert [node for node, found in entries(untouched, AESM).items() if found == {"aesm.socket"}] == sgx
    tenant.create(example("job-holding.yaml"))
    tenant.wait_for_quote("job/sgx-holding")

    done = confcom(cluster, "disable", "--yes", JSON)

    assert f"{tenant.namespace}/sgx-holding" in done.stderr
    secret, kept_namespace, label = document_of(done)["kept"]
    assert f" {SECRET}," in secret
    assert f"the namespace {SYSTEM} " in kept_namespace
    assert label.startswith(f"the label {SIMULATED_LABEL} on {', '.join(sgx)} ")
    assert without(cluster.objects(), tenant.namespace) == without(objects, tenant.namespace) | STAYS
    for node in sgx:
        written[node][0][SIMULATED_LABEL] = "true"
    assert written_on_nodes(cluster) == written
    assert status_keys(cluster) == keys
    assert entries(untouched, PLUGINS) == sockets
    assert entries(untouched, AESM) == {node.name: set() for node in untouched}
    assert tenant.pod_of("sgx-holding")["status"]["phase"] == "Running"

    confcom(cluster, "enable", "--simulated", "--set", CHART_REGISTRY)
    confcom(cluster, "status", "--wait")
    assert RelyingParty.of(cluster, tmp_path / "after").root == before.root
    assert [allocatable(cluster, node) for node in sgx] == [EPC_MIB, EPC_MIB]
    assert {node for node, _, name in status_keys(cluster) if name == EPC} == set(sgx)
    tenant.kubectl("delete", "job", "sgx-holding")


@pytest.mark.timeout(900, func_only=True)
def test_an_interrupted_disable_is_finished_by_another(cluster, untouched, tmp_path):
    node, keys = untouched[0].name, status_keys(cluster)
    confcom(cluster, "enable", "--set", CHART_REGISTRY, f"--simulated-node={node}")
    confcom(cluster, "status", "--wait")
    with in_background(cluster, tmp_path, "disable", "--yes") as first:
        until(lambda: not cluster.helm("list", HERE, "--short").stdout, "helm has removed the release")
        first.signal("INT")
        done = first.result.result()
    assert (done.returncode, codes_of(done)) == (ExitCode.INTERRUPTED, {"interrupted"})
    assert status_keys(cluster) != keys

    began = time.monotonic()
    confcom(cluster, "disable")
    assert time.monotonic() - began < CLEANING_SECONDS + SPARE_SECONDS
    assert status_keys(cluster) == keys
