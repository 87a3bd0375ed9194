import pytest

from confcom.addon.chart_objects import STAGING_LABEL
from confcom.addon.daemon_pods import daemon_pod, warnings_in
from confcom.addon.drift import Comparison, Effect, FieldChange, ObjectChange
from confcom.addon.helm import Revision
from confcom.addon.problems import Problem
from confcom.addon.simulated_root import SERVED, RootFacts
from confcom.addon.snapshot import Snapshot
from confcom.addon.status import add_on_status
from confcom.addon.tenants import tenant_pod
from confcom.kubernetes.names import SIMULATED, Component
from confcom.kubernetes.node import Node
from confcom.kubernetes.workload import Workload
from confcom.simulation.collateral_staging import Staging
from testkit import cluster_objects as make
from testkit.cli_output import commands_in
from testkit.cluster_objects import EPC, SYSTEM

PLUGIN, HELPER = make.daemon_set("device-plugin"), make.daemon_set("quote-helper")
READY = (make.daemon("device-plugin"), make.daemon("quote-helper"))
TEMPLATES = {"confcom-device-plugin": "1", "confcom-quote-helper": "1"}


def node(name="a", *, epc=162, allocatable=None, labels=make.SIMULATED, **more):
    made = make.node(name, labels, resources={EPC: epc} if epc else {}, **more)
    made["status"]["allocatable"] |= {} if allocatable is None else {EPC: str(allocatable)}
    return made


def status(*nodes, pods=READY, tenants=(), events=(), **more):
    facts = {"daemon_sets": (PLUGIN, HELPER), "templates": TEMPLATES} | {
        "nodes": tuple(map(Node.parse, nodes or (node(),))),
        "pods": tuple(map(daemon_pod, pods)),
        "epc_pods": tuple(map(tenant_pod, tenants)),
        "warnings": warnings_in(events),
    }
    facts |= more
    facts["daemon_sets"] = tuple(map(Workload.parse, facts["daemon_sets"]))
    facts["deployments"] = {of: Workload.parse(one) for of, one in facts.get("deployments", {}).items()}
    return add_on_status(Snapshot(SYSTEM, **facts))


def codes(found, where=None):
    return [one.code for one in found.problems if where in {None, one.node}]


def text_of(found, code):
    (problem,) = [one for one in found.problems if one.code == code]
    return problem.text


TAINT = {"key": "sgx", "value": "only", "effect": "NoSchedule"}
NOT_READY = tuple(make.daemon(part, status=make.not_ready()) for part in ("device-plugin", "quote-helper"))


@pytest.mark.parametrize(
    ("there", "pods", "expected"),
    [
        (node(ready=False), READY, ["node-not-ready"]),
        (node(allocatable=0), READY[1:], ["daemon-missing", "epc-not-offered"]),
        (node(), READY[:1], ["daemon-missing"]),
        (node(taints=[TAINT]), [], ["node-tainted"]),
        (node(taints=[TAINT]), READY, []),
        (node(taints=[TAINT | {"effect": "PreferNoSchedule"}]), READY, []),
        (node(taints=[TAINT | {"key": "node.kubernetes.io/disk-pressure"}]), READY, []),
        (node(), NOT_READY, ["daemon-not-ready"] * 2),
        (node(epc=0), READY, ["epc-not-reported"]),
        (node(labels={}, epc=0), [], []),
    ],
)
def test_a_nodes_problems_have_codes_in_every_list(there, pods, expected):
    document = status(there, pods=pods).to_json()
    of_node = [one for one in document["problem_details"] if one["node"]]
    assert [one["code"] for one in of_node] == expected
    assert {group["code"] for group in document["problem_groups"] if group["nodes"]} == set(expected)
    assert [f"a: {one['problem']}" for one in of_node] == [one for one in document["problems"] if one.startswith("a: ")]


def test_a_taint_is_named_with_the_options_that_tolerate_it():
    taints = [TAINT, TAINT | {"effect": "NoExecute"}, TAINT | {"key": "gpu"}]
    problem = text_of(status(node(taints=taints), pods=()), "node-tainted")
    assert "sgx=only:NoSchedule, sgx=only:NoExecute, gpu=only:NoSchedule" in problem
    options = "--set tolerations[{0}].key={1} --set tolerations[{0}].operator=Exists"
    assert commands_in(problem) == [f"confcom update {options.format(0, 'sgx')} {options.format(1, 'gpu')}"]


def test_consequences_of_a_node_that_is_not_ready_are_no_group():
    found = status(node("a"), node("b", ready=False), pods=[*READY, make.daemon("device-plugin", "b")])
    assert codes(found, "b") == ["node-not-ready", "daemon-missing"]
    assert [(group.code, group.nodes) for group in found.problem_groups] == [("node-not-ready", ("b",))]


REJECTED = make.rejected("no devices")


def helper(number, *, revision="1", **more):
    created = f"2026-11-25T00:00:{number:02}Z"
    return make.daemon("quote-helper", name=f"h{number}", revision=revision, created=created, **more)


HELPERS = {
    "only one": ([helper(1, status=REJECTED)], "1", "daemon-missing"),
    "alone and not ready": ([helper(1, status=make.not_ready())], "1", "daemon-not-ready"),
    "replaced": ([helper(1), helper(2, status=REJECTED)], "1", None),
    "first": ([helper(1, status=REJECTED), helper(2)], "1", None),
    "of an update": ([helper(1), helper(2, status=REJECTED, revision="2")], "2", "daemon-not-ready"),
    "of an update that was undone": ([helper(1), helper(2, status=REJECTED, revision="2")], "1", None),
    "not ready": ([helper(1), helper(2, status=make.not_ready(), revision="2")], "2", "daemon-not-ready"),
}


@pytest.mark.parametrize(("helpers", "newest", "expected"), HELPERS.values(), ids=HELPERS)
def test_a_rejected_pod_is_a_problem_if_none_replaced_it(helpers, newest, expected):
    found = status(pods=[READY[0], *helpers], templates=TEMPLATES | {"confcom-quote-helper": newest})
    assert codes(found) == ([expected] if expected else [])
    if expected == "daemon-not-ready":
        assert ("serves meanwhile" in text_of(found, expected)) is (len(helpers) > 1)


def ending(pod):
    pod["metadata"] |= {"deletionTimestamp": make.STARTED}
    return pod


NEW = [helper(2, revision="2")]
STARTING = make.waiting("ContainerCreating")
BEGUN = [helper(1), helper(2, revision="2", status=make.not_ready())]
REPLACED = [helper(1, revision="2", status=REJECTED), helper(2, revision="2", status=STARTING)]


@pytest.mark.parametrize(
    ("helpers", "done", "serving", "updating", "words"),
    [
        pytest.param(NEW, True, False, False, "ready (0.1.0)", id="done"),
        pytest.param([helper(1)], False, True, True, "its turn", id="not begun"),
        pytest.param(BEGUN, False, True, True, "not ready: ", id="begun"),
        pytest.param([ending(helper(1)), *NEW], False, False, False, "terminating", id="old one ends"),
        pytest.param([], False, False, False, "no Pod yet", id="no Pod"),
        pytest.param([helper(1, revision="2", status=REJECTED)], False, False, False, "no devices", id="rejected"),
        pytest.param([helper(1, status=REJECTED), helper(2)], False, True, True, "its turn", id="old one was rejected"),
        pytest.param(REPLACED, False, False, False, "starting", id="replaced"),
    ],
)
def test_a_step_follows_the_newest_template(helpers, done, serving, updating, words):
    found = status(pods=[READY[0], *helpers], templates=TEMPLATES | {"confcom-quote-helper": "2"})
    (step,) = [one for one in found.steps if one.kind == "quote helper"]
    assert (step.done, step.serving, step.updating) == (done, serving, updating)
    assert words in step.text
    assert found.updating is updating


def test_no_step_is_done_before_the_daemonset_controller_has_observed_the_template():
    daemon = make.daemon_set("quote-helper")
    daemon["metadata"]["generation"] = 2
    found = status(daemon_sets=(PLUGIN, daemon))
    assert not found.observed
    assert found.updating
    assert [step.done for step in found.steps] == [True, False]


def controller(name="c1", *, created="1", **more):
    made = make.pod(name, namespace=SYSTEM, labels=make.labels("controller"), **more)
    made["metadata"]["creationTimestamp"] = created
    return made


def deployment(*, observed=2, updated=1, total=1, available=1):
    counts = {"replicas": total, "updatedReplicas": updated, "availableReplicas": available}
    status = counts | {"observedGeneration": observed}
    return {"kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 1}, "status": status}


SUPPORTED = make.daemon_set("device-plugin", args=("--simulated", "--capacity-support=supported"))
PULLING = make.waiting("ImagePullBackOff")


OTHER, PULLS, STARTS = controller(), controller(status=PULLING), controller(status=STARTING)
NEW_READY, NEW_STARTS, NEW_PULLS = (
    controller("c2", created="2", status=one) for one in (make.running(), STARTING, PULLING)
)


@pytest.mark.parametrize("component", [Component.CONTROLLER, Component.SIMULATED_PCS])
@pytest.mark.parametrize(
    ("pods", "rollout", "expected"),
    [
        pytest.param([OTHER], {}, (None, False, False, False), id="runs"),
        pytest.param([], {"available": 0}, ("deployment-missing", True, False, False), id="none"),
        pytest.param([ending(controller())], {}, ("deployment-missing", False, False, False), id="ends"),
        pytest.param([PULLS], {"available": 0}, ("deployment-not-ready", True, False, True), id="fails"),
        pytest.param([STARTS], {"available": 0}, ("deployment-not-ready", True, False, False), id="starts"),
        pytest.param([OTHER, NEW_STARTS], {"updated": 0}, (None, True, True, False), id="begun"),
        pytest.param([OTHER, NEW_PULLS], {"total": 2}, ("deployment-not-ready", True, True, True), id="new one fails"),
        pytest.param([PULLS, NEW_READY], {"total": 2}, (None, True, True, False), id="old one fails"),
        pytest.param([OTHER], {"observed": 1}, (None, True, False, False), id="not observed"),
    ],
)
def test_a_deployment_and_its_pods(component, pods, rollout, expected):
    made = [one | {"metadata": one["metadata"] | {"labels": make.labels(component)}} for one in pods]
    wanted = PLUGIN if component is Component.SIMULATED_PCS else SUPPORTED
    deployments = {component: deployment(**rollout)}
    found = status(daemon_sets=(wanted, HELPER), pods=[*READY, *made], deployments=deployments)
    (one,) = [one for one in found.deployments if one.component is component]
    assert (one.problem and one.problem.code, bool(one.waits_for), found.updating, one.failing) == expected
    assert codes(found) == [code for code in expected[:1] if code]


def test_a_controller_that_is_not_needed_is_not_missed_and_one_that_is_refused_says_why():
    assert status(daemon_sets=(PLUGIN, HELPER)).ok
    events = [make.event("confcom-controller-5f", "FailedCreate", "exceeded quota")]
    found = status(daemon_sets=(SUPPORTED, HELPER), events=events)
    assert "exceeded quota" in text_of(found, "deployment-missing")


@pytest.mark.parametrize("staging", Staging)
def test_staged_collateral_is_told_and_no_problem(staging):
    helper = make.daemon_set("quote-helper")
    helper["metadata"]["labels"] |= {} if staging is Staging.NONE else {STAGING_LABEL: staging.value}
    found = status(daemon_sets=(PLUGIN, helper))
    assert found.ok
    assert found.to_json()["staging"] == staging
    assert [one.code for one in found.notes] == ([] if staging is Staging.NONE else ["collateral-staged"])
    assert all("confcom update --set simulated.staging=none" in commands_in(one.text) for one in found.notes)


def counted(*, desired=1, current=1, updated=1):
    made = make.daemon_set("quote-helper")
    numbers = {"desired": desired, "current": current, "updated": updated}
    made["status"] |= {f"{key}NumberScheduled": value for key, value in numbers.items()}
    return made


def refused(seconds, *, name="confcom-quote-helper", reason="FailedCreate"):
    return make.event(name, reason, "exceeded quota", at=f"2026-11-25T00:00:{seconds:02}Z")


@pytest.mark.parametrize(
    ("daemon", "events", "expected"),
    [
        (counted(updated=0), [refused(10)], True),
        (counted(updated=0), [refused(20), refused(21, reason="FailedDaemonPod")], True),
        (counted(updated=0), [refused(9)], False),
        (counted(updated=0), [refused(30, reason="FailedDaemonPod")], False),
        (counted(updated=0), [refused(30, name="other")], False),
        (counted(), [refused(30)], False),
        (counted(desired=2), [refused(9)], True),
    ],
    ids=["as the last Pod", "later", "a Pod came since", "other warning", "of another", "finished", "a Pod lacks"],
)
def test_pods_that_cannot_be_created_say_why(daemon, events, expected):
    found = status(daemon_sets=(PLUGIN, daemon), pods=[READY[0], helper(10)], events=events)
    assert codes(found) == (["pods-not-created"] if expected else [])
    assert not expected or "exceeded quota" in text_of(found, "pods-not-created")


def test_without_the_add_on_its_nodes_have_no_other_problem_than_lost_epc():
    found = status(node(labels={}, allocatable=0), pods=(), daemon_sets=(), templates={})
    assert codes(found) == ["not-enabled", "epc-not-offered"]
    assert not found.enabled
    assert SYSTEM in found.problems[0].text


def test_an_add_on_that_selects_no_node_says_the_label():
    found = status(node(labels={}, epc=0), pods=())
    assert codes(found) == ["no-nodes"]
    assert "confcom.internal/simulated-sgx=true" in found.problems[0].text


HISTORY = {"deployed": "done", "superseded": "done", "failed": 'Upgrade "confcom" failed: x'}


@pytest.mark.parametrize(
    ("statuses", "remedies"),
    [
        (["deployed"], None),
        (["uninstalled"], None),
        (["failed"], ["confcom enable", "confcom disable"]),
        (["deployed", "failed"], ["confcom enable", "confcom rollback"]),
        (["deployed", "pending-upgrade"], ["confcom enable", "confcom rollback"]),
        (["deployed", "uninstalling"], ["confcom disable"]),
    ],
    ids=lambda one: " ".join(one or ["fine"]),
)
def test_an_unfinished_change_is_named_with_helms_words_and_remedies(statuses, remedies):
    history = tuple(Revision(number, one, HISTORY.get(one, "")) for number, one in enumerate(statuses, 1))
    found = status(history=history)
    assert codes(found) == (["change-unfinished"] if remedies else [])
    if remedies:
        problem = text_of(found, "change-unfinished")
        assert commands_in(problem) == remedies
        assert HISTORY.get(statuses[-1], statuses[-1]) in problem


CHANGED = ObjectChange("DaemonSet", "confcom-quote-helper", Effect.CHANGED, (FieldChange("spec.x", 1, 2),))
GONE = ObjectChange("ValidatingAdmissionPolicy", "p", Effect.MADE)
DEPLOYED = Revision(1, "deployed")
SWITCHED_OFF = ObjectChange(
    "ValidatingAdmissionPolicy", "p", Effect.REPLACED, (FieldChange("spec.matchConditions", [], None),)
)
RECREATED = tuple(
    ObjectChange(kind, "confcom-x", Effect.RECREATED, (FieldChange("spec.x: Invalid"),))
    for kind in ("Service", "DaemonSet")
)


@pytest.mark.parametrize(
    ("drift", "expected"),
    [
        (Comparison((CHANGED,)), ["object-changed"]),
        (Comparison((GONE,)), ["object-missing"]),
        (Comparison(added=(("DaemonSet x", ("container spy",)),)), ["object-changed"]),
    ],
)
def test_drift_is_a_problem(drift, expected):
    found = status(drift=drift)
    assert codes(found) == expected
    assert [one["code"] for one in found.to_json()["drift"]] == expected


def test_the_problem_says_what_drift_does_and_which_command_mends_it():
    problems = [one.text for one in status(drift=Comparison((SWITCHED_OFF, *RECREATED))).problems]
    assert "does not apply to" in problems[0]
    assert "kubectl delete daemonset/confcom-x" in problems[2]
    assert [commands_in(one) for one in problems] == [["confcom enable"]] * 3


def test_a_comparison_that_was_not_made_is_named_and_no_problem():
    found = status(drift=Comparison(not_compared=("no right to patch",)), not_read=(Problem("Pods", code="not-read"),))
    assert found.ok
    assert found.to_json()["not_compared"] == ["Pods", "no right to patch"]


AB, CD = "ab" * 32, "cd" * 32


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        (RootFacts("root", SYSTEM, True, AB, "", {"a": AB, "b": AB, SERVED: AB}), []),
        (RootFacts("root", SYSTEM, None), []),
        (RootFacts("root", SYSTEM, False), ["simulated-root-missing"]),
        (RootFacts("root", SYSTEM, True, "", "no seed", {"a": AB}), ["simulated-root-unusable"]),
        (RootFacts("root", SYSTEM, None, "", "", {"a": AB, "b": CD}), ["simulated-roots-differ"]),
        (RootFacts("root", SYSTEM, True, AB, "", {"a": CD}), ["simulated-roots-differ"]),
        (RootFacts("root", SYSTEM, True, AB, "", {"a": AB, SERVED: CD}), ["simulated-roots-differ"]),
    ],
)
def test_the_simulated_root(root, expected):
    found = status(root=root)
    assert codes(found) == expected
    if "simulated-roots-differ" in expected:
        problem = text_of(found, "simulated-roots-differ")
        assert "abababab" in problem
        assert "cdcdcdcd" in problem


HELD = make.inventory(131_072, 2_048, held_back_mib=129_018, choice="no-policy")
KEPT = make.inventory(68, 2_048, kept_mib=1_986, choice="kept-allocated")
HARDWARE = make.daemon_set("quote-helper", make.HARDWARE, args=("--provider=aesmd",))
TEST_ROOT = make.daemon_set("quote-helper", make.HARDWARE, args=("--provider=aesmd", "--expected-root=x"))
OLD = make.daemon_set("device-plugin", args=("--simulated", "--api-server=1.35", "--capacity-support=api-server"))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, []),
        ({"inventories": {"a": HELD}}, ["epc-held-back"]),
        ({"inventories": {"a": make.inventory(2_054, 2_048, choice="kept-allocated")}}, []),
        ({"inventories": {"a": KEPT}}, ["epc-kept"]),
        ({"daemon_sets": (PLUGIN, HELPER, HARDWARE)}, ["never-run-on-sgx-hardware"]),
        ({"daemon_sets": (PLUGIN, HELPER, TEST_ROOT)}, ["test-root", "never-run-on-sgx-hardware"]),
        ({"daemon_sets": (OLD, HELPER)}, ["api-server-old"]),
    ],
)
def test_notes_are_no_problems(more, expected):
    found = status(node(epc=2_048), **more)
    assert [one["code"] for one in found.to_json()["notes"]] == expected
    assert found.ok


def test_epc_is_none_where_pods_were_not_read_and_limited_by_the_controllers_maximum():
    tenant = make.pod("x", on="a", limits={EPC: 100})
    assert status(tenants=[tenant]).nodes[0].epc.free == 62
    assert status(epc_pods=None).nodes[0].epc.to_json()["free_mib"] is None
    container = {"name": "controller", "args": ["--max-epc-mib=50"]}
    labels = {"app.kubernetes.io/name": "confcom", "app.kubernetes.io/component": "controller"}
    spec = {"replicas": 1, "template": {"spec": {"containers": [container]}}}
    limited = {**deployment(), "metadata": {"generation": 2, "labels": labels}, "spec": spec}
    plugin = make.inventory(kind="capacity", choice="large-epc")
    deployments = {Component.CONTROLLER: limited}
    found = status(tenants=[tenant], deployments=deployments, inventories={"a": plugin}, pods=[*READY, controller()])
    assert codes(found) == ["epc-shortfall"]
    assert "maxEpcMiBPerNode (to at most 162)" in found.problems[0].text


def test_json_keeps_its_names():
    document = status(node(), node("other", labels={}, epc=0)).to_json()
    (of_node,) = document.pop("nodes")
    assert document == {
        "enabled": True,
        "ok": True,
        "namespace": SYSTEM,
        "version": "0.1.0",
        "simulated": True,
        "staging": "none",
        "notes": [],
        "update_in_progress": False,
        "nodes_without_sgx": 1,
        "workloads": [],
        "problems": [],
        "problem_details": [],
        "problem_groups": [],
        "drift": [],
        "not_compared": [],
    }
    amounts = {"resource": EPC, "capacity_mib": 162, "allocatable_mib": 162, "used_mib": 0}
    unknown = {"found_mib": None, "offered_mib": None, "accounting": None}
    assert of_node["epc"] == amounts | unknown | {"free_mib": 162}
    assert (of_node["name"], of_node["sgx"], of_node["ready"]) == ("a", "simulated", True)
    assert of_node["problems"] == []
    assert [one["state"] for key in ("device_plugin", "quote_helper") for one in of_node[key]] == ["ready"] * 2


@pytest.mark.parametrize(
    ("labels", "offered", "limits", "code"),
    [
        ({}, {EPC: 0}, {EPC: 90}, "node-not-selected"),
        ({}, {}, {EPC: 90}, "node-not-selected"),
        ({}, {}, {SIMULATED.epc: 90}, "node-not-selected"),
        ({}, {EPC: 162, make.ENCLAVE: 0}, {EPC: 90, make.ENCLAVE: 1}, "node-not-selected"),
        ({"renamed": "yes"}, {make.ENCLAVE: 0}, {make.ENCLAVE: 1}, "node-not-selected"),
        ({"intel": "yes"}, {make.ENCLAVE: 20}, {make.ENCLAVE: 3}, ""),
        (make.SIMULATED, {EPC: 162, make.ENCLAVE: 2}, {EPC: 90, make.ENCLAVE: 3}, "requests-not-offered"),
        (make.SIMULATED, {EPC: 162, make.ENCLAVE: 3}, {EPC: 90, make.ENCLAVE: 3}, ""),
    ],
)
def test_it_is_not_well_while_pods_request_what_their_node_lacks(labels, offered, limits, code):
    there = make.node("lost", labels, resources=offered)
    parts = ("device-plugin", "quote-helper") if labels == make.SIMULATED else ()
    pods = [make.daemon(part, "lost") for part in parts]
    tenants = [make.pod("job", on="lost", limits=limits)]
    found = status(there, node(), pods=(*READY, *pods), tenants=tenants)
    assert codes(found, "lost") == ([code] if code else [])
    assert found.ok is not bool(code)
    if code:
        assert "lost" in [one.name for one in found.nodes]


def test_epc_that_the_controller_has_written_is_offered_by_nobody_without_a_plugin():
    there = make.node("lost", {}, resources={EPC: 162})
    there["metadata"]["managedFields"] = [make.writes_of([EPC])]
    found = status(there, node(), tenants=[make.pod("job", on="lost", limits={EPC: 90})])
    assert codes(found) == ["node-not-selected"]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"left": ("Deployment x",)}, ["release-missing"]),
        ({"left": ("Deployment x",), "history": (DEPLOYED,)}, ["object-left"]),
        ({"left": ("Role x",), "daemon_sets": (), "pods": ()}, ["release-missing", "not-enabled"]),
        ({"history": (DEPLOYED,), "daemon_sets": (), "pods": ()}, ["object-missing"]),
        ({"history": (DEPLOYED,), "daemon_sets": (), "pods": (), "drift": Comparison((GONE,))}, ["object-missing"]),
    ],
)
def test_what_helm_has_no_record_of_and_what_it_alone_has(facts, expected):
    found = status(node(epc=0), **facts)
    assert codes(found, "") == expected
    assert found.enabled is ("not-enabled" not in expected)
    assert not found.ok
