"""A node of 1 TiB beside one of 28 MiB: how each counts its EPC, and the controller as it is installed."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e import add_on
from e2e.add_on import CONTROLLER, EPC, SYSTEM
from e2e.beside import beside
from e2e.cluster import Cluster, Node
from e2e.confcom_command import JSON, AddOn, document_of
from e2e.described_node import DescribedNode
from e2e.images_workshop import references
from e2e.probes import metric, probed, samples
from e2e.relying_party import RelyingParty
from e2e.sized_nodes import SizedNode, sized_nodes
from e2e.tenants import QUOTE_PREFIX, Tenant, container, pod
from e2e.waiting import until

BYTES = "sgx.intel.com/epc"
HERE = f"--namespace={SYSTEM}"
HOLD = ("--hold", "3600")
DEVICES = """
import pathlib
print(*sorted(str(path) for path in pathlib.Path("/dev").rglob("*") if "sgx" in str(path) and path.is_char_device()))
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The add-on on two nodes of different size."""

    add_on: AddOn
    large: SizedNode
    small: SizedNode
    relying_party: RelyingParty

    @property
    def cluster(self) -> Cluster:
        return self.add_on.cluster

    def epc(self, node: SizedNode) -> dict[str, Any]:
        """What `confcom status` tells of a node."""
        (found,) = [one["epc"] for one in self.add_on.status()["nodes"] if one["name"] == node.name]
        return found

    def plugin(self, node: SizedNode) -> dict[str, Any]:
        return until(lambda: node.plugin(self.cluster), f"{node.name} has a plugin")

    def controller(self) -> dict[str, Any]:
        """The controller's only Pod, once it is ready."""

        def only() -> dict[str, Any] | None:
            found = self.add_on.all_pods("controller")
            return found[0] if len(found) == 1 and add_on.is_ready(found[0]) else None

        return until(only, "there is one controller, which is ready")


@pytest.fixture
def sizes(cluster: Cluster, nodes: tuple[Node, Node, Node], tmp_path: Path) -> Iterator[Sizes]:
    if not add_on.changes_pods(cluster):
        pytest.skip("this API server cannot change Pods by policies")
    large, small = SizedNode(nodes[2], 1024 * 1024), SizedNode(nodes[1], 28)
    with sized_nodes(cluster, [large, small], tmp_path / "values.json") as made:
        yield Sizes(made, large, small, RelyingParty.of(cluster, tmp_path / "trust"))


def each_node_tells_how_it_counts(sizes: Sizes) -> None:
    until(sizes.add_on.is_well, "all is well")
    for node, kind, choice in ((sizes.large, "capacity", "large-epc"), (sizes.small, "device", "fits-devices")):
        epc = sizes.epc(node)
        assert (epc["found_mib"], epc["resource"]) == (node.epc_mib, EPC)
        amounts = {epc[f"{one}_mib"] for one in ("offered", "capacity", "allocatable", "free")}
        assert (amounts, epc["used_mib"]) == ({node.offered_mib}, 0)
        accounting = epc["accounting"]
        assert (accounting["kind"], accounting["choice"], accounting["held_back_mib"]) == (kind, choice, 0)
        plugin = sizes.plugin(node)
        assert metric(sizes.cluster, plugin, "confcom_sgx_epc_accounting_info", kind=kind, choice=choice) == 1
        assert metric(sizes.cluster, plugin, "confcom_sgx_epc_bytes") == node.epc_mib * 2**20
        assert metric(sizes.cluster, plugin, "confcom_sgx_epc_advertised_bytes") == node.offered_mib * 2**20


def pods_count_and_have_what_they_should(sizes: Sizes, tenant: Tenant) -> None:
    asked = ((sizes.large, "900Gi", 900 * 1024), (sizes.small, "10Mi", 10))
    challenges = {node.name: secrets.token_hex(32) for node, _, _ in asked}
    for node, amount, _ in asked:
        environment = {"SGX_AESM_ADDR": "1", "CONFCOM_CHALLENGE": challenges[node.name]}
        main = container("main", limits={BYTES: amount}, environment=environment, arguments=HOLD)
        tenant.create(pod(node.name, main, node=node.name))
    for node, _, mib in asked:
        tenant.wait_for_phase(node.name, "Running")
        until(lambda name=node.name: QUOTE_PREFIX in tenant.log(name), f"{node.name} has its quote")
        sizes.relying_party.verify(tenant.quote(node.name), challenges[node.name])
        environ = tenant.kubectl("exec", node.name, "--", "env").stdout.splitlines()
        assert f"CONFCOM_SGX_EPC_MIB={mib}" in environ
        assert "CONFCOM_SGX_PLATFORM=simulated" in environ
        seen = tenant.kubectl("exec", node.name, "--", "python", "-c", DEVICES).stdout.split()
        assert seen == ["/dev/sgx/enclave", "/dev/sgx_enclave"]
        described = DescribedNode.of(sizes.cluster, node.name)
        assert (described.allocatable(EPC), described.requested(EPC)) == (node.offered_mib, mib)
        epc = sizes.epc(node)
        assert (epc["used_mib"], epc["free_mib"]) == (mib, node.offered_mib - mib)

    tenant.create(pod("more", container("main", limits={BYTES: "200Gi"})))
    reason = tenant.why_pending("more")
    assert "0/3 nodes are available" in reason
    assert f"3 Insufficient {EPC}" in reason
    tenant.delete(sizes.large.name)
    until(lambda: tenant.get("more")["spec"].get("nodeName") == sizes.large.name, "it is on the large node")
    tenant.delete("more")


def the_controller_writes_and_answers(sizes: Sizes) -> None:
    cluster, found = sizes.cluster, sizes.controller()
    (status,) = found["status"]["containerStatuses"]
    assert (status["image"], status["restartCount"]) == (references("controller")[0], 0)
    assert [probed(cluster, found, path).strip() for path in ("livez", "readyz")] == ["ok", "ok"]
    for kind in ("capacity", "device"):
        assert metric(cluster, found, "confcom_controller_plugins", accounting=kind) == 1
    sizes.large.write(cluster, None)
    until(lambda: sizes.large.is_offered(cluster), "what somebody has removed is there again")
    until(lambda: gave(cluster, found), "its metrics, which may be a second old, count that")
    node = cluster.kubectl_json("get", "node", sizes.large.name, "--show-managed-fields")
    owners = {one["manager"] for one in node["metadata"]["managedFields"] if f"f:{EPC}" in json.dumps(one)}
    assert owners == {CONTROLLER}


def gave(cluster: Cluster, controller: dict[str, Any]) -> bool:
    """Whether it has written an amount that was missing."""
    found = [one for one in samples(cluster, controller) if one.name == "confcom_controller_writes_total"]
    return any(one.value >= 1 for one in found if one.labels["kind"] == "give")


def the_network_policy_lets_the_controller_ask(sizes: Sizes) -> None:
    """The network of these cases enforces none; so its rule is compared with the Pods."""
    policy = sizes.cluster.kubectl_json("get", "networkpolicy", "confcom", HERE)["spec"]
    plugin, controller = sizes.plugin(sizes.large), sizes.controller()
    assert policy["podSelector"]["matchLabels"].items() <= plugin["metadata"]["labels"].items()
    (rule,) = policy["ingress"]
    assert rule["from"][0]["podSelector"]["matchLabels"].items() <= controller["metadata"]["labels"].items()
    ports = {one["name"]: one["containerPort"] for one in plugin["spec"]["containers"][0]["ports"]}
    assert [ports[one["port"]] for one in rule["ports"]] == [8080]


def disable_removes_the_keys_at_once(sizes: Sizes, tenant: Tenant) -> None:
    """Zero would end a Pod at the kubelet's next start."""
    node, amount = sizes.large.node, str(sizes.large.offered_mib)
    main = container("main", limits={EPC: 2**19}, environment={"SGX_AESM_ADDR": "1"}, arguments=HOLD)
    tenant.create(pod("holding", main))
    tenant.wait_for_phase("holding", "Running")

    key = EPC.replace(".", r"\.")
    shown = f"--output=jsonpath={{.status.capacity.{key}}}/{{.status.allocatable.{key}}}{{'\\n'}}"
    with beside(sizes.cluster, "get", "node", node.name, "--watch", shown, output=subprocess.PIPE) as watch:
        done = sizes.add_on.confcom("disable", "--yes", "--no-wait", JSON)
        assert EPC not in document_of(done)["leftovers"].get(node.name, [])
        status = sizes.cluster.kubectl_json("get", "node", node.name)["status"]
        assert not any(EPC in status[part] for part in ("capacity", "allocatable"))
        assert not sizes.add_on.all_pods("controller")
        node.restart("kubelet")
        until(sizes.cluster.ready, "the node is Ready")
        watch.terminate()
        seen = [line.split("/") for line in watch.communicate(timeout=30)[0].decode().splitlines()]
    assert (seen[0], seen[-1]) == ([amount, amount], ["", ""])
    assert all(one in {amount, ""} for event in seen for one in event)
    found = tenant.get("holding")["status"]
    assert (found["phase"], found["containerStatuses"][0]["restartCount"]) == ("Running", 0)


@pytest.mark.timeout(900, func_only=True)
def test_one_tib_beside_a_small_node(sizes: Sizes, tenant: Tenant) -> None:
    each_node_tells_how_it_counts(sizes)
    pods_count_and_have_what_they_should(sizes, tenant)
    the_controller_writes_and_answers(sizes)
    the_network_policy_lets_the_controller_ask(sizes)
    disable_removes_the_keys_at_once(sizes, tenant)
