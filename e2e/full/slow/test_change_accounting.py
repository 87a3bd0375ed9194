"""`confcom change-accounting` on drained nodes with 1 TiB of EPC: there, and back again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from confcom.addon.status.accounting_change import FORGETTING_SECONDS
from confcom.errors import ExitCode
from e2e.add_on import EPC, SYSTEM
from e2e.cluster import Cluster, Node
from e2e.confcom_command import HELPER, PLUGIN, SET_ASIDE_MIB, AddOn, enabled
from e2e.tenants import Tenant, container, pod
from e2e.waiting import until

CASE_SECONDS = 1200
"""The kubelet keeps devices for five minutes; twice that for a machine with other work."""
SMALL_MIB, LARGE_MIB, MOST_DEVICES = 168, 1_048_576, 2_048
OFFERED_MIB = LARGE_MIB - SET_ASIDE_MIB
HOLD = "import signal; signal.pause()"
JSON = "--output=json"
ENCLAVE = "sgx.intel.com/enclave"


def amounts(cluster: Cluster, node: Node) -> tuple[str, str]:
    """Capacity and allocatable EPC, as the API has them."""
    status = cluster.kubectl_json("get", "node", node.name)["status"]
    return status["capacity"].get(EPC, ""), status["allocatable"].get(EPC, "")


def mib(quantity: str) -> int:
    return int(quantity.removesuffix("k")) * (1000 if quantity.endswith("k") else 1)


@pytest.fixture
def both(cluster: Cluster, nodes: tuple[Node, Node, Node]) -> Iterator[AddOn]:
    """Two nodes with 1 TiB, counted as devices."""
    settings = ("devicePlugin.accounting=devices", f"simulated.epcMiB={LARGE_MIB}")
    with enabled(cluster, nodes[:2], epc_mib=MOST_DEVICES + SET_ASIDE_MIB, settings=settings) as add_on:
        try:
            yield add_on
        finally:
            add_on.confcom("disable", "--yes")


def offered(both: AddOn) -> set[tuple[str, int]]:
    """How the nodes' EPC is counted, and how much of it the API has, as capacity and allocatable alike."""
    found = {one["name"]: one["epc"] for one in both.status()["nodes"]}
    for node in both.nodes:
        assert {mib(one) for one in amounts(both.cluster, node)} == {found[node.name]["allocatable_mib"]}
    return {(found[node.name]["accounting"]["kind"], found[node.name]["allocatable_mib"]) for node in both.nodes}


def had_pods(tenant: Tenant, *nodes: Node) -> None:
    """Pods with EPC run on these nodes, and end: the kubelets remember them."""
    for node in nodes:
        tenant.create(pod(f"app-{node.name}", container("main", limits={EPC: 8}, program=HOLD), node=node.name))
    for node in nodes:
        tenant.wait_for_phase(f"app-{node.name}", "Running")


def limits_what_a_node_gets(both: AddOn) -> None:
    """The controller's maximum takes EPC from nodes that have more, which is no problem of it, and gives it back."""
    for maximum, notes in ((LARGE_MIB // 4, ["epc-limited"]), (LARGE_MIB, [])):
        both.confcom("update", f"--set=controller.maxEpcMiBPerNode={maximum}")
        wanted = min(maximum, OFFERED_MIB)
        for node in both.nodes:
            until(lambda n=node, w=wanted: {mib(one) for one in amounts(both.cluster, n)} == {w}, f"{wanted} MiB")
        found = both.status()
        assert [one["code"] for one in found["notes"]] == notes
        assert found["problems"] == []


@pytest.mark.timeout(CASE_SECONDS, func_only=True)
def test_there_and_back(both: AddOn, tenant: Tenant, tell: Callable[[str], None]) -> None:
    first, second = both.nodes
    had_pods(tenant, first, second)
    refused = both.confcom("change-accounting", "capacity", JSON, code=ExitCode.REFUSED)
    assert json.loads(refused.stdout)["error"]["code"] == "epc-pods-running"
    for node in both.nodes:
        tenant.delete(f"app-{node.name}")
    helpers = both.pods(HELPER)

    began = time.monotonic()
    changed = json.loads(both.confcom("change-accounting", "capacity", JSON).stdout)

    took = time.monotonic() - began
    tell(f"devices to capacity: {took:.0f} s")
    assert took >= FORGETTING_SECONDS
    assert {one["kind"] for one in changed["accounting"]} == {"capacity"}
    assert offered(both) == {("capacity", OFFERED_MIB)}
    # The kubelets remembered the Pods, and only a Pod with a device made them forget these.
    again = both.pods(HELPER)
    assert all(again[node.name]["metadata"]["uid"] != helpers[node.name]["metadata"]["uid"] for node in both.nodes)
    limits_what_a_node_gets(both)
    half = LARGE_MIB // 2
    tenant.create(pod("half", container("main", limits={EPC: half}, program=HOLD), node=first.name))
    tenant.wait_for_phase("half", "Running")
    tenant.create(pod("more", container("main", limits={EPC: half}, program=HOLD), node=first.name))
    assert f"Insufficient {EPC}" in tenant.why_pending("more")
    for name in ("half", "more"):
        tenant.delete(name)

    began = time.monotonic()
    changed = json.loads(both.confcom("change-accounting", "auto", JSON).stdout)

    tell(f"capacity to auto: {time.monotonic() - began:.0f} s")
    assert {one["kind"] for one in changed["accounting"]} == {"capacity"}
    assert offered(both) == {("capacity", OFFERED_MIB)}
    had_pods(tenant, first)
    tenant.delete(f"app-{first.name}")

    began = time.monotonic()
    changed = json.loads(both.confcom("change-accounting", "devices", JSON).stdout)

    tell(f"capacity to devices: {time.monotonic() - began:.0f} s")
    assert {one["kind"] for one in changed["accounting"]} == {"device"}
    assert offered(both) == {("device", MOST_DEVICES)}
    # It stays so: nobody undoes it.
    tenant.create(pod("last", container("main", limits={EPC: MOST_DEVICES}, program=HOLD), node=first.name))
    tenant.wait_for_phase("last", "Running")
    assert [mib(one) for one in amounts(both.cluster, first)] == [MOST_DEVICES, MOST_DEVICES]


@pytest.fixture
def without_helper(cluster: Cluster, nodes: tuple[Node, Node, Node]) -> Iterator[AddOn]:
    """A node whose release has a device plugin only, and sets no EPC aside."""
    settings = ("devicePlugin.accounting=devices", "quoteHelper.enabled=false", f"simulated.epcMiB={SMALL_MIB}")
    with enabled(cluster, nodes[:1], epc_mib=SMALL_MIB + SET_ASIDE_MIB, settings=settings) as add_on:
        try:
            yield add_on
        finally:
            add_on.confcom("disable", "--yes")


def kind_of(add_on: AddOn, node: Node) -> str:
    """How the node's device plugin counts."""
    (here,) = [one["epc"] for one in add_on.status()["nodes"] if one["name"] == node.name]
    return str((here["accounting"] or {}).get("kind"))


@pytest.mark.timeout(CASE_SECONDS, func_only=True)
def test_without_a_quote_helper_it_says_what_helps(without_helper: AddOn, tenant: Tenant) -> None:
    (node,) = without_helper.nodes
    had_pods(tenant, node)
    tenant.delete(f"app-{node.name}")

    failed = without_helper.confcom("change-accounting", "capacity", JSON, code=ExitCode.NOT_READY)

    error = json.loads(failed.stdout)["error"]
    plugin = without_helper.pods(PLUGIN)[node.name]["metadata"]["name"]
    assert error["code"] == "accounting-kept-for-ended-pods"
    assert ENCLAVE in error["do"]
    assert plugin in error["do"]
    without_helper.cluster.kubelet_restart()
    without_helper.wait_for_epc()
    delete = ("delete", "pod", f"--namespace={SYSTEM}")
    without_helper.cluster.kubectl(*delete, plugin)
    plugin = without_helper.pods(PLUGIN)[node.name]["metadata"]["name"]
    assert kind_of(without_helper, node) == "device"  # a restart of the kubelet does not help

    tenant.create(pod("any", container("main", limits={ENCLAVE: 1}, program="pass"), node=node.name))
    tenant.wait_for_phase("any", "Succeeded")
    without_helper.cluster.kubectl(*delete, plugin)
    without_helper.pods(PLUGIN)

    assert kind_of(without_helper, node) == "capacity"
