"""What is said about nodes, from objects alone."""

from datetime import UTC, datetime

from fake_cluster import objects as make
from fake_cluster.objects import EPC, SYSTEM

from confcom.addon.snapshot import Snapshot
from confcom.addon.status import add_on_status


class Counted(dict):
    """A pod that counts how often something of it is read."""

    reads = 0

    def get(self, key, default=None):
        self.reads += 1
        return super().get(key, default)


def reads_of_a_pod(nodes):
    app, foreign = (Counted(make.pod(name, on="n1", limits={EPC: 10})) for name in ("app", "foreign"))
    foreign["spec"]["nodeName"] = "without-sgx"
    helper = Counted(make.pod("h", namespace=SYSTEM, on="n1", labels=make.labels("quote-helper")))
    sgx = [make.node(f"n{number}", make.SIMULATED) for number in range(nodes)]
    others = [make.node(f"without-sgx-{number}") for number in range(nodes)]
    found = add_on_status(Snapshot(SYSTEM, nodes=(*sgx, *others), pods=(app, foreign, helper)), datetime.now(UTC))
    assert {node.name: node.epc.used for node in found.nodes}["n1"] == 10
    return app.reads, foreign.reads, helper.reads


def test_pods_are_not_looked_through_for_each_node():
    assert reads_of_a_pod(40) == reads_of_a_pod(2)
