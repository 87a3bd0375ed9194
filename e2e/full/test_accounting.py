"""A change to less EPC waits until Pods that hold more have ended, whichever setting lowers the amount."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from e2e.add_on import EPC, changes_pods
from e2e.cluster import Cluster
from e2e.confcom_command import JSON, SET_ASIDE_MIB, codes_of
from e2e.sized_nodes import SizedNode, enabled
from e2e.tenants import HOLD, Tenant, container, pod
from e2e.waiting import until

TIB, PODS = 1024 * 1024, 7
UPDATE = ("update", "--set")


@dataclass(frozen=True, slots=True)
class Lower:
    """A change to less EPC while Pods hold EPC."""

    epc_mib: int
    pods: int
    pod_mib: int
    change: tuple[str, ...]
    offered_mib: int
    """MiB that a node without Pods would offer after the change."""
    code: str
    """Problem code that `confcom status` shows while the Pods run."""
    earlier_mib: int = 0
    """MiB of EPC that an earlier revision offers."""


LOWER = {
    "less EPC": Lower(TIB, PODS, TIB // 8, (*UPDATE, "simulated.epcMiB=1024"), 1_018, "epc-shortfall"),
    "a rollback": Lower(TIB, PODS, TIB // 8, ("rollback",), 1_018, "epc-shortfall", earlier_mib=1_024),
    "a reserve": Lower(TIB, PODS, TIB // 8, (*UPDATE, "devicePlugin.reserveEpcMiB=1000000"), 48_570, "epc-shortfall"),
    "a reserve, devices": Lower(168, 1, 100, (*UPDATE, "devicePlugin.reserveEpcMiB=100"), 62, "epc-kept"),
}


@pytest.mark.timeout(1200, func_only=True)
@pytest.mark.parametrize("name", LOWER)
def test_a_lower_amount_fails_no_running_pod(cluster: Cluster, tenant: Tenant, name: str) -> None:
    case = LOWER[name]
    if case.epc_mib == TIB and not changes_pods(cluster):
        pytest.skip("this API server cannot change Pods by policies")
    node = SizedNode(cluster.node, case.epc_mib)
    first = SizedNode(cluster.node, case.earlier_mib or case.epc_mib)
    values = {"devicePlugin": {"accounting": "capacity"}} if case.earlier_mib else None
    with enabled(cluster, [first], values) as made:
        if case.earlier_mib:
            made.confcom(*UPDATE, f"simulated.epcMiB={case.epc_mib}")
            until(lambda: node.is_offered(cluster), "the node offers all of it")
        for number in range(case.pods):
            tenant.create(
                pod(f"holds-{number}", container("main", limits={EPC: case.pod_mib}, program=HOLD), node=node.name)
            )
        for number in range(case.pods):
            tenant.wait_for_phase(f"holds-{number}", "Running")
        before = made.epc()[node.name]["kind"]

        if case.change[0] == "update":
            assert "epc-kept" in codes_of(made.confcom(*case.change, "--dry-run", JSON))
        assert "epc-kept" in codes_of(made.confcom(*case.change, JSON))
        until(lambda: case.code in made.codes(), "status says that the node keeps more")
        epc = made.epc()[node.name]
        assert epc["kind"] == before
        held = case.pods * case.pod_mib
        assert epc["used_mib"] == held <= epc["allocatable_mib"]
        until(lambda: made.status()["ok"] is (held <= epc["offered_mib"]), "status is well only if the Pods fit")

        cluster.node.restart("kubelet")
        until(cluster.ready, "the node is Ready")
        until(lambda: case.code in made.codes(), "status says it after the restart too")
        for number in range(case.pods):
            status = tenant.get(f"holds-{number}")["status"]
            assert (status["phase"], status["containerStatuses"][0]["restartCount"]) == ("Running", 0)

        for number in range(case.pods):
            tenant.delete(f"holds-{number}")
        if before == "capacity":
            lower = SizedNode(cluster.node, case.offered_mib + SET_ASIDE_MIB)
            until(lambda: lower.is_offered(cluster), "the lower amount takes effect", seconds=120)
