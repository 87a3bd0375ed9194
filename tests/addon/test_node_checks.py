"""Preflight's checks of the nodes, by themselves."""

import pytest

from confcom.addon.model.chart_objects import Plan
from confcom.addon.preflight.node_checks import check_nodes, check_owners
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import SIMULATED, Counted

PLAN = Plan((make.daemon_set("device-plugin"), make.daemon_set("quote-helper")))


@pytest.mark.parametrize(
    "check",
    [
        lambda nodes: check_owners(PLAN, nodes, [], installed=True),
        lambda nodes: check_nodes(PLAN, nodes, [], unknown=[], allow_none=False),
    ],
    ids=["owners", "nodes"],
)
def test_each_node_is_looked_at_as_often_in_a_large_cluster_as_in_a_small_one(check):
    def reads(count):
        nodes = [Counted(make.node(f"n{number}", SIMULATED)) for number in range(count)]
        list(check(nodes))
        return max(node.reads for node in nodes)

    assert reads(40) == reads(20)
