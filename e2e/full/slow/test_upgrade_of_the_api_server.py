"""The API server and then the kubelets are upgraded from 1.35 to 1.36, while Pods with EPC run.

The old controller manager and scheduler stay, which a newer API server permits.
"""

import json
import time

import pytest

from e2e.add_on import CONTROLLER, EPC, HERE, RELEASE, changes_pods, is_ready
from e2e.cluster import Shape, tools
from e2e.confcom_command import JSON, SET_ASIDE_MIB, changes
from e2e.load.outcome import Outcome
from e2e.sized_nodes import SizedNode
from e2e.tenants import Tenant, container, pod
from e2e.waiting import until

CASE_SECONDS = 1200
"""Seconds for the case; usually it takes three minutes."""
BEFORE, AFTER = "1.35", "1.36"
OFFERED_MIB = 4096
"""MiB of EPC that each node offers to tenants: more than the default number of devices on 1.36."""
RATE = 1.0
"""Attestations per second of each client."""
BYTES_NAME = "sgx.intel.com/epc"
BACK_SECONDS = 150.0
"""Seconds for nodes to be Ready after an API server outage; see NODES_BACK_SECONDS in e2e/cluster."""

pytestmark = pytest.mark.timeout(CASE_SECONDS, func_only=True)


def pinned(minor: str) -> str:
    """The pinned Kubernetes version of this minor version, such as `1.35`."""
    return next(version for version in tools.versions() if version.startswith(f"{minor}."))


@pytest.fixture(scope="module")
def cluster(start_own_cluster):
    """A cluster of two nodes, all of 1.35, in place of the session's cluster."""
    return start_own_cluster(Shape(nodes=2, kubernetes=pinned(BEFORE)))


@pytest.fixture
def newer():
    """A function that finds a program of 1.36."""
    return tools.prepare(pinned(AFTER)).path


@pytest.fixture
def sizes(cluster):
    return [SizedNode(node, OFFERED_MIB + SET_ASIDE_MIB) for node in cluster.nodes]


def api_server_version(cluster):
    return json.loads(cluster.kubectl("version", JSON).stdout)["serverVersion"]["gitVersion"]


def accounting(add_on):
    """For each node: the way of counting EPC, the reason for it, and the MiB of EPC in the API."""
    found = add_on.epc()
    assert all(epc["capacity_mib"] == epc["allocatable_mib"] for epc in found.values())
    return {node: (epc["kind"], epc["choice"], epc["capacity_mib"]) for node, epc in found.items()}


def notes(add_on):
    assert add_on.is_well()
    return add_on.codes()


def goes_on(load, tenants):
    """Check that every client still attests, in its original Pod."""
    load.wait_past(time.monotonic())
    assert load.states() == tenants


def counted_as(tenant, resource, amount):
    """The limits that the API server returns for a container's request, in a dry run."""
    manifest = pod("counted", container("main", limits={resource: amount}))
    done = tenant.create(manifest, "--dry-run=server", JSON)
    return json.loads(done.stdout)["spec"]["containers"][0]["resources"]["limits"]


def test_upgraded_with_pods_running(cluster, add_on, start_load, party, *, newer, tenant: Tenant):
    mib = {node.name: OFFERED_MIB for node in cluster.nodes}

    # On 1.35, all EPC counts as devices, no manifest is rewritten, and users learn which name to write.
    assert api_server_version(cluster) == f"v{pinned(BEFORE)}"
    assert accounting(add_on) == {node: ("device", "api-server-old", here) for node, here in mib.items()}
    assert not changes_pods(cluster)
    assert counted_as(tenant, BYTES_NAME, "10Mi") == {BYTES_NAME: "10Mi"}
    assert notes(add_on) == {"api-server-old"}
    assert f"{EPC}: 10" in " ".join(cluster.helm("get", "notes", RELEASE, HERE).stdout.split())
    load = start_load(OFFERED_MIB, RATE)
    until(lambda: {phase for _, phase, _ in load.states().values()} == {"Running"}, "the API knows that they run")
    tenants = load.states()

    # Only the API server is newer: nothing breaks, and EPC is counted as before.
    cluster.stop("apiserver")
    cluster.start("apiserver", newer("kube-apiserver"))
    until(cluster.ready, "the nodes are Ready", seconds=BACK_SECONDS)
    assert api_server_version(cluster) == f"v{pinned(AFTER)}"
    until(add_on.is_well, "all is well", seconds=BACK_SECONDS)
    assert {node: kind for node, (kind, *_) in accounting(add_on).items()} == dict.fromkeys(mib, "device")
    assert {node: here for node, (*_, here) in accounting(add_on).items()} == mib
    assert changes_pods(cluster)
    assert counted_as(tenant, BYTES_NAME, "10Mi") == {BYTES_NAME: "10Mi"}
    assert notes(add_on) == {"api-server-old"}
    tenant.create(pod("one-more", container("main", limits={EPC: 1}, program="pass")))
    assert f"2 Insufficient {EPC}" in tenant.why_pending("one-more")
    tenant.delete("one-more")
    goes_on(load, tenants)

    # `confcom status` announces the policy, and says that the nodes in use keep their devices.
    assert changes(add_on.confcom("update", JSON))
    until(add_on.is_well, "all is well", seconds=BACK_SECONDS)
    assert accounting(add_on) == {node: ("device", "kept-devices", here) for node, here in mib.items()}
    assert counted_as(tenant, BYTES_NAME, "10Mi") == {EPC: "10", "sgx.intel.com/enclave": "1"}
    assert notes(add_on) == set()
    controllers = cluster.kubectl_json("get", "pods", HERE)["items"]
    assert [is_ready(one) for one in controllers if one["metadata"]["name"].startswith(CONTROLLER)] == [True]
    goes_on(load, tenants)

    # The new setting changes no node on which Pods hold devices.
    assert changes(add_on.confcom("update", "--set=devicePlugin.accounting=capacity", JSON))
    until(add_on.is_well, "all is well", seconds=BACK_SECONDS)
    assert accounting(add_on) == {node: ("device", "kept-allocated", here) for node, here in mib.items()}
    goes_on(load, tenants)

    # The kubelets are upgraded too, and find the devices of the Pods in their records.
    for node in cluster.nodes:
        node.stop("kubelet")
        node.start("kubelet", newer("kubelet"))
    until(lambda: kubelet_versions(cluster) == {f"v{pinned(AFTER)}"}, "the kubelets tell their version")
    until(add_on.is_well, "all is well", seconds=BACK_SECONDS)
    assert accounting(add_on) == {node: ("device", "kept-allocated", here) for node, here in mib.items()}
    goes_on(load, tenants)
    assert Outcome.verified(load, party).failures == []
    assert load.states() == {name: (uid, "Succeeded", 0) for name, (uid, *_) in tenants.items()}


def kubelet_versions(cluster):
    nodes = cluster.kubectl_json("get", "nodes")["items"]
    return {node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes}
