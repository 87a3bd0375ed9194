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

from confcom.errors import ExitCode
from e2e import add_on
from e2e.add_on import CONTROLLER, EPC, SYSTEM
from e2e.beside import beside
from e2e.cluster import Cluster, Node
from e2e.confcom_command import HELPER, JSON, AddOn, changes, codes_of, document_of
from e2e.described_node import DescribedNode
from e2e.images_workshop import references
from e2e.probes import metric, probed, samples
from e2e.relying_party import RelyingParty
from e2e.sized_nodes import SizedNode, enable, sized_nodes
from e2e.tenants import QUOTE_PREFIX, Tenant, container, pod
from e2e.waiting import until

pytestmark = pytest.mark.timeout(600, func_only=True)

BYTES, ENCLAVE = "sgx.intel.com/epc", "sgx.intel.com/enclave"
TIB_MIB, SMALL_MIB = 1024 * 1024, 28
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
    values: Path
    relying_party: RelyingParty

    @property
    def cluster(self) -> Cluster:
        return self.add_on.cluster

    def epc(self) -> dict[str, dict[str, Any]]:
        """By the node's name, what `confcom status` tells."""
        return {node["name"]: node["epc"] for node in self.add_on.status()["nodes"]}

    def plugin(self, node: SizedNode) -> dict[str, Any]:
        found = until(lambda: node.plugin(self.cluster), f"{node.name} has a plugin")
        assert found
        return found

    def daemons(self) -> set[str]:
        """UIDs of all plugins and helpers."""
        found = [*map(self.plugin, (self.large, self.small)), *self.add_on.pods(HELPER).values()]
        return {one["metadata"]["uid"] for one in found}

    def controllers(self) -> list[dict[str, Any]]:
        """Its Pods that are not about to go."""
        found = self.add_on.all_pods("controller")
        return [one for one in found if "deletionTimestamp" not in one["metadata"]]

    def controller(self) -> dict[str, Any]:
        """Its only Pod, once it is ready."""
        found: dict[str, Any] = until(
            lambda: one[0] if len(one := self.controllers()) == 1 and add_on.is_ready(one[0]) else None,
            "there is one controller, which is ready",
        )
        return found

    def offers_no_device(self) -> bool:
        """A kubelet reports every ten seconds that a plugin is gone; until then nothing can be enabled."""
        nodes = self.cluster.kubectl_json("get", "nodes")["items"]
        return all(one["status"]["allocatable"].get(ENCLAVE, "0") == "0" for one in nodes)

    def offers(self) -> bool:
        return self.large.is_offered(self.cluster) and self.small.is_offered(self.cluster)


@pytest.fixture(scope="module")
def enabled_once(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sizes]:
    if not add_on.changes_pods(cluster):
        pytest.skip("this API server cannot change Pods by policies")
    large, small = SizedNode(cluster.nodes[2], TIB_MIB), SizedNode(cluster.nodes[1], SMALL_MIB)
    folder = tmp_path_factory.mktemp("sizes")
    file, values = folder / "values.json", {"networkPolicy": {"enabled": True}}
    with sized_nodes(cluster, [large, small], file, values) as made:
        yield Sizes(made, large, small, file, RelyingParty.of(cluster, folder / "trust"))


@pytest.fixture
def sizes(enabled_once: Sizes, nodes: tuple[Node, Node, Node]) -> Sizes:
    """Both nodes offer all of their EPC, also after a case that has disabled the add-on."""
    if not enabled_once.controllers():
        until(enabled_once.offers_no_device, "the API knows that the plugins are gone")
        enable(enabled_once.add_on, (enabled_once.large, enabled_once.small), enabled_once.values)
    until(enabled_once.offers, "both nodes offer their EPC")
    return enabled_once


def test_each_node_tells_its_size_and_how_it_counts(sizes: Sizes) -> None:
    status = sizes.add_on.status()
    assert status["ok"], status["problems"]
    told = {node["name"]: node["epc"] for node in status["nodes"]}
    for node, kind, choice in ((sizes.large, "capacity", "large-epc"), (sizes.small, "device", "fits-devices")):
        epc = told[node.name]
        assert (epc["found_mib"], epc["resource"]) == (node.epc_mib, EPC)
        amounts = {epc[f"{one}_mib"] for one in ("offered", "capacity", "allocatable", "free")}
        assert (amounts, epc["used_mib"]) == ({node.offered_mib}, 0)
        accounting = epc["accounting"]
        assert (accounting["kind"], accounting["choice"], accounting["held_back_mib"]) == (kind, choice, 0)
        plugin = sizes.plugin(node)
        assert metric(sizes.cluster, plugin, "confcom_sgx_epc_accounting_info", kind=kind, choice=choice) == 1
        assert metric(sizes.cluster, plugin, "confcom_sgx_epc_bytes") == node.epc_mib * 2**20
        assert metric(sizes.cluster, plugin, "confcom_sgx_epc_advertised_bytes") == node.offered_mib * 2**20


def test_pods_on_both_count_and_have_what_they_should(sizes: Sizes, tenant: Tenant) -> None:
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
        epc = sizes.epc()[node.name]
        assert (epc["used_mib"], epc["free_mib"]) == (mib, node.offered_mib - mib)

    tenant.create(pod("more", container("main", limits={BYTES: "200Gi"})))
    reason = tenant.why_pending("more")
    assert "0/3 nodes are available" in reason
    assert f"3 Insufficient {EPC}" in reason
    tenant.delete(sizes.large.name)
    until(lambda: tenant.get("more")["spec"].get("nodeName") == sizes.large.name, "it is on the large node")


def test_the_controller_is_the_projects_image_and_answers(sizes: Sizes) -> None:
    found = sizes.controller()
    image = references("controller")[0]
    (status,) = found["status"]["containerStatuses"]
    assert (found["spec"]["containers"][0]["image"], status["image"]) == (image, image)
    assert status["restartCount"] == 0
    assert [probed(sizes.cluster, found, path).strip() for path in ("livez", "readyz")] == ["ok", "ok"]
    assert metric(sizes.cluster, found, "confcom_controller_plugins", accounting="capacity") == 1
    assert metric(sizes.cluster, found, "confcom_controller_plugins", accounting="device") == 1
    assert metric(sizes.cluster, found, "confcom_controller_contact_age_seconds", feed="nodes") < 180
    sizes.large.write(sizes.cluster, None)
    until(lambda: sizes.large.is_offered(sizes.cluster), "what somebody has removed is there again")
    until(lambda: gave(sizes.cluster, found), "its metrics, which may be a second old, count that")
    node = sizes.cluster.kubectl_json("get", "node", sizes.large.name, "--show-managed-fields")
    owners = {one["manager"] for one in node["metadata"]["managedFields"] if f"f:{EPC}" in json.dumps(one)}
    assert owners == {CONTROLLER}


def gave(cluster: Cluster, controller: dict[str, Any]) -> bool:
    """Whether it has written an amount that was missing."""
    found = [one for one in samples(cluster, controller) if one.name == "confcom_controller_writes_total"]
    return any(one.value >= 1 for one in found if one.labels["kind"] == "give")


def test_network_policies_name_what_the_controller_talks_to(sizes: Sizes) -> None:
    """The network of these cases enforces none; so the ports are compared with those that are used."""
    policy = sizes.cluster.kubectl_json("get", "networkpolicy", CONTROLLER, HERE)["spec"]
    labels = sizes.controller()["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    to_plugins, to_api = policy["egress"]
    plugin = sizes.plugin(sizes.large)
    assert to_plugins["to"][0]["podSelector"]["matchLabels"].items() <= plugin["metadata"]["labels"].items()
    ports = {one["name"]: one["containerPort"] for one in plugin["spec"]["containers"][0]["ports"]}
    assert [ports[one["port"]] for one in to_plugins["ports"]] == [8080]
    (endpoints,) = sizes.cluster.kubectl_json(
        "get", "endpointslices", "--selector=kubernetes.io/service-name=kubernetes"
    )["items"]
    used = {443, *(one["port"] for one in endpoints["ports"])}
    assert used <= {one["port"] for one in to_api["ports"]}
    # The plugins let it in.
    plugins = sizes.cluster.kubectl_json("get", "networkpolicy", "confcom", HERE)["spec"]
    assert plugins["podSelector"]["matchLabels"].items() <= plugin["metadata"]["labels"].items()
    assert "from" not in plugins["ingress"][0]


def test_update_and_rollback_include_the_controller(sizes: Sizes) -> None:
    before = sizes.controller()
    assert changes(sizes.add_on.confcom("update", "--set=logLevel=debug", JSON))
    after = sizes.controller()
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert "--log-level=debug" in after["spec"]["containers"][0]["args"]
    until(sizes.offers, "both nodes offer their EPC")
    assert changes(sizes.add_on.confcom("rollback", JSON))
    again = sizes.controller()
    assert again["spec"]["containers"][0]["args"] == before["spec"]["containers"][0]["args"]
    until(sizes.offers, "both nodes offer their EPC")
    until(sizes.add_on.is_well, "all is well")


def test_a_controller_that_cannot_start_is_told_and_rolled_back(sizes: Sizes) -> None:
    before = sizes.controller()
    bad = ("--set=controller.image.tag=not-there", "--set=controller.image.pullPolicy=Never")
    done = sizes.add_on.confcom("update", *bad, "--timeout=30", JSON, code=ExitCode.NOT_READY)
    assert "ErrImageNeverPull" in done.stderr
    assert codes_of(done)
    # The old one serves meanwhile, and the daemons are as they were.
    assert before["metadata"]["uid"] in {one["metadata"]["uid"] for one in sizes.controllers()}
    daemons = sizes.daemons()
    assert sizes.offers()
    assert changes(sizes.add_on.confcom("rollback", JSON))
    assert sizes.controller()["metadata"]["uid"] == before["metadata"]["uid"]
    assert sizes.daemons() == daemons
    until(sizes.add_on.is_well, "all is well")


def test_without_a_controller_status_says_so(sizes: Sizes) -> None:
    sizes.cluster.kubectl("scale", "deployment", CONTROLLER, HERE, "--replicas=0")
    until(lambda: not sizes.add_on.all_pods("controller"), "the controller has gone")
    done = sizes.add_on.confcom("status", JSON, code=ExitCode.NOT_READY)
    assert "controller-missing" in codes_of(done)
    assert sizes.offers()
    sizes.cluster.kubectl("scale", "deployment", CONTROLLER, HERE, "--replicas=1")
    assert sizes.controller()
    until(sizes.add_on.is_well, "all is well")


@dataclass(slots=True)
class Watched:
    """What the API server tells of a node's EPC, one line for each event."""

    process: subprocess.Popen[bytes]

    def end(self) -> list[list[str]]:
        """Capacity and allocatable, event by event."""
        self.process.terminate()
        told, _ = self.process.communicate(timeout=30)
        return [line.split("/") for line in told.decode().splitlines()]


@pytest.fixture
def watched(sizes: Sizes) -> Iterator[Watched]:
    key = EPC.replace(".", r"\.")
    shown = f"--output=jsonpath={{.status.capacity.{key}}}/{{.status.allocatable.{key}}}{{'\\n'}}"
    with beside(sizes.cluster, "get", "node", sizes.large.name, "--watch", shown, output=subprocess.PIPE) as process:
        yield Watched(process)


def test_disable_removes_the_keys_at_once_and_a_pod_outlives_it(sizes: Sizes, tenant: Tenant, watched: Watched) -> None:
    """Zero would end the Pod at the kubelet's next start."""
    node, amount = sizes.large.node, str(sizes.large.offered_mib)
    tenant.create(
        pod("holding", container("main", limits={EPC: 2**19}, environment={"SGX_AESM_ADDR": "1"}, arguments=HOLD))
    )
    tenant.wait_for_phase("holding", "Running")

    done = sizes.add_on.confcom("disable", "--yes", "--no-wait", JSON)

    assert EPC not in document_of(done)["leftovers"].get(node.name, [])
    status = sizes.cluster.kubectl_json("get", "node", node.name)["status"]
    assert not any(EPC in status[part] for part in ("capacity", "allocatable"))
    assert not sizes.add_on.all_pods("controller")
    node.restart("kubelet")
    until(sizes.cluster.ready, "the node is Ready")
    seen = watched.end()
    assert seen[0] == [amount, amount]
    assert seen[-1] == ["", ""]
    assert all(one in {amount, ""} for event in seen for one in event)
    found = tenant.get("holding")
    assert found["status"]["phase"] == "Running"
    assert found["status"]["containerStatuses"][0]["restartCount"] == 0
