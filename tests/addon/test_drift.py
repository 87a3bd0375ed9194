import copy

import pytest

from confcom.addon.api import Api
from confcom.addon.drift import Comparison, Effect, FieldChange, ObjectChange, compare, deletion, removed, replace
from testkit.cluster_objects import SYSTEM
from testkit.fake_api import FakeApi

ANNOTATIONS = {"meta.helm.sh/release-name": "confcom", "meta.helm.sh/release-namespace": SYSTEM}


def daemon(**metadata):
    container = {
        "name": "main",
        "image": "registry.test/plugin:1",
        "args": ["--one"],
        "env": [{"name": "TOKEN", "value": "given"}],
        "volumeMounts": [{"name": "work", "mountPath": "/work"}],
    }
    spec = {"containers": [container], "volumes": [{"name": "work", "emptyDir": {}}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "plugin", **metadata},
        "spec": {"template": {"spec": spec}},
    }


def live(change=None):
    thing = daemon(namespace=SYSTEM, annotations={**ANNOTATIONS, "deprecated.daemonset.template.generation": "4"})
    thing["spec"]["updateStrategy"] = {"type": "RollingUpdate"}
    thing["status"] = {"numberReady": 3}
    if change:
        change(thing, thing["spec"]["template"]["spec"]["containers"][0])
    return thing


def compared(*objects, **options):
    server = FakeApi(objects, **options)
    before = copy.deepcopy(server.objects)
    found = compare(Api(server), [daemon()], SYSTEM)
    assert server.objects == before
    return found


def test_what_the_api_server_and_controllers_add_is_no_difference():
    assert compared(live()) == Comparison()


MAIN = "spec.template.spec.containers[main]"
CHANGES = {
    "image": (lambda _, main: main.update(image="evil:1"), f"{MAIN}.image: evil:1 -> registry.test/plugin:1"),
    "arguments": (lambda _, main: main.update(args=["--two"]), f"{MAIN}.args: "),
    "no arguments": (lambda _, main: main.pop("args"), f"{MAIN}.args: not set -> "),
    "variable": (lambda _, main: main["env"][0].update(value="taken"), f"{MAIN}.env[TOKEN].value"),
    "container": (lambda _, main: main.update(name="other"), "spec.template.spec.containers[main]"),
    "containers": (
        lambda thing, _: thing["spec"]["template"]["spec"].update(containers=None),
        "spec.template.spec.containers",
    ),
    "volumes": (lambda thing, _: thing["spec"]["template"]["spec"].update(volumes=[]), "spec.template.spec.volumes"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_field_is_named(name):
    change, line = CHANGES[name]
    (found,) = compared(live(change)).changes
    assert (found.kind, found.name, found.effect) == ("DaemonSet", "plugin", Effect.CHANGED)
    assert line in str(found)
    for value in ("taken", "given"):
        assert value not in str(found)
        assert value not in str(found.to_json())


def test_a_missing_object_would_be_made_and_a_dropped_one_removed():
    assert compared().changes == (ObjectChange("DaemonSet", "plugin", Effect.MADE),)
    policy = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "old"}}
    assert removed([daemon(), policy], [daemon()]) == (ObjectChange("ConfigMap", "old", Effect.REMOVED),)


def test_names_that_somebody_added_to_the_pod_template_are_told():
    def change(thing, container):
        spec = thing["spec"]["template"]["spec"]
        spec["containers"].append({"name": "spy"})
        spec["initContainers"] = [{"name": "before"}]
        spec["volumes"].append({"name": "root", "hostPath": {"path": "/"}})
        container["env"].append({"name": "LD_PRELOAD"})
        spec["hostNetwork"] = True
        thing["spec"]["template"]["metadata"] = {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}

    added = ("initContainer before", "variable LD_PRELOAD of main", "container spy", "volume root")
    assert compared(live(change)) == Comparison(added=(("DaemonSet plugin", added),))


@pytest.mark.parametrize("denied", [("get", "daemonsets"), ("patch", "daemonsets")])
def test_without_the_permission_it_says_that_it_was_not_compared(denied):
    found = compared(live(lambda _, container: container["env"].append({"name": "LD_PRELOAD"})), denied=[denied])
    assert (found.changes, len(found.not_compared)) == ((), 1)
    assert bool(found.added) is (denied[0] == "patch")


INVALID = 'Service "plugin" is invalid: spec.ports[1].name: Duplicate value'


@pytest.mark.parametrize(("status", "invalid"), [(422, True), (403, False)])
def test_an_object_that_no_apply_can_mend_has_to_be_recreated(status, invalid):
    server = FakeApi([live()])
    message = INVALID if invalid else "is forbidden: User no"
    server.refuse(lambda request: request.method == "PATCH", status, message)
    found = compare(Api(server), [daemon()], SYSTEM)
    assert [one.effect for one in found.changes] == ([Effect.RECREATED] if invalid else [])
    assert bool(found.not_compared) is not invalid


ADMISSION, RBAC = "admissionregistration.k8s.io/v1", "rbac.authorization.k8s.io/v1"
NONE_OF_IT = {"matchLabels": {"no": "namespace"}}
EXACT = {
    "selector in a binding": (
        {"apiVersion": ADMISSION, "kind": "ValidatingAdmissionPolicyBinding", "spec": {"policyName": "p"}},
        {"spec": {"matchResources": {"namespaceSelector": NONE_OF_IT}}},
        "does not apply to",
    ),
    "condition in a policy": (
        {"apiVersion": ADMISSION, "kind": "MutatingAdmissionPolicy", "spec": {"failurePolicy": "Fail"}},
        {"spec": {"matchConditions": [{"name": "never", "expression": "false"}]}},
        "does not apply to",
    ),
    "rules of other roles": (
        {"apiVersion": RBAC, "kind": "ClusterRole", "rules": []},
        {"aggregationRule": {"clusterRoleSelectors": [{}]}, "rules": [{"verbs": ["*"]}]},
        "permissions",
    ),
    "account in a binding": (
        {"apiVersion": RBAC, "kind": "RoleBinding", "subjects": []},
        {"subjects": [{"kind": "User", "name": "eve"}]},
        "permissions to others",
    ),
    "connections": (
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": {"podSelector": {}}},
        {"spec": {"ingress": [{}]}},
        "lets in",
    ),
}


def merged(thing, more):
    spec = {**thing.get("spec", {}), **more.get("spec", {})}
    return {**thing, **more, **({"spec": spec} if spec else {})}


@pytest.mark.parametrize("name", EXACT)
def test_what_somebody_added_to_a_policy_or_permission_is_named(name):
    manifest, added, words = EXACT[name]
    manifest |= {"metadata": {"name": "p"}}
    where = {} if "Cluster" in manifest["kind"] or "Admission" in manifest["kind"] else {"namespace": SYSTEM}
    free = {"name": "p", **where, "labels": {"theirs": "1"}, "annotations": {**ANNOTATIONS, "theirs": "2"}}
    server = FakeApi([{**manifest, "metadata": free}])
    assert compare(Api(server), [manifest], SYSTEM) == Comparison()

    server.put({**merged(manifest, added), "metadata": free})
    (found,) = compare(Api(server), [manifest], SYSTEM).changes
    assert words in found.meaning
    assert not server.writes
    replace(Api(server), manifest, SYSTEM)
    assert compare(Api(server), [manifest], SYSTEM) == Comparison()
    assert server.find(manifest["kind"], "p")[0]["metadata"]["labels"] == {"theirs": "1"}


def test_a_policy_that_no_apply_can_mend_is_replaced_and_not_deleted():
    """Somebody has added an action to the binding's set, and this action excludes our action."""
    manifest = {**EXACT["selector in a binding"][0], "metadata": {"name": "p", "annotations": ANNOTATIONS}}
    server = FakeApi([{**manifest, "spec": {"policyName": "p", "validationActions": ["Deny", "Warn"]}}])
    server.refuse(lambda request: request.method == "PATCH", 422, "is invalid: must not contain both")
    assert [one.effect for one in compare(Api(server), [manifest], SYSTEM).changes] == [Effect.REPLACED]
    server.refuse(lambda request: request.method == "PUT", 422, "is invalid: field is immutable")
    assert [one.effect for one in compare(Api(server), [manifest], SYSTEM).changes] == [Effect.RECREATED]


@pytest.mark.parametrize("annotations", [{}, {**ANNOTATIONS, "meta.helm.sh/release-namespace": "other"}])
def test_an_object_of_others_is_neither_replaced_nor_deleted(annotations):
    """Helm itself refuses to take over an object that belongs to others, and reports the refusal."""
    manifest = {**EXACT["selector in a binding"][0], "metadata": {"name": "p", "annotations": annotations}}
    server = FakeApi([{**manifest, "spec": {**manifest["spec"], "matchResources": {"namespaceSelector": {}}}}])
    found = compare(Api(server), [manifest], SYSTEM)
    assert {one.effect for one in found.changes} <= {Effect.CHANGED}
    server.refuse(lambda request: request.method == "PATCH", 422, "is invalid: must not contain both")
    found = compare(Api(server), [manifest], SYSTEM)
    assert (found.changes, len(found.not_compared)) == ((), 1)


def test_a_replacement_that_somebody_was_faster_than_is_repeated():
    manifest = {**EXACT["selector in a binding"][0], "metadata": {"name": "p"}}
    server = FakeApi([{**manifest, "spec": {}}])
    conflicts = iter([True])
    server.refuse(lambda request: request.method == "PUT" and next(conflicts, False), 409, "it has been modified")
    replace(Api(server), manifest, SYSTEM)
    assert server.find(manifest["kind"], "p")[0]["spec"] == manifest["spec"]
    server.remove(manifest["kind"], "p")
    replace(Api(server), manifest, SYSTEM)
    assert not server.find(manifest["kind"], "p")


@pytest.mark.parametrize(
    ("kind", "why", "command"),
    [
        ("DaemonSet", "spec.x: Invalid value", f"kubectl delete daemonset/p --namespace={SYSTEM} --cascade=orphan"),
        ("DaemonSet", "spec.selector: field is immutable", f"kubectl delete daemonset/p --namespace={SYSTEM}"),
        ("Service", "spec.x: Invalid value", ""),
    ],
)
def test_only_a_person_deletes_what_has_pods(kind, why, command):
    change = ObjectChange(kind, "p", Effect.RECREATED, (FieldChange(why),))
    assert deletion([change, ObjectChange("DaemonSet", "q", Effect.CHANGED)], SYSTEM) == command
