"""Plugin, controller and kubelet are killed in every order, while Pods with EPC come and go on two nodes.

One node counts its EPC as devices, and the other node counts it as capacity. A watch of all Pods reports all
changes in the order in which the API server made them, so the sums of bound EPC are exact.
"""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from e2e.churn.ledger import Ledger, watched
from e2e.churn.strikes import ORDERS, Strikes
from e2e.churn.tenants import PAUSE_SECONDS, Tenants
from e2e.confcom_command import SET_ASIDE_MIB
from e2e.sized_nodes import SizedNode
from e2e.tenants import container, pod
from e2e.waiting import until

MINUTES = 12
CASE_SECONDS = MINUTES * 60 + 900
"""Seconds for the case on a busy machine: enabling the add-on, the churn, and the last Pods."""
DEVICES_MIB, CAPACITY_MIB = 168, 4096 + SET_ASIDE_MIB
"""MiB of Azure's largest DCsv2 node; MiB of a node with more EPC than is counted as devices."""
CALM_SECONDS = (3.0, 8.0)
"""Shortest and longest pause between two orders of kills, in seconds."""
GONE_SECONDS = 120.0
LEAST_SHARE = 0.2
"""Least number of Pods that must have run per second and node; fewer Pods are hardly any churn."""

pytestmark = pytest.mark.timeout(CASE_SECONDS, func_only=True)


@pytest.fixture
def sizes(nodes):
    return [SizedNode(nodes[0], DEVICES_MIB), SizedNode(nodes[1], CAPACITY_MIB)]


@pytest.fixture
def epc_mib(add_on, sizes):
    return {node.name: node.offered_mib for node in sizes}


@pytest.fixture
def ledger(cluster, namespace, epc_mib):
    made = Ledger(namespace, epc_mib)
    with watched(made, cluster):
        yield made


@pytest.fixture
def choose(request, tell):
    """The random choices, repeatable with pytest-randomly's seed."""
    seed = request.config.getoption("randomly_seed", default=1)
    tell(f"seed {seed}: `--randomly-seed={seed}` chooses the same again")
    return random.Random(seed)


@pytest.fixture
def tenants(tenant, ledger, epc_mib, choose):
    """Tenants of both nodes, who work until the case ends them."""
    made = [Tenants(tenant, ledger, node, mib, random.Random(choose.random())) for node, mib in epc_mib.items()]
    ended = threading.Event()
    with ThreadPoolExecutor(len(made)) as pool:
        working = [pool.submit(one.work, ended) for one in made]

        def end():
            ended.set()
            for one in working:
                one.result()
            return made

        yield end
        ended.set()


def whole_node(tenant, node, mib):
    """Run a Pod that asks for all EPC of a node, until it has succeeded."""
    name = f"all-of-{node}"
    tenant.create(pod(name, container("main", limits={"sgx.intel.com/epc": f"{mib}Mi"}, program="pass"), node=node))
    tenant.wait_for_phase(name, "Succeeded")


@pytest.fixture
def strikes(cluster, add_on, sizes, choose):
    return Strikes(cluster, sizes, frozenset({sizes[0].name}), choose)


def test_kills_in_every_order_under_churn(add_on, ledger, tenants, strikes, *, choose, tenant, tell):
    assert [add_on.epc()[node]["kind"] for node in ledger.epc_mib] == ["device", "capacity"]
    began = time.monotonic()
    while time.monotonic() - began < MINUTES * 60:
        for order in choose.sample(ORDERS, len(ORDERS)):
            tell(f"{time.monotonic() - began:6.1f} s  {', '.join(order)}")
            strikes.carry_out(order)
            assert ledger.complaints == []
            time.sleep(choose.uniform(*CALM_SECONDS))
            if time.monotonic() - began >= MINUTES * 60:
                break
    took = time.monotonic() - began

    for one in tenants():
        one.delete_all()
    until(lambda: not ledger.phases(), "all tenants' Pods are gone", seconds=GONE_SECONDS)
    for node, mib in ledger.epc_mib.items():
        whole_node(tenant, node, mib)
    for (node, why), count in sorted(Counter((one.node, one.why) for one in ledger.rejections).items()):
        tell(f"{count} never ran on {node}: {why}")

    assert ledger.complaints == []
    assert strikes.undisturbed(ledger.rejections) == []
    assert strikes.amiss() == ""
    assert add_on.status()["ok"]
    least = LEAST_SHARE * took / PAUSE_SECONDS
    assert all(ledger.ran[node] > least for node in ledger.epc_mib)
    assert dict(ledger.most) == ledger.epc_mib  # the last Pods took all of a node's EPC
