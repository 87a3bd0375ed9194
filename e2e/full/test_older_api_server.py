"""An API server before 1.36 cannot change Pods by policies: everybody is told what to write, and all else works."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from confcom.errors import ExitCode
from e2e import add_on
from e2e.add_on import CONTROLLER, EPC, RELEASE, SYSTEM
from e2e.admission.cases import dry_run
from e2e.admission.pattern import BYTES, MIB, PROVISION, app, template
from e2e.admission.patterns import PATTERNS
from e2e.cluster import Cluster
from e2e.confcom_command import JSON, SET_ASIDE_MIB, AddOn, codes_of
from e2e.described_node import DescribedNode
from e2e.probes import metric
from e2e.relying_party import RelyingParty
from e2e.sized_nodes import SizedNode, sized_nodes
from e2e.tenants import Tenant, container, pod, quoting_pod

pytestmark = pytest.mark.timeout(600, func_only=True)

MOST_DEVICES = 262_144
"""Of a node: the kubelet takes no longer list."""
HELD_BACK_MIB = 1_000
SMALL_MIB = 168
HERE = f"--namespace={SYSTEM}"


@dataclass(frozen=True, slots=True)
class Older:
    """The add-on on a node with more EPC than devices can count, and on a small one."""

    add_on: AddOn
    large: SizedNode
    small: SizedNode
    relying_party: RelyingParty

    @property
    def cluster(self) -> Cluster:
        return self.add_on.cluster


@pytest.fixture(scope="module")
def older(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Older]:
    if add_on.changes_pods(cluster):
        pytest.skip("this API server can change Pods by policies: make e2e-1.34")
    large = SizedNode(cluster.nodes[2], MOST_DEVICES + HELD_BACK_MIB + SET_ASIDE_MIB, HELD_BACK_MIB)
    small = SizedNode(cluster.nodes[1], SMALL_MIB)
    folder = tmp_path_factory.mktemp("sizes")
    with sized_nodes(cluster, [large, small], folder / "values.json") as made:
        yield Older(made, large, small, RelyingParty.of(cluster, folder / "trust"))


@pytest.mark.usefixtures("nodes")
def test_each_node_counts_devices_and_says_what_is_held_back(older: Older) -> None:
    status = older.add_on.status()
    assert status["ok"], status["problems"]
    assert {one["code"] for one in status["notes"]} == {"api-server-old", "epc-held-back"}
    told = {node["name"]: node["epc"] for node in status["nodes"]}
    for node, choice in ((older.large, "api-server-old"), (older.small, "fits-devices")):
        epc = told[node.name]
        assert (epc["found_mib"], epc["resource"]) == (node.epc_mib, EPC)
        amounts = {epc[f"{one}_mib"] for one in ("offered", "capacity", "allocatable", "free")}
        assert amounts == {node.offered_mib}
        accounting = epc["accounting"]
        assert (accounting["kind"], accounting["choice"]) == ("device", choice)
        assert accounting["held_back_mib"] == node.held_back_mib
        (plugin,) = node.plugins(older.cluster)
        assert metric(older.cluster, plugin, "confcom_sgx_epc_accounting_info", kind="device", choice=choice) == 1


def test_nothing_is_installed_that_this_api_server_lacks(older: Older) -> None:
    everything = older.cluster.helm("get", "manifest", RELEASE, HERE).stdout
    assert "MutatingAdmissionPolicy" not in everything
    deployments = older.cluster.kubectl_json("get", "deployments", HERE)["items"]
    assert [one for one in deployments if one["metadata"]["name"] == CONTROLLER] == []


def test_commands_and_notes_tell_what_to_write(older: Older) -> None:
    assert f"{EPC}: 10" in " ".join(older.cluster.helm("get", "notes", RELEASE, HERE).stdout.split())
    refused = older.add_on.confcom("update", "--set=devicePlugin.accounting=capacity", JSON, code=ExitCode.USAGE)
    assert "capacity-not-supported" in codes_of(refused)


@pytest.mark.usefixtures("older")
def test_the_other_name_stays_and_templates_are_warned_of(older: Older, tenant: Tenant) -> None:
    asks = app({BYTES: "9M"})
    for kind in ("Job", "Deployment"):
        (warning,) = dry_run(tenant, template(kind, asks)).warnings
        assert f"Write {MIB}: 9" in warning
    assert dry_run(tenant, asks).made["spec"]["containers"][0]["resources"]["limits"] == {BYTES: "9M"}
    tenant.create(pod("by-bytes", container("main", limits={BYTES: "10Mi"}, program="pass")))
    assert f"Insufficient {BYTES}" in tenant.why_pending("by-bytes")


@pytest.mark.usefixtures("older")
def test_refusals_and_other_warnings_are_as_on_later_ones(tenant: Tenant) -> None:
    amounts = [
        one for one in PATTERNS if one.refused and MIB in json.dumps(one.pod) and BYTES not in json.dumps(one.pod)
    ]
    assert amounts
    for pattern in amounts:
        answer = dry_run(tenant, pattern.pod)
        assert answer.made == {}
        assert pattern.refused in answer.said
    (warning,) = dry_run(tenant, template("Job", app({MIB: 10, PROVISION: 1}))).warnings
    assert f"Pods will be refused: container app asks for {PROVISION}" in warning
    assert dry_run(tenant, app({MIB: 10})).warnings == []


def test_pods_by_our_name_fill_the_nodes_and_get_quotes(older: Older, tenant: Tenant) -> None:
    for node in (older.large, older.small):
        challenge = secrets.token_hex(64)
        name = f"quotes-{node.name}"
        tenant.create(quoting_pod(name, challenge, {MIB: 10}, node=node.name))
        tenant.wait_for_phase(name, "Succeeded")
        older.relying_party.verify(tenant.quote(name), challenge)
    whole = container("main", limits={MIB: older.small.offered_mib}, program="import time; time.sleep(600)")
    tenant.create(pod("whole", whole, node=older.small.name))
    tenant.wait_for_phase("whole", "Running")
    tenant.create(pod("next", container("main", limits={MIB: 1}, program="pass"), node=older.small.name))
    assert f"Insufficient {EPC}" in tenant.why_pending("next")
    described = DescribedNode.of(older.cluster, older.small.name)
    assert described.allocatable(EPC) == described.requested(EPC) == older.small.offered_mib
