from datetime import UTC, datetime

import pytest

from confcom.addon.tenants import refused_workloads, tenant_pod, used_by_node, workloads
from testkit import cluster_objects as make
from testkit.cluster_objects import EPC, HELPER_EPC, PROVISION

POLICY = "confcom-pods"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def pod(name, *, on="a", mib=1, **more):
    return tenant_pod(make.pod(name, on=on, limits={EPC: mib}, **more))


def test_pods_without_the_add_ons_resources_are_no_epc_pods():
    assert tenant_pod(make.pod("x", limits={"nvidia.com/gpu": 1, EPC: 0})) is None
    assert tenant_pod(make.pod("x", limits={PROVISION: 1})).epc_mib == 0


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
    found = refused_workloads(events, LONG_AGO)
    assert [one.code for one in found] == ([code] if code else [])
    assert all(one.cause.endswith(message.rpartition("request: ")[2]) for one in found)
    if code == "refused-by-quota":
        assert "kubectl edit resourcequota -n default sgx" in found[0].remedy


def test_a_refused_workload_is_one_row_with_its_pods():
    (refused,) = refused_workloads([make.failed_create("Job", "job", QUOTA)], LONG_AGO)
    (found,) = workloads([pod("x", mib=5, owner=JOB)], [refused])
    assert (found.kind, found.pods, found.epc_mib, found.trouble) == ("Job", 1, 5, "refused")
