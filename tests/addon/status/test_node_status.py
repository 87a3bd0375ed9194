"""What is said about nodes, from objects alone."""

from datetime import UTC, datetime

import pytest

from confcom.addon.rollout.snapshot import Snapshot
from confcom.addon.status.status import add_on_status
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import EPC, PROVISION, SYSTEM, Counted


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


TAINT = {"key": "sgx", "value": "only", "effect": "NoSchedule"}
PLUGIN, HELPER = make.daemon_set("device-plugin"), make.daemon_set("quote-helper", limits={PROVISION: 1})
EVERY_DAEMON = (PLUGIN, HELPER)


def sgx(*, epc=162, pressure=None, lasts="True", allocatable=None, **more):
    node = make.node("n1", make.SIMULATED, resources={EPC: epc} if epc else {}, **more)
    node["status"]["allocatable"] |= {} if allocatable is None else {EPC: str(allocatable)}
    node["status"]["conditions"] += [{"type": pressure, "status": lasts}] if pressure else []
    return node


def pods(*, plugin=True, helper=True, ready=True, limits=((PROVISION, 1),)):
    wanted = (("device-plugin", plugin, ()), ("quote-helper", helper, limits))
    status = make.running() if ready else make.not_ready()
    return [
        make.pod(name, namespace=SYSTEM, on="n1", labels=make.labels(name), limits=dict(limits), status=status)
        for name, is_there, limits in wanted
        if is_there
    ]


@pytest.mark.parametrize(
    ("node", "there", "daemons", "codes"),
    [
        (sgx(), pods(), EVERY_DAEMON, []),
        (sgx(ready=False), pods(), EVERY_DAEMON, ["node-not-ready"]),
        (sgx(pressure="DiskPressure"), pods(), EVERY_DAEMON, ["node-pressure"]),
        (sgx(pressure="MemoryPressure"), pods(), EVERY_DAEMON, ["node-pressure"]),
        (sgx(pressure="PIDPressure"), pods(), EVERY_DAEMON, ["node-pressure"]),
        (sgx(pressure="DiskPressure", lasts="Unknown"), pods(), EVERY_DAEMON, []),
        (sgx(allocatable=0), pods(plugin=False), EVERY_DAEMON, ["daemon-missing", "epc-not-offered"]),
        (sgx(taints=[TAINT]), [], EVERY_DAEMON, ["node-tainted"]),
        (sgx(), pods(helper=False), EVERY_DAEMON, ["daemon-missing"]),
        (sgx(), pods(ready=False), EVERY_DAEMON, ["daemon-not-ready", "daemon-not-ready"]),
        (sgx(epc=0), pods(), EVERY_DAEMON, ["epc-not-reported"]),
        (sgx(epc=0, allocatable=0), [], (), []),
        (sgx(allocatable=0), [], (), ["resources-left", "epc-not-offered"]),
        (sgx(), pods(limits=()), (), ["provision-not-requested"]),
    ],
)
def test_a_nodes_problems_have_codes_in_every_list(node, there, daemons, codes):
    status = add_on_status(Snapshot(SYSTEM, nodes=(node,), pods=tuple(there), daemon_sets=daemons), datetime.now(UTC))
    document = status.to_json()
    of_node = [one for one in document["problem_details"] if one["node"] == "n1"]
    assert [one["code"] for one in of_node] == codes
    assert {group["code"] for group in document["problem_groups"] if group["nodes"]} == set(codes)
    assert [f"n1: {one['problem']}" for one in of_node] == [one for one in document["problems"] if one.startswith("n1")]
