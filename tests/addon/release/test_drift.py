"""What differs between a manifest and a live object, and who wrote it."""

import copy
import json

import pytest

from confcom.addon.release.drift import Deviation, drift, field_drift
from confcom.addon.release.drift_report import MAX_VALUE_CHARACTERS, MOST_FIELDS, described, shown
from confcom.addon.release.field_managers import Entry, Item, Value, entries, handover_patch

KEY = 'k:{"name":"main"}'
CONTAINER = ("spec", "template", "spec", "containers", Item((("name", "main"),)))


def daemon_set(container=(), *, managed=(), labels=None, **spec):
    main = {"name": "main", "image": "a:1"} | dict(container)
    template = {"metadata": {"labels": labels or {}}, "spec": {"containers": [main]} | spec}
    metadata = {"name": "d", "namespace": "n", "managedFields": list(managed)}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": {"template": template}}


def pod_spec(tree):
    return {"f:spec": {"f:template": {"f:spec": tree}}}


def container(tree):
    return pod_spec({"f:containers": {KEY: tree}})


def entry(manager, fields, operation="Update", **more):
    return {"manager": manager, "operation": operation, "time": f"T-{manager}", "fieldsV1": fields} | more


EMPTY = {"name": "a", "emptyDir": {}}
RELEASE = {"f:metadata": {"f:annotations": {"f:meta.helm.sh/release-name": {}}}}
HELM = entry("helm", container({".": {}, "f:image": {}, "f:name": {}}), "Apply")


def found(wanted, live):
    return {shown(one.path): (one.deviation, one.manager) for one in field_drift(wanted, live)}


@pytest.mark.parametrize(
    ("wanted", "live"),
    [
        ({"resources": {"limits": {"cpu": "0.5", "memory": "1Gi"}}}, {"limits": {"cpu": "500m", "memory": "1024Mi"}}),
        ({"resources": {"limits": {"cpu": 1, "memory": 134217728}}}, {"limits": {"cpu": "1", "memory": "134217728"}}),
        ({"resources": {"limits": {"cpu": "1e-2"}}}, {"limits": {"cpu": "10m"}}),
        ({"resources": {"requests": {}}}, None),
    ],
)
def test_quantities_are_compared_by_value(wanted, live):
    written = {"resources": live} if live else {}
    assert found(daemon_set(wanted), daemon_set(written)) == {}


@pytest.mark.parametrize(
    ("wanted", "live"),
    [
        ({"hostPID": False}, {}),
        ({"hostPID": None}, {}),
        ({"tolerations": []}, {}),
        ({"affinity": {}}, {}),
        ({"affinity": {"nodeAffinity": {}}}, {}),
        ({"priorityClassName": ""}, {}),
        ({}, {"dnsPolicy": "ClusterFirst", "restartPolicy": "Always"}),
        ({"tolerations": [{"key": "a"}]}, {"tolerations": [{"key": "a", "operator": "Equal"}]}),
        (
            {"volumes": [EMPTY, {"name": "b", "secret": {"secretName": "s"}}]},
            {"volumes": [{"name": "b", "secret": {"secretName": "s", "defaultMode": 420}}, EMPTY]},
        ),
    ],
)
def test_what_the_api_server_fills_in_or_leaves_out_is_no_drift(wanted, live):
    assert found(daemon_set(**wanted), daemon_set(**live)) == {}


@pytest.mark.parametrize(
    ("wanted", "live", "path", "deviation"),
    [
        ({"automountServiceAccountToken": False}, {}, "automountServiceAccountToken", Deviation.MISSING),
        ({"hostPID": True}, {}, "hostPID", Deviation.MISSING),
        ({"hostPID": False}, {"hostPID": True}, "hostPID", Deviation.CHANGED),
        ({"enableServiceLinks": True}, {"enableServiceLinks": 1}, "enableServiceLinks", Deviation.CHANGED),
        ({"tolerations": [{"key": "a"}]}, {"tolerations": [{"key": "b"}]}, "tolerations", Deviation.CHANGED),
        ({"tolerations": [{"key": "a"}]}, {}, "tolerations", Deviation.MISSING),
        ({"tolerations": []}, {"tolerations": [{}]}, "tolerations", Deviation.CHANGED),
        ({"volumes": [{"name": "a"}]}, {"volumes": [{"name": "b"}]}, "volumes[a]", Deviation.MISSING),
        ({"nodeSelector": {"a": "b"}}, {"nodeSelector": {"a": "c"}}, "nodeSelector.a", Deviation.CHANGED),
        ({"overhead": {"memory": "128Mi"}}, {"overhead": {"memory": "300Mi"}}, "overhead.memory", Deviation.CHANGED),
    ],
)
def test_drift(wanted, live, path, deviation):
    assert found(daemon_set(**wanted), daemon_set(**live)) == {f"spec.template.spec.{path}": (deviation, "")}


def test_labels_that_are_set_must_be_there_and_others_may():
    wanted, live = daemon_set(labels={"a": "b"}), daemon_set(labels={"a": "b", "c": "d"})
    live["metadata"] |= {"labels": {"x": "y"}, "annotations": {"x": "y"}}
    assert found(wanted, live) == {}
    wanted["metadata"]["labels"] = {"app": "x"}
    assert found(wanted, live) == {"metadata.labels.app": (Deviation.MISSING, "")}


def test_who_wrote_it():
    managed = [
        HELM,
        entry("old", container({"f:image": {}}), time="2026-01-01"),
        entry("new", container({"f:image": {}})),
    ]
    path = "spec.template.spec.containers[main].image"
    assert found(daemon_set(), daemon_set({"image": "b:1"}, managed=managed)) == {path: (Deviation.CHANGED, "new")}


@pytest.mark.parametrize("operation", ["Apply", "Update"])
def test_a_change_by_admission_in_helms_request_is_no_drift(operation):
    helm = HELM | {"operation": operation}
    mirrored = {"image": "mirror.test/a:1"}
    assert found(daemon_set(), daemon_set(mirrored, managed=[helm])) == {}
    assert found(daemon_set(), daemon_set(mirrored)) != {}
    flux = helm | {"manager": "helm-controller"}
    flux["fieldsV1"] = flux["fieldsV1"] | RELEASE
    assert found(daemon_set(), daemon_set(mirrored, managed=[flux])) == {}


def test_who_applies_a_whole_export_is_not_taken_for_helm():
    managed = [HELM | {"fieldsV1": RELEASE}, entry("kubectl", container({"f:image": {}}) | RELEASE, "Apply")]
    assert found(daemon_set(), daemon_set({"image": "b:1"}, managed=managed)) == {
        "spec.template.spec.containers[main].image": (Deviation.CHANGED, "kubectl")
    }


def test_what_somebody_added_is_named_once_and_at_its_outermost():
    added = {"name": "debug", "image": "busybox"}
    tree = {"f:containers": {KEY: {"f:env": {".": {}, 'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}}}}}
    tree["f:containers"]['k:{"name":"debug"}'] = {".": {}, "f:image": {}, "f:name": {}}
    managed = [HELM, entry("kubectl-edit", pod_spec(tree | {"f:hostNetwork": {}, "f:dnsConfig": {}}))]
    live = daemon_set({"env": [{"name": "A", "value": "b"}]}, managed=managed, hostNetwork=True)
    live["spec"]["template"]["spec"]["containers"].append(added)
    pod = "spec.template.spec"
    assert found(daemon_set(), live) == {
        f"{pod}.containers[main].env": (Deviation.ADDED, "kubectl-edit"),
        f"{pod}.containers[debug]": (Deviation.ADDED, "kubectl-edit"),
        f"{pod}.hostNetwork": (Deviation.ADDED, "kubectl-edit"),
    }


def test_defaults_of_an_export_are_no_additions():
    defaults = {"dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "serviceAccount": "x", "securityContext": {}}
    managed = [entry("kubectl-replace", pod_spec({f"f:{name}": {} for name in defaults}) | RELEASE)]
    assert found(daemon_set(), daemon_set(managed=managed, **defaults)) == {}
    assert found(daemon_set(), daemon_set({"image": "b:1"}, managed=managed, **defaults | {"dnsPolicy": "None"})) == {
        "spec.template.spec.containers[main].image": (Deviation.CHANGED, ""),
        "spec.template.spec.dnsPolicy": (Deviation.ADDED, "kubectl-replace"),
    }


@pytest.mark.parametrize(
    "managed",
    [
        entry("helm", pod_spec({"f:hostNetwork": {}})),
        entry("kube-controller-manager", pod_spec({"f:hostNetwork": {}}), subresource="status"),
        entry("x", {"f:spec": {"f:template": {"f:metadata": {"f:annotations": {"f:restartedAt": {}}}}}}),
        entry("x", {"f:metadata": {"f:annotations": {"f:mine": {}}}}),
    ],
)
def test_defaults_status_and_annotations_are_no_additions(managed):
    live = daemon_set(managed=[HELM, managed], hostNetwork=True)
    live["metadata"]["annotations"] = {"mine": "x"}
    live["spec"]["template"]["metadata"]["annotations"] = {"restartedAt": "x"}
    assert found(daemon_set(), live) == {}


def test_a_key_that_was_added_to_the_node_selector():
    managed = [entry("kubectl-patch", pod_spec({"f:nodeSelector": {}}))]
    live = daemon_set(managed=managed, nodeSelector={"a": "b", "c": "d"})
    assert found(daemon_set(nodeSelector={"a": "b"}), live) == {
        "spec.template.spec.nodeSelector": (Deviation.CHANGED, "kubectl-patch")
    }
    assert found(daemon_set(nodeSelector={"a": "b", "c": "d"}), live) == {}


def test_objects_are_told_apart_by_group_kind_namespace_and_name():
    wanted = daemon_set()
    del wanted["metadata"]["namespace"]
    policy = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "Policy", "metadata": {"name": "p"}, "spec": {}}
    assert drift([wanted, policy], [daemon_set(), policy], "n") == ()
    (gone,) = drift([wanted], [daemon_set()], "elsewhere")
    assert (gone.kind, gone.name, gone.gone) == ("DaemonSet", "d", True)


def test_long_values_are_cut_and_variables_not_shown():
    wanted = daemon_set({"env": [{"name": "A", "value": "b"}]})
    live = daemon_set({"env": [{"name": "A", "value": "hidden"}], "image": "x" * 1000})
    (one,) = drift([wanted], [live], "n")
    assert "hidden" not in described(one)
    assert f" {'x' * MAX_VALUE_CHARACTERS}... " in described(one)
    many = (daemon_set(nodeSelector=dict.fromkeys(map(str, range(MOST_FIELDS + 2)), value)) for value in "xy")
    (one,) = drift([next(many)], [next(many)], "n")
    assert described(one).endswith("; 2 more")


def applied(kept, patch):
    """As the API server applies a JSON patch to managed fields."""
    kept = copy.deepcopy(kept)
    for one in patch:
        _, _, _, index, *field = one["path"].split("/")
        if one["op"] == "test":
            assert kept[int(index)] == one["value"]
        elif one["op"] == "replace":
            kept[int(index)][field[0]] = one["value"]
        elif one["op"] == "remove":
            del kept[int(index)]
        else:
            assert (one["op"], index) == ("add", "-")
            kept.append(one["value"])
    return kept


def handing_over(managed, *paths):
    live = daemon_set(managed=managed)
    return applied(managed, json.loads(json.dumps(handover_patch(live, paths))))


def test_what_was_added_is_handed_over_to_helm():
    status = entry("kube-controller-manager", {"f:status": {}}, subresource="status")
    edited = entry("kubectl-edit", container({"f:image": {}, "f:env": {".": {}, 'k:{"name":"A"}': {".": {}}}}))
    after = handing_over([HELM, status, edited], (*CONTAINER, "env"))
    env = {".": {}, 'k:{"name":"A"}': {".": {}}}
    taken = HELM | {"fieldsV1": container({".": {}, "f:image": {}, "f:name": {}, "f:env": env})}
    assert after == [taken, status, entry("kubectl-edit", container({"f:image": {}}))]


def test_an_empty_entry_goes_and_helm_gets_one():
    old = entry("helm", container({"f:image": {}}))
    applied_by_b = entry("b", pod_spec({"f:hostPID": {}}), "Apply", apiVersion="apps/v1")
    managed = [entry("a", container({"f:env": {}})), old, applied_by_b]
    after = handing_over(managed, (*CONTAINER, "env"), ("spec", "template", "spec", "hostPID"))
    assert [(one["manager"], one["operation"]) for one in after] == [("helm", "Update"), ("helm", "Apply")]
    assert after[1]["fieldsV1"] == pod_spec({"f:containers": {KEY: {"f:env": {}}}, "f:hostPID": {}})


def test_an_item_of_a_set():
    wanted = {"apiVersion": "x/v1", "kind": "Binding", "metadata": {"name": "b"}, "spec": {"actions": ["Deny"]}}
    managed = [HELM, entry("kubectl-patch", {"f:spec": {"f:actions": {".": {}, 'v:"Warn"': {}}}})]
    live = copy.deepcopy(wanted) | {"spec": {"actions": ["Warn"]}}
    live["metadata"]["managedFields"] = managed
    path = ("spec", "actions", Value("Warn"))
    assert path in {one.path for one in field_drift(wanted, live) if one.deviation is Deviation.ADDED}
    left = applied(managed, handover_patch(live, [path]))[1]
    assert left["fieldsV1"] == {"f:spec": {"f:actions": {".": {}}}}


def test_a_port_is_known_by_its_number():
    key = 'k:{"containerPort":8080,"protocol":"TCP"}'
    (one,) = entries(daemon_set(managed=[entry("x", container({"f:ports": {key: {"f:name": {}}}}))]))
    assert isinstance(one, Entry)
    step = Item((("containerPort", 8080), ("protocol", "TCP")))
    assert one.owns((*CONTAINER, "ports", step, "name"))
    assert step.within([{"containerPort": 8080}]) == {"containerPort": 8080}
    assert step.within([{"containerPort": 8080, "protocol": "UDP"}]) is None
