import pytest

from confcom.addon.epc import NodeEpc, epc_problems
from testkit import cluster_objects as make
from testkit.cluster_objects import EPC

LARGE = 131_066


def plugin(kind="capacity", offered=LARGE):
    return make.inventory(LARGE + 6, offered, kind=kind, choice="large-epc")


DEVICES = plugin("device", offered=2_048)


# The three amounts are the node's capacity, the allocatable amount, and the Pods' requests.
@pytest.mark.parametrize(
    ("offer", "amounts", "maximum", "code"),
    [
        pytest.param(plugin(), (LARGE, LARGE, 0), None, None, id="all is there"),
        pytest.param(plugin(), (0, 0, 0), None, "capacity-not-written", id="nothing is written"),
        pytest.param(plugin(), (2048, 2048, None), None, "capacity-not-written", id="too little is written"),
        pytest.param(plugin(), (LARGE, 0, 0), None, "capacity-not-written", id="nothing is allocatable"),
        pytest.param(plugin(offered=2_048), (4096, 4096, 4_096), None, "epc-shortfall", id="Pods request more"),
        pytest.param(plugin(), (50_000, 50_000, 0), 50_000, None, id="a maximum"),
        pytest.param(plugin(), (LARGE, LARGE, 50_000), 50_000, "capacity-not-written", id="a maximum is not written"),
        pytest.param(plugin(), (60_000, 60_000, 60_000), 50_000, "epc-shortfall", id="Pods request more than it"),
        pytest.param(DEVICES, (2048, 2048, 0), 1_000, None, id="devices, which have no maximum"),
        pytest.param(DEVICES, (1024, 1024, 0), None, "epc-not-reported", id="fewer devices than offered"),
        pytest.param(DEVICES, (2048, 2048, 2049), None, "epc-shortfall", id="Pods request more than the devices"),
        pytest.param(None, (62, 62, 100), None, "epc-shortfall", id="no inventory and Pods request more"),
        pytest.param(None, (1024, 1024, 0), None, None, id="no inventory"),
        pytest.param(None, (1024, 0, 0), None, "epc-not-reported", id="no inventory and nothing allocatable"),
    ],
)
def test_a_nodes_amounts_are_compared_with_its_plugins_offer(offer, amounts, maximum, code):
    epc = NodeEpc(EPC, *amounts, offer, maximum)
    assert [one.code for one in epc_problems(epc, plugin_ready=True)] == ([code] if code else [])


def test_without_a_ready_plugin_only_lost_epc_is_a_problem():
    lost, kept = (NodeEpc(EPC, 162, allocatable, 0) for allocatable in (0, 162))
    assert [one.code for one in epc_problems(lost, plugin_ready=False)] == ["epc-not-offered"]
    assert [one.code for one in epc_problems(NodeEpc(EPC, 62, 62, 100), plugin_ready=False)] == ["epc-shortfall"]
    assert not list(epc_problems(kept, plugin_ready=False))
