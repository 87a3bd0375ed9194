import json

import pytest

from confcom.addon.epc import (
    NodeEpc,
    PluginEpc,
    epc_pod,
    epc_problems,
    plugin_epc,
    refused_workloads,
    used_by_node,
    workloads,
)
from confcom.kubernetes.epc_accounting import AccountingKind
from testkit import cluster_objects as make
from testkit.cluster_objects import EPC, HELPER_EPC, PROVISION

LARGE = 131_066
POLICY = "confcom-pods"


def plugin(kind="capacity", **more):
    facts = {"found": LARGE + 6, "offered": LARGE, "held_back": 0, "kept": 0, "kind": AccountingKind(kind)}
    return PluginEpc(**facts | {"choice": "large-epc", "reason": "why"} | more)


DEVICES = plugin("device", offered=2_048)


# The amounts are those of capacity, allocatable, and Pods' requests.
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


ACCOUNTING = {"kind": "device", "resource": EPC, "choice": "fits-devices", "reason": "r"}
ACCOUNTING |= {"advertised_mib": 162, "held_back_mib": 3}


FOUND = PluginEpc(168, 162, 3, 0, AccountingKind.DEVICE, "fits-devices", "r")


@pytest.mark.parametrize(
    ("inventory", "found"),
    [
        ({"epc": {"mib": 168}, "accounting": ACCOUNTING}, FOUND),
        ({}, None),
        ({"epc": {"mib": 0}, "accounting": ACCOUNTING}, None),
    ],
)
def test_an_inventory_with_epc_is_understood(inventory, found):
    assert plugin_epc(json.dumps({"version": 1} | inventory)) == found


def pod(name, *, on="a", mib=1, **more):
    return epc_pod(make.pod(name, on=on, limits={EPC: mib}, **more))


def test_pods_without_the_add_ons_resources_are_no_epc_pods():
    assert epc_pod(make.pod("x", limits={"nvidia.com/gpu": 1, EPC: 0})) is None
    assert epc_pod(make.pod("x", limits={PROVISION: 1})).epc_mib == 0


def test_ended_and_pending_pods_use_no_epc_of_a_node():
    ended = pod("ended", status={"phase": "Succeeded"})
    found = used_by_node([pod("x", mib=3), pod("y", mib=4), pod("z", on="", mib=8), pod("w", on="b"), ended])
    assert found == {("a", EPC): 7, ("b", EPC): 1}


JOB, SET = ("Job", "job"), ("ReplicaSet", "web-5f")
PENDING = {"on": "", "status": make.unschedulable(f"0/2 nodes: 1 Insufficient {EPC}.")}
REJECTED = {"status": make.rejected("no healthy devices present")}


SEVERAL = [pod("x", mib=3, owner=SET), pod("y", on="b", mib=3, owner=SET)]
OUT_OF_EPC, OUT_OF_CPU = ({"status": make.rejected("", f"OutOf{one}")} for one in (EPC, "cpu"))
WORKLOADS = {
    "bare": ([pod("x", mib=3)], [("Pod", "x", 1, 1, 3, "")]),
    "several of a controller": (SEVERAL, [("ReplicaSet", "web-5f", 2, 2, 6, "")]),
    "the largest first": ([pod("s"), pod("l", mib=9)], [("Pod", "l", 1, 1, 9, ""), ("Pod", "s", 1, 1, 1, "")]),
    "pending": ([pod("x", **PENDING)], [("Pod", "x", 1, 0, 1, "pending")]),
    "just created": ([pod("x", on="", status={"phase": "Pending"})], [("Pod", "x", 1, 0, 1, "")]),
    "rejected": ([pod("x", **REJECTED)], [("Pod", "x", 0, 0, 0, "rejected")]),
    "rejected for EPC": ([pod("x", **OUT_OF_EPC)], [("Pod", "x", 0, 0, 0, "rejected")]),
    "rejected for cpu": ([pod("x", **OUT_OF_CPU)], []),
    "failed": ([pod("x", status={"phase": "Failed", "reason": "Error"})], []),
    "a Job's": ([pod("x", owner=JOB, **REJECTED)], [("Job", "job", 0, 0, 0, "rejected")]),
    "a Job retries": ([pod("x", owner=JOB, **REJECTED), pod("y", owner=JOB)], [("Job", "job", 1, 1, 1, "")]),
    "a controller replaces it": ([pod("x", owner=SET, **REJECTED)], []),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_workloads_are_a_table_by_owner(name):
    pods, rows = WORKLOADS[name]
    found = workloads(pods, ())
    assert [(one.kind, one.name, one.pods, one.nodes, one.epc_mib, one.trouble) for one in found] == rows


def test_of_a_pending_pod_the_schedulers_words_are_shown_and_no_other_cause():
    (found,) = workloads([pod("x", **PENDING)], ())
    assert (found.code, found.cause) == ("pod-pending", f"Unschedulable: 0/2 nodes: 1 Insufficient {EPC}.")


def denied(reason, policy=POLICY):
    return f"ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: {reason}"


RULE = f"container app asks for {HELPER_EPC}, which is set aside for the quote helper."
QUOTA = f"exceeded quota: sgx, requested: requests.{EPC}=10, used: requests.{EPC}=40, limited: requests.{EPC}=40"


@pytest.mark.parametrize(
    ("kind", "name", "message", "code"),
    [
        ("ReplicaSet", "web", denied(RULE), "refused-by-policy"),
        ("Job", "web", QUOTA, "refused-by-quota"),
        ("ReplicaSet", "web", denied(RULE, "somebody-elses"), None),
        ("ReplicaSet", "web", "exceeded quota: cpu, requested: requests.cpu=1, used: requests.cpu=1", None),
        ("ReplicaSet", "web", 'violates PodSecurity "restricted:latest"', None),
        ("ReplicaSet", "web", QUOTA.replace("quota: sgx", "quota: sgx; touch /tmp/x #"), None),
        ("ReplicaSet", "web; touch /tmp/x", QUOTA, None),
        ("Job is fine. All is well: ", "web", QUOTA, None),
    ],
)
def test_refusals_by_our_policies_and_quotas_are_found_and_forged_names_are_not(kind, name, message, code):
    events = [make.failed_create(kind, name, f'pods "web-x7" is forbidden: {message}')]
    found = refused_workloads(events)
    assert [one.code for one in found] == ([code] if code else [])
    assert all(one.cause.endswith(message.rpartition("request: ")[2]) for one in found)
    if code == "refused-by-quota":
        assert "kubectl edit resourcequota -n default sgx" in found[0].remedy


def test_a_refused_workload_is_one_row_with_its_pods():
    (refused,) = refused_workloads([make.failed_create("Job", "job", QUOTA)])
    (found,) = workloads([pod("x", mib=5, owner=JOB)], [refused])
    assert (found.kind, found.pods, found.epc_mib, found.trouble) == ("Job", 1, 5, "refused")
