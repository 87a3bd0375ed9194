"""What is said about nodes, from objects alone."""

from datetime import UTC, datetime

import pytest

from confcom.addon.rollout.snapshot import Snapshot
from confcom.addon.status.status import add_on_status
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import EPC, SYSTEM, Counted


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


@pytest.mark.parametrize("value", [None, 1, True, [], {}])
@pytest.mark.parametrize("label", ["component", "version"])
def test_a_label_that_is_no_text_ends_in_no_bug(label, value):
    odd = make.daemon_set("quote-helper")
    odd["metadata"]["labels"][f"app.kubernetes.io/{label}"] = value
    found = add_on_status(Snapshot(SYSTEM, daemon_sets=(make.daemon_set("device-plugin"), odd)), datetime.now(UTC))
    assert found.enabled
