"""The controller away for minutes: what goes on without it, what waits for it, and that all is right afterwards."""

from __future__ import annotations

import itertools
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
AWAY_SECONDS = {"scaled": 600, "deleted": 60}
"""How long it is away, by what was done to its Deployment."""
ROUND_SECONDS = 30
"""From one new Pod to the next meanwhile."""
BACK_SECONDS = 60
"""For everything to be right again: some seconds, of which the controller's start is the most."""
GONE_SECONDS = 5
"""Of controller.goneSeconds: it counts from when the controller is back."""
CASE_SECONDS = 1800
HERE = f"--namespace={SYSTEM}"
REQUEST = {EPC: 10}
HOLD = ("--hold", "7200")
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

    def whole(self, node: SizedNode) -> bool:
        return self.amounts(node) == (str(node.offered_mib), str(node.offered_mib))


@pytest.fixture
def three(cluster: Cluster, nodes: tuple[Node, Node, Node], tmp_path: Path) -> Iterator[Nodes]:
    if not add_on.changes_pods(cluster):
        pytest.skip("this API server cannot change Pods by policies")
    gone, lasting, new = (SizedNode(node, NODE_MIB) for node in nodes)
    values = {"controller": {"goneSeconds": GONE_SECONDS}}
    file = tmp_path / "values.json"
    with sized_nodes(cluster, [lasting, new, gone], file, values, serving=[lasting, gone]) as made:
        yield Nodes(made, lasting, new, gone, file)


@pytest.fixture
def tenant(three: Nodes, namespace: str) -> Iterator[Tenant]:
    made = Tenant(three.cluster, namespace)
    yield made
    made.kubectl("delete", "pods", "--all", "--grace-period=1")


def take_away(three: Nodes, how: str) -> None:
    if how == "scaled":
        three.cluster.kubectl("scale", "deployment", CONTROLLER, HERE, "--replicas=0")
    else:
        three.cluster.kubectl("delete", "deployment", CONTROLLER, HERE)
    until(lambda: not three.add_on.all_pods("controller"), "the controller has gone")


def bring_back(three: Nodes, how: str) -> None:
    """Undo it, as `confcom status` tells."""
    if how == "scaled":
        three.cluster.kubectl("scale", "deployment", CONTROLLER, HERE, "--replicas=1")
    else:
        enable(three.add_on, (three.lasting, three.new), three.values)


def restart_plugin(three: Nodes, node: SizedNode) -> None:
    """Have another Pod of the node's plugin, which serves."""
    old = node.plugin(three.cluster)
    assert old
    three.cluster.kubectl("delete", "pod", old["metadata"]["name"], HERE)
    until(lambda: node.plugin(three.cluster), "the node has its plugin again")
    until(lambda: enclaves(three, node) > 0, "the kubelet has reported its devices")


def restart_kubelet(three: Nodes, node: SizedNode) -> None:
    """Have the kubelet know its plugin again: a Pod that comes before is rejected, with any way of counting."""
    before = registrations(three, node)
    node.node.restart("kubelet")
    until(lambda: registrations(three, node) > before, "the plugin has registered again")
    until(three.cluster.ready, "the node is Ready")
    until(lambda: enclaves(three, node) > 0, "the kubelet has reported its devices")


def registrations(three: Nodes, node: SizedNode) -> int:
    """How often the plugin has registered its least registered resource; -1 while the kubelet does not watch all."""
    plugin = node.plugin(three.cluster)
    assert plugin
    told = json.loads(probed(three.cluster, plugin, "inventory"))
    return min(one["registrations"] for one in told["resources"]) if told["registered"] else -1


def enclaves(three: Nodes, node: SizedNode) -> int:
    status = three.cluster.kubectl_json("get", "node", node.name)["status"]
    return int(status["allocatable"].get("sgx.intel.com/enclave", 0))


@pytest.mark.timeout(CASE_SECONDS, func_only=True)
@pytest.mark.parametrize("how", AWAY_SECONDS)
def test_without_its_controller_the_cluster_goes_on(
    three: Nodes, tenant: Tenant, tmp_path: Path, tell, how: str
) -> None:
    cluster, lasting, new, gone = three.cluster, three.lasting, three.new, three.gone
    relying_party = RelyingParty.of(cluster, tmp_path / "trust")
    holding = container("main", limits=REQUEST, environment={"SGX_AESM_ADDR": "1"}, arguments=HOLD)
    tenant.create(pod("before", holding, node=lasting.name))
    tenant.wait_for_phase("before", "Running")

    take_away(three, how)
    away = time.monotonic()
    assert "controller-missing" in codes_of(three.add_on.confcom("status", JSON, code=ExitCode.NOT_READY))

    # What waits: the amount of a new node, and the end of one.
    new.join(cluster)
    gone.leave(cluster)
    until(lambda: new.plugin(cluster), "the new node has a plugin")
    until(lambda: not gone.plugins(cluster), "the other one has none")
    tenant.create(quoting_pod("for-the-new-node", CHALLENGE, REQUEST, node=new.name))
    assert f"Insufficient {EPC}" in tenant.why_pending("for-the-new-node")

    # What goes on: Pods, also after restarts of plugin and kubelet.
    disturbances = itertools.cycle([None, restart_plugin, None, restart_kubelet])
    rounds = 0
    while time.monotonic() - away < AWAY_SECONDS[how]:
        began = time.monotonic()
        if disturb := next(disturbances):
            disturb(three, lasting)
        challenge, name = secrets.token_hex(32), f"round-{rounds}"
        tenant.create(quoting_pod(name, challenge, REQUEST, node=lasting.name))
        tenant.wait_for_phase(name, "Succeeded")
        relying_party.verify(tenant.quote(name), challenge)
        tenant.delete(name)
        assert three.whole(lasting)
        assert three.amounts(new) == (None, None)
        assert three.whole(gone)
        rounds += 1
        time.sleep(max(0.0, min(began + ROUND_SECONDS, away + AWAY_SECONDS[how]) - time.monotonic()))
    assert "capacity-not-written" in codes_of(three.add_on.confcom("status", JSON, code=ExitCode.NOT_READY))

    lasting.write(cluster, "0")  # as a kubelet does that finds its directory of device plugins empty at its start
    tenant.create(quoting_pod("for-the-wiped-node", CHALLENGE, REQUEST, node=lasting.name))
    assert f"Insufficient {EPC}" in tenant.why_pending("for-the-wiped-node")

    back = time.monotonic()
    bring_back(three, how)
    waited = {
        "new": lambda: three.whole(new),
        "wiped": lambda: three.whole(lasting),
        "gone": lambda: three.amounts(gone) == (None, None),
    }
    took = {}
    for what, is_right in waited.items():
        until(is_right, f"the controller has seen to what is {what}", seconds=BACK_SECONDS)
        took[what] = time.monotonic() - back
    for name in ("for-the-new-node", "for-the-wiped-node"):
        tenant.wait_for_phase(name, "Succeeded")
        relying_party.verify(tenant.quote(name), CHALLENGE)
    until(three.add_on.is_well, "all is well")
    tell(f"{how}, away for {back - away:.0f} s: {rounds} Pods ran; back, right after: {rounded(took)}")

    found = tenant.get("before")["status"]
    assert (found["phase"], found["containerStatuses"][0]["restartCount"]) == ("Running", 0)


def rounded(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
