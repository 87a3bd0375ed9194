"""The controller is deleted: what goes on without it, what waits for it, and that all is right afterwards."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from confcom.errors import ExitCode
from e2e import add_on
from e2e.add_on import CONTROLLER, EPC, SYSTEM
from e2e.cluster import Cluster, Node
from e2e.confcom_command import JSON, AddOn, codes_of
from e2e.probes import probed
from e2e.relying_party import RelyingParty
from e2e.sized_nodes import SizedNode, enable, sized_nodes
from e2e.tenants import Tenant, container, pod, quoting_pod
from e2e.waiting import until

NODE_MIB = 256 * 1024
"""EPC of each node; more than is counted as devices."""
GONE_SECONDS = 5
"""Until the key of a node without a plugin is removed, in place of the default's five minutes."""
HERE = f"--namespace={SYSTEM}"
REQUEST = {EPC: 10}
CHALLENGE = "ab" * 32


@dataclass(frozen=True, slots=True)
class Nodes:
    """Three nodes whose EPC is capacity.

    Args:
        add_on: on them.
        lasting: is there throughout.
        new: gets its plugin while the controller is away.
        gone: loses its plugin meanwhile.
        values: with which it was enabled.
    """

    add_on: AddOn
    lasting: SizedNode
    new: SizedNode
    gone: SizedNode
    values: Path

    @property
    def cluster(self) -> Cluster:
        return self.add_on.cluster

    def amounts(self, node: SizedNode) -> tuple[str | None, str | None]:
        """Capacity and allocatable."""
        status = self.cluster.kubectl_json("get", "node", node.name)["status"]
        return status["capacity"].get(EPC), status["allocatable"].get(EPC)

    def enclaves(self) -> int:
        """Devices of the lasting node, as the kubelet has reported them."""
        status = self.cluster.kubectl_json("get", "node", self.lasting.name)["status"]
        return int(status["allocatable"].get("sgx.intel.com/enclave", 0))

    def registrations(self) -> int:
        """How often its plugin has registered its least registered resource; -1 while the kubelet lacks one."""
        found = json.loads(probed(self.cluster, self.plugin(), "inventory"))
        return min(one["registrations"] for one in found["resources"]) if found["registered"] else -1

    def plugin(self) -> dict:
        return until(lambda: self.lasting.plugin(self.cluster), "the lasting node has its plugin")


@pytest.fixture
def three(cluster: Cluster, nodes: tuple[Node, Node, Node], tmp_path: Path) -> Iterator[Nodes]:
    if not add_on.changes_pods(cluster):
        pytest.skip("this API server cannot change Pods by policies")
    gone, lasting, new = (SizedNode(node, NODE_MIB) for node in nodes)
    file = tmp_path / "values.json"
    with sized_nodes(cluster, [lasting, new, gone], file, serving=[lasting, gone]) as made:
        yield Nodes(made, lasting, new, gone, file)


@pytest.fixture
def tenant(three: Nodes, namespace: str) -> Iterator[Tenant]:
    made = Tenant(three.cluster, namespace)
    yield made
    made.kubectl("delete", "pods", "--all", "--grace-period=1")


def nothing(_: Nodes) -> None:
    """Goes on as it is."""


def restart_plugin(three: Nodes) -> None:
    three.cluster.kubectl("delete", "pod", three.plugin()["metadata"]["name"], HERE)
    three.plugin()


def restart_kubelet(three: Nodes) -> None:
    """Have the kubelet know its plugin again: a Pod that comes before is rejected, with any way of counting."""
    before = three.registrations()
    three.lasting.node.restart("kubelet")
    until(lambda: three.registrations() > before, "the plugin has registered again")
    until(three.cluster.ready, "the node is Ready")


@pytest.mark.timeout(1200, func_only=True)
def test_without_its_controller_the_cluster_goes_on(three: Nodes, tenant: Tenant, tmp_path: Path, tell) -> None:
    cluster, lasting, new, gone = three.cluster, three.lasting, three.new, three.gone
    whole = (str(lasting.offered_mib), str(lasting.offered_mib))
    relying_party = RelyingParty.of(cluster, tmp_path / "trust")
    holding = container("main", limits=REQUEST, environment={"SGX_AESM_ADDR": "1"}, arguments=("--hold", "7200"))
    tenant.create(pod("before", holding, node=lasting.name))
    tenant.wait_for_phase("before", "Running")

    cluster.kubectl("delete", "deployment", CONTROLLER, HERE)
    until(lambda: not three.add_on.all_pods("controller"), "the controller has gone")
    assert "controller-missing" in codes_of(three.add_on.confcom("status", JSON, code=ExitCode.NOT_READY))

    # What waits: the amount of a new node, and the end of one.
    new.join(cluster)
    gone.leave(cluster)
    until(lambda: new.plugin(cluster), "the new node has a plugin")
    until(lambda: not gone.plugins(cluster), "the other one has none")
    tenant.create(quoting_pod("for-the-new-node", CHALLENGE, REQUEST, node=new.name))
    assert f"Insufficient {EPC}" in tenant.why_pending("for-the-new-node")

    # What goes on: Pods, also after restarts of plugin and kubelet.
    for disturb in (nothing, restart_plugin, restart_kubelet):
        disturb(three)
        until(lambda: three.enclaves() > 0, "the kubelet has reported its devices")
        challenge, name = secrets.token_hex(32), disturb.__name__.replace("_", "-")
        tenant.create(quoting_pod(name, challenge, REQUEST, node=lasting.name))
        tenant.wait_for_phase(name, "Succeeded")
        relying_party.verify(tenant.quote(name), challenge)
        assert (three.amounts(lasting), three.amounts(new), three.amounts(gone)) == (whole, (None, None), whole)
    assert "capacity-not-written" in codes_of(three.add_on.confcom("status", JSON, code=ExitCode.NOT_READY))

    lasting.write(cluster, "0")  # as a kubelet does that finds its directory of device plugins empty at its start
    tenant.create(quoting_pod("for-the-wiped-node", CHALLENGE, REQUEST, node=lasting.name))
    assert f"Insufficient {EPC}" in tenant.why_pending("for-the-wiped-node")

    back = time.monotonic()
    enable(three.add_on, (lasting, new), three.values)
    for node in (new, lasting):
        until(lambda n=node: three.amounts(n) == whole, f"{node.name} has {whole}")
    tell(f"the amounts are written {time.monotonic() - back:.1f} s after `confcom enable` began")
    assert three.amounts(gone) == whole
    # By hand, since the chart has no value for it.
    set_environment = ("set", "env", HERE, f"deployment/{CONTROLLER}")
    cluster.kubectl(*set_environment, f"CONFCOM_GONE_SECONDS={GONE_SECONDS}")
    until(lambda: three.amounts(gone) == (None, None), f"the key of {gone.name} is removed")
    cluster.kubectl(*set_environment, "CONFCOM_GONE_SECONDS-")
    for name in ("for-the-new-node", "for-the-wiped-node"):
        tenant.wait_for_phase(name, "Succeeded")
        relying_party.verify(tenant.quote(name), CHALLENGE)
    until(three.add_on.is_well, "all is well")
    found = tenant.get("before")["status"]
    assert (found["phase"], found["containerStatuses"][0]["restartCount"]) == ("Running", 0)
