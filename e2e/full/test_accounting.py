"""Enclave memory is counted as the scheduler and the kubelet count it, and gives the devices that it should."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.add_on import EPC, EPC_MIB, SYSTEM, changes_pods
from e2e.cluster import Cluster, Node
from e2e.confcom_command import JSON, AddOn, codes_of
from e2e.sized_nodes import SizedNode, sized_nodes
from e2e.tenants import Manifest, Tenant, container, pod
from e2e.waiting import until

Nodes = tuple[Node, Node, Node]

ENCLAVE, PROVISION = "sgx.intel.com/enclave", "sgx.intel.com/provision"
HOLD = """
import os, signal, sys
print(os.environ.get("CONFCOM_SGX_EPC_MIB"), os.path.exists("/dev/sgx_enclave"), flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
signal.pause()
"""
TELL = "import os; print(os.environ.get('CONFCOM_SGX_EPC_MIB'), os.path.exists('/dev/sgx_enclave'))"
LOOK = """
import json, os, pathlib, stat
def numbers(path):
    status = path.stat()
    assert stat.S_ISCHR(status.st_mode)
    os.close(os.open(path, os.O_RDWR))
    return [os.major(status.st_rdev), os.minor(status.st_rdev)]
found = [path for path in pathlib.Path("/dev").rglob("*") if "sgx" in str(path) and not path.is_dir()]
print(json.dumps({str(path): numbers(path) for path in found}))
"""
IN_ALL = 100
"""What each of these Pods counts for, in MiB."""


def holding(name: str, mib: int, **more: object) -> Manifest:
    return container(name, limits={EPC: mib}, program=HOLD, **more)


def passing(name: str, mib: int) -> Manifest:
    return container(name, limits={EPC: mib}, program=TELL)


SHAPES = {
    "two containers": (pod("first", holding("a", 60), holding("b", 40)), {"a": 60, "b": 40}),
    "a large init container": (
        pod("first", holding("main", 80), initContainers=[passing("before", 100)]),
        {"before": 100, "main": 80},
    ),
    "a small init container": (
        pod("first", holding("a", 60), holding("b", 40), initContainers=[passing("before", 30)]),
        {"before": 30, "a": 60, "b": 40},
    ),
    "a sidecar": (
        pod("first", holding("main", 80), initContainers=[holding("beside", 20, restartPolicy="Always")]),
        {"beside": 20, "main": 80},
    ),
    "an init container before a sidecar": (
        pod(
            "first",
            holding("main", 80),
            initContainers=[passing("before", 50), holding("beside", 20, restartPolicy="Always")],
        ),
        {"before": 50, "beside": 20, "main": 80},
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shape_of_a_pod_decides_what_it_counts_for(sgx_nodes: Nodes, tenant: Tenant, shape: str) -> None:
    node = sgx_nodes[1].name
    first, budgets = SHAPES[shape]
    tenant.create({**first, "spec": {**first["spec"], "nodeSelector": {"kubernetes.io/hostname": node}}})
    tenant.wait_for_phase("first", "Running")
    for name, mib in budgets.items():
        assert tenant.log("first", of=name).strip() == f"{mib} True"

    tenant.create(pod("rest", holding("main", int(EPC_MIB) - IN_ALL), node=node))
    tenant.wait_for_phase("rest", "Running")
    tenant.create(pod("one-more", passing("main", 1), node=node))
    reason = tenant.why_pending("one-more")
    assert f"1 Insufficient {EPC}" in reason
    assert "2 node(s) didn't match Pod's node affinity/selector" in reason

    tenant.delete("rest")

    tenant.wait_for_phase("one-more", "Succeeded")
    assert tenant.log("one-more").strip() == "1 True"


def test_full_nodes_send_pods_on_or_have_them_wait(sgx_nodes: Nodes, tenant: Tenant) -> None:
    both = {node.name for node in sgx_nodes[:2]}
    for name in ("one", "two"):
        tenant.create(pod(name, holding("main", int(EPC_MIB))))
        tenant.wait_for_phase(name, "Running")
    assert {tenant.get(name)["spec"]["nodeName"] for name in ("one", "two")} == both
    tenant.create(pod("three", passing("main", 1)))
    why = tenant.why_pending("three")
    assert why.startswith("0/3 nodes are available: ")
    assert f"3 Insufficient {EPC}" in why

    tenant.delete("two")

    tenant.wait_for_phase("three", "Succeeded")


@pytest.mark.parametrize(
    ("limits", "devices"),
    [
        ({}, []),
        ({EPC: 1}, ["/dev/sgx/enclave", "/dev/sgx_enclave"]),
        ({ENCLAVE: 1}, ["/dev/sgx/enclave", "/dev/sgx_enclave"]),
        ({PROVISION: 1}, ["/dev/sgx/provision", "/dev/sgx_provision"]),
        (
            {EPC: 1, PROVISION: 1},
            ["/dev/sgx/enclave", "/dev/sgx/provision", "/dev/sgx_enclave", "/dev/sgx_provision"],
        ),
    ],
    ids=["nothing", "EPC", "enclave", "provision", "EPC and provision"],
)
def test_devices_have_the_nodes_numbers_in_both_spellings(
    sgx_nodes: Nodes, tenant: Tenant, limits: dict[str, int], devices: list[str]
) -> None:
    node = sgx_nodes[0]
    # Only the add-on's own namespace may ask for provision.
    owner = Tenant(tenant.cluster, SYSTEM) if PROVISION in limits else tenant
    name = f"look-{tenant.namespace}"
    owner.create(pod(name, container("main", limits=limits, program=LOOK), node=node.name))
    try:
        owner.wait_for_phase(name, "Succeeded")
        seen = json.loads(owner.log(name))
    finally:
        owner.delete(name)
    # A simulated node gives /dev/null.
    numbers = [int(part, 16) for part in node.run(["stat", "--format=%t %T", "/dev/null"]).stdout.split()]
    assert seen == dict.fromkeys(devices, numbers)


TIB, PODS = 1024 * 1024, 7
UPDATE = ("update", "--set")


@dataclass(frozen=True, slots=True)
class Lower:
    """A change to less EPC while Pods hold some of it."""

    epc_mib: int
    pods: int
    pod_mib: int
    change: tuple[str, ...]
    offered_mib: int
    """What a node without Pods would offer afterwards."""
    code: str
    """What `confcom status` says as long as the Pods run."""
    earlier_mib: int = 0
    """EPC of an earlier revision."""


LOWER = {
    "less EPC": Lower(TIB, PODS, TIB // 8, (*UPDATE, "simulated.epcMiB=1024"), 1_018, "epc-shortfall"),
    "a rollback": Lower(TIB, PODS, TIB // 8, ("rollback",), 1_018, "epc-shortfall", earlier_mib=1_024),
    "a reserve": Lower(TIB, PODS, TIB // 8, (*UPDATE, "devicePlugin.reserveEpcMiB=1000000"), 48_570, "epc-shortfall"),
    "a reserve, devices": Lower(168, 1, 100, (*UPDATE, "devicePlugin.reserveEpcMiB=100"), 62, "epc-kept"),
}


def said(made: AddOn) -> set[str]:
    """Codes of the problems and the notes of `confcom status`."""
    found = made.status()
    return {one["code"] for one in (*found["problem_details"], *found["notes"])}


@pytest.mark.timeout(1200, func_only=True)
@pytest.mark.parametrize("name", LOWER)
def test_a_lower_amount_fails_no_running_pod(cluster: Cluster, tenant: Tenant, tmp_path: Path, name: str) -> None:
    case = LOWER[name]
    if case.epc_mib == TIB and not changes_pods(cluster):
        pytest.skip("this API server cannot change Pods by policies")
    node = SizedNode(cluster.node, case.epc_mib)
    first = SizedNode(cluster.node, case.earlier_mib or case.epc_mib)
    values = {"devicePlugin": {"accounting": "capacity"}} if case.earlier_mib else None
    with sized_nodes(cluster, [first], tmp_path / "values.json", values) as made:
        if case.earlier_mib:
            made.confcom(*UPDATE, f"simulated.epcMiB={case.epc_mib}")
            until(lambda: node.is_offered(cluster), "the node offers all of it")
        for number in range(case.pods):
            tenant.create(pod(f"holds-{number}", holding("main", case.pod_mib), node=node.name))
        for number in range(case.pods):
            tenant.wait_for_phase(f"holds-{number}", "Running")
        before = made.status()["nodes"][0]["epc"]["accounting"]["kind"]

        if case.change[0] == "update":
            assert "epc-kept" in codes_of(made.confcom(*case.change, "--dry-run", JSON))
        assert "epc-kept" in codes_of(made.confcom(*case.change, JSON))
        until(lambda: case.code in said(made), "status says that the node keeps more")
        (found,) = made.status()["nodes"]
        epc = found["epc"]
        assert epc["accounting"]["kind"] == before
        held = case.pods * case.pod_mib
        assert epc["used_mib"] == held <= epc["allocatable_mib"]
        until(lambda: made.status()["ok"] is (held <= epc["offered_mib"]), "status is well only if the Pods fit")

        cluster.node.restart("kubelet")
        until(cluster.ready, "the node is Ready")
        until(lambda: case.code in said(made), "status says it after the restart too")
        for number in range(case.pods):
            status = tenant.get(f"holds-{number}")["status"]
            assert (status["phase"], status["containerStatuses"][0]["restartCount"]) == ("Running", 0)

        for number in range(case.pods):
            tenant.delete(f"holds-{number}")
        if before == "capacity":
            wanted = (case.offered_mib, case.offered_mib)
            until(lambda: amounts(made) == wanted, "the lower amount takes effect", seconds=120)


def amounts(made: AddOn) -> tuple[int, int]:
    """The node's capacity and allocatable EPC."""
    epc = made.status()["nodes"][0]["epc"]
    return epc["capacity_mib"], epc["allocatable_mib"]
