"""Why a workload waits, by what the nodes offer and allow."""

import pytest

from confcom.addon.workloads.unschedulable import KINDS_EXAMINED
from confcom.addon.workloads.workloads import troubled_workloads
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import ENCLAVE, EPC, PROVISION, SYSTEM, Counted

INTEL = "sgx.intel.com/epc"
SIMULATED_EPC = "simulated.confcom.internal/sgx_epc_mem_in_MiB"
OFFERED = {EPC: 162, ENCLAVE: 1024, PROVISION: 1024}
INSUFFICIENT = f"0/3 nodes are available: 3 Insufficient {EPC}."
TAINTED = "0/3 nodes are available: 1 node(s) had untolerated taint {sgx: only}, 2 node(s) didn't match"


def sgx(name="a", *, labels=(), resources=(), **more):
    return make.node(name, labels, resources=OFFERED | dict(resources), **more)


def waiting(limits=(), message=INSUFFICIENT, *, reason="Unschedulable", name="app", labels=(), **spec):
    pod = make.pod(name, limits=dict(limits) or {EPC: 10}, status=make.unschedulable(message), labels=labels)
    pod["spec"] |= spec
    pod["status"]["conditions"][0]["reason"] = reason
    return pod


def explained(nodes, pod, *others):
    """Why the one waits; None: it is not listed."""
    found = troubled_workloads([*nodes, make.node("plain")], [pod, *others], [], namespace=SYSTEM)
    assert len(found) <= 1
    return found[0].cause if found else None


SGX_TAINT = {"key": "sgx", "value": "only", "effect": "NoSchedule"}
CORDON, AWAY, UNREACHABLE, PRESSURE = (
    {"key": f"node.kubernetes.io/{name}", "effect": "NoSchedule"}
    for name in ("unschedulable", "not-ready", "unreachable", "disk-pressure")
)


def affinity(key, operator, *values):
    term = {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


@pytest.mark.parametrize(
    ("nodes", "pod", "ended", "code", "told"),
    [
        ([sgx()], waiting(), False, "no-room", f"10 of {EPC}"),
        ([sgx()], waiting(), True, "other-constraint", " a,"),
        # A taint that is tolerated is not the cause,
        ([sgx(taints=[SGX_TAINT])], waiting(tolerations=[{"key": "sgx", "operator": "Exists"}]), False, "no-room", ""),
        # and of two nodes the one that could have it decides.
        ([sgx(), sgx("b", taints=[CORDON])], waiting(), False, "no-room", ""),
    ],
)
def test_room_is_the_cause_where_others_have_it(nodes, pod, ended, code, told):
    other = make.pod("other", on="a", limits={EPC: 160}, status={"phase": "Succeeded"} if ended else None)
    cause = explained(nodes, pod, other)
    assert cause.code == code
    assert told in cause.what


@pytest.mark.parametrize(
    ("nodes", "pod", "code", "remedy"),
    [
        ([], waiting(), "resource-not-offered", ""),
        ([make.node("s", resources={SIMULATED_EPC: 162})], waiting(), "other-resource-name", SIMULATED_EPC),
        ([sgx(), sgx("b", resources={EPC: 300})], waiting({EPC: 400}), "request-too-large", "300"),
        ([sgx()], waiting({EPC: 10 * 2**20}), "unit-mistaken", "10Mi"),
        (
            [sgx(), make.node("b", resources={SIMULATED_EPC: 162})],
            waiting({EPC: 10, SIMULATED_EPC: 10}),
            "resources-not-offered-together",
            "",
        ),
        ([sgx()], waiting(nodeSelector={"zone": "2"}), "nodes-not-selected", "kubectl label node a zone=2"),
        ([sgx()], waiting(affinity=affinity("zone", "In", "2")), "nodes-not-selected", ""),
        (
            [sgx(taints=[SGX_TAINT])],
            waiting(message=TAINTED),
            "taints-not-tolerated",
            "tolerations: [{key: sgx, operator: Exists}]",
        ),
        ([sgx(taints=[CORDON])], waiting(message=TAINTED), "nodes-cordoned", "kubectl uncordon a"),
        ([sgx(taints=[UNREACHABLE])], waiting(message=TAINTED), "nodes-not-ready", ""),
    ],
    ids=["nowhere", "other name", "too much", "bytes", "two kinds", "selector", "affinity", "taint", "cordon", "away"],
)
def test_what_is_no_want_of_room_has_its_own_code_and_remedy(nodes, pod, code, remedy):
    cause = explained(nodes, pod)
    assert cause.code == code
    assert remedy in cause.remedy


ZONE_2 = {"nodeSelector": {"zone": "2"}}
LABEL = "kubectl label node"


def test_no_label_is_proposed_that_a_node_has_with_another_value():
    cause = explained([sgx(labels={"zone": "1"})], waiting(**ZONE_2))
    assert "zone=2" in cause.what
    assert LABEL not in cause.remedy


def test_a_label_is_proposed_for_the_node_where_it_suffices():
    nodes = [sgx(labels={"disk": "hdd"}), sgx("b", labels={"disk": "ssd"})]
    cause = explained(nodes, waiting(nodeSelector={"zone": "2", "disk": "ssd"}))
    assert f"{LABEL} b zone=2" in cause.remedy


def test_no_label_is_proposed_where_affinity_forbids_the_node():
    cause = explained([sgx()], waiting(**ZONE_2, affinity=affinity("disk", "Exists")))
    assert cause.code == "nodes-not-selected"
    assert LABEL not in cause.remedy


@pytest.mark.parametrize("others", [[], [sgx("b", taints=[AWAY])]], ids=["alone", "beside one that is away"])
def test_nobody_is_told_to_tolerate_a_nodes_condition(others):
    cause = explained([sgx(taints=[PRESSURE]), *others], waiting(message=TAINTED))
    assert cause.code == "nodes-not-well"
    assert "node.kubernetes.io/disk-pressure" in cause.what


def test_a_written_taint_counts_beside_a_nodes_condition():
    cause = explained([sgx(taints=[PRESSURE]), sgx("b", taints=[SGX_TAINT])], waiting(message=TAINTED))
    assert cause.code == "taints-not-tolerated"
    assert "disk-pressure" not in cause.remedy


@pytest.mark.parametrize(
    "pod",
    [
        waiting(message="0/3 nodes are available: 3 Insufficient cpu."),
        waiting(message="Scheduling is blocked due to non-empty scheduling gates", reason="SchedulingGated"),
        waiting({"nvidia.com/gpu": 1}, message="0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
    ],
    ids=["cpu", "gated", "foreign"],
)
def test_what_has_another_cause_than_the_add_on_is_not_listed(pod):
    assert explained([sgx()], pod) is None


@pytest.mark.parametrize(
    ("size", "mib"), [("10Mi", 10), ("10485760", 10), ("10485761", 11), ("1Gi", 1024), ("512Ki", 1), ("10M", 10)]
)
def test_intels_name_is_answered_with_ours_in_mib(size, mib):
    pod = waiting({INTEL: size, ENCLAVE: 1}, message=f"0/3 nodes are available: 3 Insufficient {INTEL}.")
    cause = explained([sgx()], pod)
    assert cause.code == "intel-resource-name"
    assert f"{EPC}: {mib} in the container main " in cause.remedy


def test_intels_name_beside_simulated_names():
    pod = waiting({INTEL: "10Mi"}, message=f"0/3 nodes are available: 3 Insufficient {INTEL}.")
    cause = explained([make.node("s", resources={SIMULATED_EPC: 162})], pod)
    assert f"{SIMULATED_EPC}: 10 " in cause.remedy


def test_intels_name_offered_by_another_plugin_is_not_ours():
    pod = waiting({INTEL: "10Mi"}, message=f"0/3 nodes are available: 3 Insufficient {INTEL}.")
    assert explained([sgx(resources={INTEL: 10485760})], pod) is None


def with_token(pod):
    """As the API server admits it: with a volume whose name no other Pod has."""
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": f"kube-api-access-{pod['metadata']['name']}"}]
    return pod


def test_pods_that_are_alike_are_held_against_the_nodes_once():
    def reads(pods):
        node = Counted(sgx())
        alike = [with_token(waiting({EPC: 400}, name=f"p{n}")) for n in range(pods)]
        found = troubled_workloads([node], alike, [], namespace=SYSTEM)
        assert len(found) == pods
        return node.reads

    assert reads(50) == reads(1)


def test_only_some_of_very_many_kinds_of_pods_are_examined():
    pods = [waiting({EPC: 200 + number}, name=f"app-{number}") for number in range(KINDS_EXAMINED + 10)]
    found = troubled_workloads([sgx()], [*pods, waiting({EPC: 200}, name="alike")], [], namespace=SYSTEM)
    assert len(found) == len(pods) + 1
    causes = {one.name: one.cause for one in found}
    assert causes["alike"] == causes["app-0"]
    assert sum(cause.code == "cause-not-examined" for cause in causes.values()) == 10


def test_a_tenants_pod_with_our_labels_is_a_workload_too():
    pod = waiting(labels=make.labels("quote-helper"))
    assert [one.name for one in troubled_workloads([sgx()], [pod], [], namespace=SYSTEM)] == ["app"]
    pod["metadata"]["namespace"] = SYSTEM
    assert not troubled_workloads([sgx()], [pod], [], namespace=SYSTEM)
