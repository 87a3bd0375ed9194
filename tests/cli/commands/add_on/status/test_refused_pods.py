"""Workloads whose Pods the API server refuses because of the add-on: `confcom status` lists them with what to write."""

import json

import pytest

from confcom.addon.cluster.snapshot_reader import MOST_CONTROLLERS
from confcom.addon.model.chart_objects import EPC_AMOUNTS_POLICY
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.chart import POLICY
from testkit.fake_cluster.objects import EPC, HELPER_EPC, PROVISION, SYSTEM

LATER, NOW, BEFORE = "2026-11-25T00:09:00Z", "2026-11-25T00:00:00Z", "2026-11-24T23:00:00Z"
PROVISION_RULE = (
    f"container app asks for {PROVISION}, which namespace default may not: with it an enclave can ask for the "
    "platform's provisioning key."
)
HELPER_RULE = f"container app asks for {HELPER_EPC}, which is set aside for the quote helper."
QUOTA = f"exceeded quota: sgx, requested: requests.{EPC}=10, used: requests.{EPC}=40, limited: requests.{EPC}=40"


def denied(said, policy=POLICY):
    """As the API server words it."""
    by = f"ValidatingAdmissionPolicy '{policy}' with binding '{policy}'"
    return f'pods "web-x7" is forbidden: {by} denied request: {said}'


def replica_set(name="web-5f", *, replicas=1, there=0, owner=("Deployment", "web")):
    return make.controller("ReplicaSet", name, owner=owner, spec={"replicas": replicas}, status={"replicas": there})


@pytest.fixture
def listed(confcom):
    return lambda: confcom.document("status")["workloads"]


AMOUNT_RULE = f"container app asks for 10485760 MiB of EPC: {EPC} counts MiB already. For 10Mi of memory write 10."
RULES = {
    "provision": (denied(PROVISION_RULE), PROVISION_RULE, [PROVISION, "provision.namespaces"]),
    "helper": (denied(HELPER_RULE), HELPER_RULE, [EPC, HELPER_EPC]),
    "amount": (denied(AMOUNT_RULE, EPC_AMOUNTS_POLICY), AMOUNT_RULE, ["MiB"]),
    "quota": (f'pods "web-x7" is forbidden: {QUOTA}', QUOTA, ["kubectl edit resourcequota -n default sgx"]),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_refusal_is_listed_with_what_to_write(confcom, enabled, listed, rule):
    message, reason, remedy = RULES[rule]
    enabled.objects += [replica_set(), make.failed_create("ReplicaSet", "web-5f", message)]
    (one,) = listed()
    assert (one["kind"], one["namespace"], one["name"], one["trouble"]) == ("Deployment", "default", "web", "refused")
    assert one["code"] == ("refused-by-quota" if rule == "quota" else "refused-by-policy")
    assert one["cause"].endswith(f": {reason}")
    assert all(part in one["remedy"] for part in remedy)
    assert (PROVISION in one["remedy"]) is (rule == "provision")
    assert [line for line in confcom("status").stdout.splitlines() if line.startswith("  Deployment default/web ")]


def test_the_daemons_own_refusal_is_among_the_problems_only(confcom, enabled):
    (daemons,) = enabled.find("DaemonSet", "confcom-quote-helper")
    daemons["status"]["currentNumberScheduled"] = 0
    message = f"exceeded quota: x, requested: requests.{HELPER_EPC}=3"
    enabled.objects.append(make.failed_create("DaemonSet", "confcom-quote-helper", message, namespace=SYSTEM))
    document = confcom.unwell()
    assert document["workloads"] == []
    assert "pods-not-created" in {one["code"] for one in document["problem_details"]}


COMPLETE = {"conditions": [{"type": "Complete", "status": "True"}]}
ONE_OF_TWO, BOTH = ({"desiredNumberScheduled": 2, "currentNumberScheduled": there} for there in (1, 2))


@pytest.mark.parametrize(
    ("controller", "wants_pods"),
    [
        (make.controller("Job", "w"), True),
        (make.controller("Job", "w", status=COMPLETE), False),
        (make.controller("Job", "w", spec={"suspend": True}), False),
        (make.controller("StatefulSet", "w"), True),
        (make.controller("StatefulSet", "w", spec={"replicas": 0}), False),
        (make.controller("DaemonSet", "w", status=ONE_OF_TWO), True),
        (make.controller("DaemonSet", "w", status=BOTH), False),
        (make.controller("ReplicationController", "w", spec={"replicas": 2}, status={"replicas": 1}), True),
        (replica_set("w", replicas=0), False),
    ],
)
def test_every_controller_that_wants_pods_is_listed(enabled, listed, controller, wants_pods):
    kind = controller["kind"]
    enabled.objects += [controller, make.failed_create(kind, "w", denied(HELPER_RULE))]
    assert [(one["kind"], one["name"]) for one in listed()] == [(kind, "w")] * wants_pods


def test_one_that_is_gone_is_not_listed(enabled, listed):
    enabled.objects.append(make.failed_create("ReplicaSet", "web-5f", denied(HELPER_RULE)))
    assert listed() == []


@pytest.mark.parametrize(("created", "count"), [(BEFORE, 1), (LATER, 0)])
def test_one_that_could_create_a_pod_since_is_not_listed(enabled, listed, created, count):
    pod = make.pod("web-5f-1", owner=("ReplicaSet", "web-5f"))
    pod["metadata"]["creationTimestamp"] = created
    event = make.failed_create("ReplicaSet", "web-5f", denied(HELPER_RULE), at=NOW)
    enabled.objects += [replica_set(replicas=2, there=1), pod, event]
    assert len(listed()) == count


def test_what_another_policy_or_quota_refuses_is_not_listed(enabled, listed):
    messages = [
        denied(PROVISION_RULE, "somebody-elses"),
        'pods "x" is forbidden: exceeded quota: cpu, requested: requests.cpu=1, used: requests.cpu=1',
        'pods "x" is forbidden: violates PodSecurity "restricted:latest"',
    ]
    enabled.objects.append(replica_set())
    enabled.objects += [make.failed_create("ReplicaSet", "web-5f", message) for message in messages]
    assert listed() == []


def test_two_replica_sets_of_one_deployment_are_one_workload(enabled, listed):
    for name in ("web-5f", "web-6a"):
        enabled.objects += [replica_set(name), make.failed_create("ReplicaSet", name, denied(HELPER_RULE))]
    assert [one["name"] for one in listed()] == ["web"]


def test_without_rights_on_controllers_the_event_is_listed(enabled, listed):
    enabled.objects += [replica_set(), make.failed_create("ReplicaSet", "web-5f", denied(HELPER_RULE))]
    enabled.denied = {"get replicasets"}
    assert [(one["kind"], one["name"]) for one in listed()] == [("ReplicaSet", "web-5f")]


def test_who_may_not_read_events_everywhere_is_told_so(confcom, enabled):
    enabled.objects += [replica_set(), make.failed_create("ReplicaSet", "web-5f", denied(HELPER_RULE))]
    enabled.denied = {"list events everywhere"}
    document = confcom.document("status")
    assert document["workloads"] == []
    assert [one["code"] for one in document["not_compared_details"]] == ["refused-pods-not-read"]
    asked = [line for line in enabled.calls if "events" in line and "--all-namespaces" in line]
    assert "--field-selector=reason=FailedCreate" in asked[-1]


def test_so_many_controllers_are_looked_up_and_no_more(enabled, listed):
    for number in range(MOST_CONTROLLERS + 5):
        name = f"rs-{number:03}"
        enabled.objects.append(replica_set(name, replicas=0, owner=("Deployment", f"d-{number:03}")))
        enabled.objects.append(make.failed_create("ReplicaSet", name, denied(HELPER_RULE)))
    enabled.said.clear()
    assert len(listed()) == 5  # the others are known to want no Pods
    asked = [json.loads(said)["items"] for said in enabled.said]
    assert max(len([one for one in items if one["kind"] == "ReplicaSet"]) for items in asked) == MOST_CONTROLLERS


@pytest.mark.parametrize(
    ("kind", "name", "quota"),
    [
        ("ReplicaSet", "web-5f", "sgx; touch /tmp/x #"),
        ("ReplicaSet", "web-5f", "$(touch /tmp/x)"),
        ("ReplicaSet", "web; touch /tmp/x", "sgx"),
        ("Job is fine. All is well: ", "web-5f", "sgx"),
    ],
)
def test_an_event_with_names_that_no_object_has_is_not_believed(enabled, listed, kind, name, quota):
    said = QUOTA.replace("quota: sgx", f"quota: {quota}")
    enabled.objects += [replica_set(), make.failed_create(kind, name, said)]
    assert listed() == []
