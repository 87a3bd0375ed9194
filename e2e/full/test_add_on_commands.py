"""`confcom enable`, `status`, `update` and `rollback` on the real cluster, as a person runs them there."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from confcom.errors import ExitCode
from e2e.add_on import EPC, EPC_MIB, ROOT, SIMULATED_LABEL, SYSTEM
from e2e.cluster import Cluster
from e2e.cluster.addresses import NODE_NAME
from e2e.confcom_command import HELPER, JSON, PLUGIN, changes, codes_of, confcom, document_of, status_of
from e2e.images_workshop import CHART_REGISTRY, references
from e2e.waiting import until

FOUND_MIB = "168"
"""What the chart simulates, with what is set aside for quote helpers."""
ENABLE = ("enable", "--simulated-node", NODE_NAME)
REGISTRY = ("--set", CHART_REGISTRY)
STRICT = "confcom-strict"
HERE = f"--namespace={SYSTEM}"
HELPERS, BINDING = f"daemonset/confcom-{HELPER}", "confcom-pods"
LATEST = references(HELPER)[1]
"""The helper's image under another tag: it starts, and nothing fails."""

pytestmark = pytest.mark.timeout(600, func_only=True)


def pods(cluster, component):
    selector = f"--selector=app.kubernetes.io/component={component}"
    return cluster.kubectl_json("get", "pods", HERE, selector)["items"]


def nothing_is_changed(cluster):
    assert SIMULATED_LABEL not in cluster.kubectl_json("get", "node", NODE_NAME)["metadata"]["labels"]
    assert cluster.kubectl_json("get", "daemonsets", "--selector=app.kubernetes.io/name=confcom", "-A")["items"] == []
    assert not cluster.helm("list", "--short", "--all-namespaces").stdout


@pytest.fixture
def strict_namespace(cluster):
    cluster.kubectl("create", "namespace", STRICT)
    cluster.kubectl("label", "namespace", STRICT, "pod-security.kubernetes.io/enforce=baseline")
    yield
    cluster.kubectl("delete", "namespace", STRICT)


@pytest.mark.usefixtures("strict_namespace")
@pytest.mark.parametrize(
    ("arguments", "problem", "code"),
    [
        (ENABLE, "images-from-anywhere", ExitCode.USAGE),
        (
            (*ENABLE, *REGISTRY, "--set=quoteHelper.resources.limits.memory=16Mi"),
            "memory-limit-too-small",
            ExitCode.USAGE,
        ),
        (("enable", "--simulated", *REGISTRY), "no-nodes", ExitCode.REFUSED),
        ((*ENABLE, *REGISTRY, f"--namespace={STRICT}"), "object-refused", ExitCode.REFUSED),
    ],
    ids=["no registry", "too little memory", "no node", "a strict namespace"],
)
def test_a_refused_enable_changes_nothing(bare, arguments, problem, code):
    done = confcom(bare, *arguments, JSON, code=code)
    assert problem in codes_of(done)
    nothing_is_changed(bare)


def test_missing_permissions_are_named_before_a_change(bare):
    bare.kubectl("create", "namespace", SYSTEM, check=False)
    bare.kubectl("create", "clusterrolebinding", "case-viewer", "--clusterrole=view", "--user=eve")
    try:
        done = confcom(bare, "enable", "--simulated", "--as=eve", JSON, code=ExitCode.UNAVAILABLE)
        plan = confcom(bare, "enable", "--simulated", "--dry-run", "--as=eve", code=ExitCode.UNAVAILABLE)
    finally:
        bare.kubectl("delete", "clusterrolebinding", "case-viewer")
    assert codes_of(done) == {"forbidden"}
    assert '"leases"' in document_of(done)["error"]["why"]
    for permission in ("create daemonsets.apps", "list secrets", "create leases.coordination.k8s.io"):
        assert f"{permission} in {SYSTEM}" in plan.stderr
    nothing_is_changed(bare)


def test_enable_twice_and_status(bare):
    first = document_of(confcom(bare, *ENABLE, *REGISTRY, JSON))
    assert (first["changed"], first["revision"]) == (True, 1)
    assert first["cluster"] == status_of(bare)["cluster"]
    before = bare.kubectl_json("get", "pods", HERE)["items"]
    again = document_of(confcom(bare, "enable", "--simulated", JSON))
    assert (again["changed"], again["revision"]) == (False, 1)
    after = bare.kubectl_json("get", "pods", HERE)["items"]
    assert {pod["metadata"]["uid"] for pod in after} == {pod["metadata"]["uid"] for pod in before}

    status = confcom(bare, "status", "--wait")
    context, server = (first["cluster"][key] for key in ("context", "server"))
    assert status.stderr.splitlines()[0] == f"cluster: {context} ({server})"
    table = status.stdout
    (row,) = [line.split() for line in table.splitlines() if line.startswith(NODE_NAME)]
    counted = [FOUND_MIB, EPC_MIB, "0", EPC_MIB, "device", "(fits-devices)"]
    assert row == [NODE_NAME, "simulated", *counted, "ready", "0.1.0", "ready", "0.1.0"]

    document = status_of(bare)
    (node,) = document["nodes"]
    amount = int(EPC_MIB)
    accounting = node["epc"].pop("accounting")
    assert (accounting["kind"], accounting["choice"], accounting["held_back_mib"]) == ("device", "fits-devices", 0)
    has = dict.fromkeys(("offered_mib", "capacity_mib", "allocatable_mib", "free_mib"), amount)
    assert node["epc"] == {"resource": EPC, "found_mib": int(FOUND_MIB), "used_mib": 0, **has}
    assert document["ok"] is True


def test_kubectl_runs_it_as_its_plugin(installed):
    by_kubectl = json.loads(installed.run(["kubectl", "confcom", "status", JSON]).stdout)
    assert by_kubectl == status_of(installed)
    assert by_kubectl["ok"] is True
    assert [node["name"] for node in by_kubectl["nodes"]] == [NODE_NAME]


def test_update_and_rollback_replace_the_daemons(installed):
    (before,) = pods(installed, HELPER)
    assert changes(confcom(installed, "update", "--set", "logLevel=debug", JSON))
    (after,) = pods(installed, HELPER)
    assert "--log-level=debug" in after["spec"]["containers"][0]["args"]
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert changes(confcom(installed, "rollback", JSON))
    (back,) = pods(installed, HELPER)
    assert back["spec"]["containers"][0]["args"] == before["spec"]["containers"][0]["args"]


@pytest.mark.parametrize(("component", "value"), [(PLUGIN, "devicePlugin"), ("controller", "controller")])
def test_an_update_that_cannot_start_is_rolled_back(installed, component, value):
    (serving,) = pods(installed, component)
    broken = f"--set={value}.image.repository=confcom/not-there"
    # It is told long before the deadline.
    done = confcom(installed, "update", broken, "--timeout=3600", JSON, code=ExitCode.NOT_READY)
    assert "daemons-not-ready" in codes_of(done)
    assert re.search("ErrImagePull|ImagePullBackOff", done.stderr)
    assert serving["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in pods(installed, component)}
    seen = document_of(confcom(installed, "status", JSON, code=ExitCode.NOT_READY))
    assert [node["epc"]["allocatable_mib"] for node in seen["nodes"]] == [int(EPC_MIB)]

    assert changes(confcom(installed, "rollback", JSON))
    until(lambda: len(pods(installed, component)) == 1, "the Pod that cannot start is gone")
    (left,) = pods(installed, component)
    assert left["metadata"]["uid"] == serving["metadata"]["uid"]
    confcom(installed, "status")


def test_the_documented_roles_are_enough_to_look(installed):
    page = (ROOT / "docs" / "how-to" / "let-people-look.md").read_text()
    plain, record = re.findall(r"^```yaml\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    somebody = ("--as=somebody", "--as-group=confcom-viewers")
    confcom(installed, "status", *somebody, code=ExitCode.UNAVAILABLE)
    try:
        installed.kubectl("apply", "--filename=-", input=plain)
        seen = document_of(confcom(installed, "status", JSON, *somebody))
        assert seen["ok"] is True
        assert len(seen["not_compared"]) == 1
        assert "secrets is forbidden" in seen["not_compared"][0]
        installed.kubectl("apply", "--filename=-", input=record)
        seen = document_of(confcom(installed, "status", JSON, *somebody))
        # A dry run needs the permission to change.
        assert seen["not_compared"]
        assert [one for one in seen["not_compared"] if "cannot patch resource" not in one] == []
    finally:
        for manifests in (plain, record):
            installed.kubectl("delete", "--filename=-", "--ignore-not-found", input=manifests)


@dataclass(frozen=True)
class HandEdit:
    """What somebody does with kubectl alone, and what `status` names."""

    make: Callable[[Cluster], object]
    code: str
    named: str


def set_image(cluster):
    cluster.kubectl("set", "image", HERE, HELPERS, f"{HELPER}={LATEST}")


def add_container(cluster):
    (helper,) = cluster.kubectl_json("get", HELPERS, HERE)["spec"]["template"]["spec"]["containers"]
    extra = {"name": "debug", "image": helper["image"], "command": ["sleep", "3600"]}
    patch(cluster, HELPERS, {"spec": {"template": {"spec": {"containers": [extra]}}}}, "strategic")


def weaken_policy(cluster):
    patch(cluster, f"validatingadmissionpolicybinding/{BINDING}", {"spec": {"validationActions": ["Warn"]}})


def delete_binding(cluster):
    cluster.kubectl("delete", "validatingadmissionpolicybinding", BINDING)


def delete_helpers(cluster):
    cluster.kubectl("delete", HELPERS, HERE, "--cascade=foreground")


def patch(cluster, thing, change, how="merge"):
    cluster.kubectl("patch", thing, HERE, f"--type={how}", f"--patch={json.dumps(change)}")


EDITS = (
    HandEdit(set_image, "object-changed", LATEST),
    HandEdit(weaken_policy, "object-changed", "validationActions"),
    HandEdit(delete_binding, "object-missing", BINDING),
    HandEdit(delete_helpers, "object-missing", f"confcom-{HELPER}"),
)


def generation(cluster):
    return cluster.kubectl_json("get", HELPERS, HERE)["metadata"]["generation"]


def test_hand_edits_are_named_and_set_back(installed, tell):
    for edit in EDITS:
        edit.make(installed)
        seen = document_of(confcom(installed, "status", JSON, code=ExitCode.NOT_READY))
        assert any(one["code"] == edit.code and edit.named in one["problem"] for one in seen["problem_details"]), seen
        assert changes(confcom(installed, "enable", JSON))
        confcom(installed, "status")
        tell(edit.make.__name__)
    # Additions stay; those to the privileged Pods are named, for somebody to remove.
    add_container(installed)
    added = document_of(confcom(installed, "status", JSON, code=ExitCode.NOT_READY))["problem_details"]
    assert any(one["code"] == "object-changed" and "container debug" in one["problem"] for one in added), added
    assert not changes(confcom(installed, "enable", JSON))
    delete_helpers(installed)
    assert changes(confcom(installed, "enable", JSON))
    confcom(installed, "status")
    # Others' annotations, and the restart that kubectl does by one, are theirs.
    installed.kubectl("rollout", "restart", HERE, HELPERS)
    installed.kubectl("rollout", "status", HERE, HELPERS)
    assert not changes(confcom(installed, "enable", JSON))
    confcom(installed, "status")

    set_image(installed)
    edited = generation(installed)
    confcom(installed, "update", "--set", "logLevel=debug")
    assert generation(installed) == edited + 1, "the template is changed once"
    set_image(installed)
    confcom(installed, "rollback")
    confcom(installed, "status")
    assert LATEST not in json.dumps(installed.kubectl_json("get", HELPERS, HERE)["spec"])
