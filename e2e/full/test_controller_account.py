"""The account of the installed controller on a real node: what its token may do, and that nothing else works."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from e2e import add_on
from e2e.add_on import CONTROLLER, EPC, SYSTEM
from e2e.api_access import proxied_as
from e2e.cluster import Cluster, Node
from e2e.controller_tries import (
    NODES,
    PLAIN,
    TOO_MUCH,
    Try,
    amounts,
    everything_on_nodes,
    other_changes,
    other_ways,
    own_changes,
)
from e2e.pools import Pool, pools_enabled
from e2e.waiting import until

pytestmark = pytest.mark.timeout(600, func_only=True)

POOL_MIB, MOST_MIB = 4096, 8192
"""Of the only SGX node, and what the controller may give to a node at most."""
FORBIDDEN = httpx2.codes.FORBIDDEN
CORE = "/api/v1"
OURS, DEFAULT = f"{CORE}/namespaces/{SYSTEM}", f"{CORE}/namespaces/default"
APPS, RBAC, ADMISSION = (
    f"/apis/{group}/v1" for group in ("apps", "rbac.authorization.k8s.io", "admissionregistration.k8s.io")
)
STABLE = ("capacity", "allocatable", "addresses", "daemonEndpoints", "nodeInfo")
"""What a kubelet reports of a node that nothing happens to, but for its conditions and images."""


@dataclass(frozen=True, slots=True)
class Account:
    """The controller's.

    Args:
        cluster: where.
        api: as it has it.
        pool: the SGX node, which has EPC as capacity.
        other: a node without SGX.
    """

    cluster: Cluster
    api: httpx2.Client
    pool: Pool
    other: Node

    def node(self) -> dict[str, Any]:
        return self.cluster.kubectl_json("get", "node", self.pool.node.name)

    def unchanged(self, before: Mapping[str, Any]) -> bool:
        now = self.node()
        same = all(now["status"][part] == before["status"][part] for part in STABLE)
        return same and all(
            now["metadata"].get(part) == before["metadata"].get(part) for part in ("labels", "annotations")
        )


@pytest.fixture(scope="module")
def account_once(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    if not add_on.changes_pods(cluster):
        pytest.skip("this API server cannot change Pods by policies")
    pool, folder = Pool("large", cluster.nodes[1], POOL_MIB), tmp_path_factory.mktemp("account")
    values = {"controller": {"maxEpcMiBPerNode": MOST_MIB}}
    with (
        pools_enabled(cluster, [pool], folder / "values.json", values),
        proxied_as(cluster, CONTROLLER, SYSTEM, folder) as access,
    ):
        yield Account(cluster, access.client(), pool, cluster.nodes[2])


@pytest.fixture
def account(account_once: Account, nodes: tuple[Node, Node, Node]) -> Account:
    until(lambda: account_once.pool.is_offered(account_once.cluster), "the node offers its EPC")
    return account_once


@pytest.fixture
def widened(account: Account) -> Iterator[Account]:
    """The account with all rights on nodes, so that the policy alone confines it."""
    user = f"system:serviceaccount:{SYSTEM}:{CONTROLLER}"
    account.cluster.kubectl("create", "--filename=-", input=json.dumps(everything_on_nodes(user)))
    status = f"{NODES}/{account.pool.node.name}/status"
    until(lambda: account.api.get(status).status_code == httpx2.codes.OK, "the rights are there")
    yield account
    account.cluster.kubectl("delete", "clusterrolebinding,clusterrole", TOO_MUCH)
    until(lambda: account.api.get(status).status_code == FORBIDDEN, "the rights are gone")


def answered(api: httpx2.Client, tries: Mapping[str, Try]) -> dict[str, httpx2.Response]:
    return {name: one.sent(api) for name, one in tries.items()}


def not_refused_by_policy(answers: Mapping[str, httpx2.Response]) -> dict[str, int]:
    told = "ValidatingAdmissionPolicy 'confcom-controller'"
    return {n: one.status_code for n, one in answers.items() if one.status_code != FORBIDDEN or told not in one.text}


def not_refused_by_rbac(answers: Mapping[str, httpx2.Response]) -> dict[str, int]:
    user = f'User \\"system:serviceaccount:{SYSTEM}:{CONTROLLER}\\" cannot'
    return {n: one.status_code for n, one in answers.items() if one.status_code != FORBIDDEN or user not in one.text}


def test_other_changes_of_the_status_are_refused_by_the_policy(account: Account) -> None:
    before = account.node()
    assert not_refused_by_policy(answered(account.api, other_changes(account.pool.node.name, MOST_MIB))) == {}
    assert account.unchanged(before)


def test_a_node_without_sgx_gets_nothing(account: Account) -> None:
    path = f"{NODES}/{account.other.name}/status"
    given = {
        "capacity": Try(path, amounts({EPC: "10"})),
        "allocatable": Try(path, {"status": {"allocatable": {EPC: "1"}}}),
    }
    assert not_refused_by_policy(answered(account.api, given)) == {}
    assert EPC not in account.cluster.kubectl_json("get", "node", account.other.name)["status"]["capacity"]


def test_everything_else_is_refused_by_rbac(account: Account) -> None:
    before = account.node()
    name = account.pool.node.name
    tries = {way: one for way, one in other_ways(before).items() if way not in {"apply-cpu", "dry-run"}}
    pod = {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    event = {"metadata": {"name": "x"}, "involvedObject": {"namespace": SYSTEM}}
    deployment, role = f"{APPS}/namespaces/{SYSTEM}/deployments", f"{RBAC}/clusterroles"
    tries |= {
        "get-status": Try(f"{NODES}/{name}/status", method="GET"),
        "proxy-to-kubelet": Try(f"{NODES}/{name}/proxy/configz", method="GET"),
        "get-pod": Try(f"{DEFAULT}/pods/x", method="GET"),
        "create-pod": Try(f"{OURS}/pods", pod, "POST", PLAIN),
        "delete-pods": Try(f"{OURS}/pods", method="DELETE"),
        "exec": Try(f"{OURS}/pods/x/exec?command=id", method="POST"),
        "bind-pod": Try(f"{OURS}/pods/x/binding", {"target": {"name": name}}, "POST", PLAIN),
        "evict-pod": Try(f"{OURS}/pods/x/eviction", {}, "POST", PLAIN),
        "pod-status": Try(f"{OURS}/pods/x/status", {"status": {"phase": "Failed"}}),
        "secrets": Try(f"{CORE}/secrets", method="GET"),
        "own-secrets": Try(f"{OURS}/secrets", method="GET"),
        "configmaps": Try(f"{OURS}/configmaps", method="GET"),
        "token": Try(f"{OURS}/serviceaccounts/default/token", {}, "POST", PLAIN),
        "namespaces": Try(f"{CORE}/namespaces", method="GET"),
        "events": Try(f"{DEFAULT}/events", method="GET"),
        "event-elsewhere": Try(f"{OURS}/events", event, "POST", PLAIN),
        "leases": Try("/apis/coordination.k8s.io/v1/leases", method="GET"),
        "daemonsets": Try(f"{APPS}/daemonsets", method="GET"),
        "scale-itself": Try(f"{deployment}/{CONTROLLER}/scale", {"spec": {"replicas": 0}}),
        "change-itself": Try(f"{deployment}/{CONTROLLER}", {"spec": {"replicas": 0}}),
        "more-rights": Try(f"{role}/{CONTROLLER}", {"rules": []}),
        "bind-rights": Try(f"{RBAC}/clusterrolebindings", everything_on_nodes("x"), "POST", PLAIN),
        "policy": Try(f"{ADMISSION}/validatingadmissionpolicies/{CONTROLLER}", method="DELETE"),
        "binding": Try(f"{ADMISSION}/validatingadmissionpolicybindings/{CONTROLLER}", method="DELETE"),
        "csr": Try("/apis/certificates.k8s.io/v1/certificatesigningrequests", {}, "POST", PLAIN),
        "metrics": Try("/metrics", method="GET"),
    }
    assert not_refused_by_rbac(answered(account.api, tries)) == {}
    assert account.unchanged(before)


def test_what_rbac_would_allow_is_refused_by_the_policy(widened: Account) -> None:
    before = widened.node()
    assert not_refused_by_policy(answered(widened.api, other_ways(before))) == {}
    assert widened.unchanged(before)
    assert widened.cluster.ready()


def test_an_amount_that_is_none_is_refused(account: Account) -> None:
    path = f"{NODES}/{account.pool.node.name}/status"
    answers = answered(account.api, {one: Try(path, amounts({EPC: one})) for one in ("-3", "1500m", "x")})
    assert {one.status_code for one in answers.values()} <= {400, FORBIDDEN, 422}
    assert account.pool.is_offered(account.cluster)


def test_its_own_work_is_accepted_and_a_wrong_amount_is_put_right(account: Account) -> None:
    reads = {
        "nodes": Try(f"{NODES}?limit=1", method="GET"),
        "node": Try(f"{NODES}/{account.other.name}", method="GET"),
        "watch": Try(f"{NODES}?watch=true&timeoutSeconds=1", method="GET"),
        "pods": Try(f"{CORE}/pods?limit=1", method="GET"),
        "watch-pods": Try(f"{CORE}/pods?watch=true&timeoutSeconds=1", method="GET"),
    }
    event = {
        "metadata": {"generateName": "case-", "namespace": "default"},
        "involvedObject": {"kind": "Node", "name": account.pool.node.name},
        "reason": "Case",
        "type": "Normal",
    }
    created = Try(f"{DEFAULT}/events", event, "POST", PLAIN).sent(account.api)
    assert created.status_code == httpx2.codes.CREATED
    account.cluster.kubectl("delete", "event", created.json()["metadata"]["name"], "--namespace=default")
    answers = answered(account.api, {**reads, **own_changes(account.pool.node.name, MOST_MIB)})
    assert {one.status_code for one in answers.values()} == {httpx2.codes.OK}
    assert EPC not in answers["remove"].json()["status"]["capacity"]
    until(lambda: account.pool.is_offered(account.cluster), "the controller has written what the plugin found")


def test_the_kubelet_and_an_administrator_are_not_confined(account: Account) -> None:
    """Whoever has the right can write any other capacity, and the kubelet makes it allocatable."""
    name, other = account.pool.node.name, "example.com/case"

    def write(part: str, amount: str | None) -> None:
        patch = json.dumps({"status": {part: {other: amount}}})
        account.cluster.kubectl("patch", "node", name, "--subresource=status", "--type=merge", f"--patch={patch}")

    write("capacity", "1")
    try:
        until(lambda: account.node()["status"]["allocatable"].get(other) == "1", "the kubelet has reported")
    finally:
        write("capacity", None)
        until(lambda: other not in account.node()["status"]["allocatable"], "the kubelet has reported again")
