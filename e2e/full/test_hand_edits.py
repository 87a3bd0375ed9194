"""Hand edits that an apply does not repair: fields added to policies, and objects that became invalid."""

import json

import pytest

from confcom.errors import ExitCode
from e2e.add_on import HELPER, HERE, RELEASE, ROOT, daemons
from e2e.admission.cases import dry_run
from e2e.admission.pattern import MIB, PROVISION, app
from e2e.confcom_command import JSON, changes, confcom, document_of
from e2e.waiting import until

NOBODY = {"matchLabels": {"no": "namespace"}}
NEVER = [{"name": "never", "expression": "false"}]
EVE = {"kind": "User", "name": "eve", "apiGroup": "rbac.authorization.k8s.io"}
NAME = "confcom-controller"
ADDED = {
    "validatingadmissionpolicybinding/confcom-pods": (
        {"spec": {"matchResources": {"namespaceSelector": NOBODY}}},
        "does not apply to",
    ),
    "validatingadmissionpolicy/confcom-pods": ({"spec": {"matchConditions": NEVER}}, "does not apply to"),
    "mutatingadmissionpolicybinding/confcom-epc-names": (
        {"spec": {"matchResources": {"objectSelector": NOBODY}}},
        "does not apply to",
    ),
    f"clusterrole/{NAME}": ({"aggregationRule": {"clusterRoleSelectors": [{}]}}, "aggregationRule"),
    f"rolebinding/{NAME}": ({"subjects": [EVE]}, "permissions to others"),
    "networkpolicy/confcom": ({"spec": {"egress": [{}]}}, "spec.egress"),
}
"""Merge patches of objects, each with words of the problem that the patch causes."""
REQUIRE = "--set=admission.requireEpc="
"""A setting that changes only policies, so that a command need not wait for daemons."""
COMMANDS = {"enable": ("enable",), "update": ("update", f"{REQUIRE}false"), "rollback": ("rollback",)}
SERVICE = "service/confcom-simulated-pcs"
SERVED = "simulated.collateral.serve"
SAME_NAME = [{"op": "replace", "path": "/spec/ports", "value": [{"name": "pcs", "port": 9999, "targetPort": 8081}]}]
HELPERS = f"daemonset/confcom-{HELPER}"
OTHER_SOURCE = (
    {"op": "replace", "path": "/spec/updateStrategy", "value": {"type": "OnDelete"}},  # its Pods stay
    {"op": "replace", "path": "/spec/template/spec/volumes/0", "value": {"name": "aesmd", "emptyDir": {}}},
)
"""Replaces a volume's source. An apply would add the chart's source again, and the volume would have two."""
DELETED = (f"serviceaccount/confcom-{HELPER}", "validatingadmissionpolicybinding/confcom-pods")

pytestmark = pytest.mark.timeout(600, func_only=True)


def problems(cluster, code=ExitCode.NOT_READY):
    return document_of(confcom(cluster, "status", JSON, code=code))["problem_details"]


def patch(cluster, name, change, kind="merge"):
    cluster.kubectl("patch", name, HERE, f"--type={kind}", f"--patch={json.dumps(change)}")


@pytest.fixture
def updated(installed):
    """A release that has at least two revisions."""
    confcom(installed, "update", f"--set={SERVED}=true", f"{REQUIRE}false")
    confcom(installed, "update", f"{REQUIRE}true")
    yield installed
    confcom(installed, "update", f"--set={SERVED}=false", f"{REQUIRE}false")


@pytest.mark.parametrize("command", COMMANDS)
def test_what_somebody_added_to_a_policy_is_named_and_removed(updated, tenant, rewriting, command):
    cluster, asks = updated, app({PROVISION: "1", MIB: "1"})
    assert not dry_run(tenant, asks).made
    for name, (change, _) in ADDED.items():
        patch(cluster, name, change)
    until(lambda: dry_run(tenant, asks).made, "the policy is switched off")
    told = [one["problem"] for one in problems(cluster) if one["code"] == "object-changed"]
    for name, (_, words) in ADDED.items():
        kind, _, of = name.partition("/")
        assert [one for one in told if f"{kind} {of} ".lower() in one.lower() and words in one], (name, told)
    confcom(cluster, *COMMANDS[command])
    assert not problems(cluster, ExitCode.OK)
    until(lambda: not dry_run(tenant, asks).made, "the policy is in force")
    assert not changes(confcom(cluster, "enable", JSON))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_service_that_no_apply_can_mend_is_made_anew(updated, command):
    before = updated.kubectl_json("get", SERVICE, HERE)
    patch(updated, SERVICE, SAME_NAME, "json")
    (problem,) = problems(updated)
    assert "`confcom enable` deletes and creates it" in problem["problem"]
    done = confcom(updated, *COMMANDS[command])
    assert "Deleted the Service confcom-simulated-pcs" in done.stderr
    after = updated.kubectl_json("get", SERVICE, HERE)
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert [one["port"] for one in after["spec"]["ports"]] == [8081]
    assert not problems(updated, ExitCode.OK)


def test_a_daemon_set_that_no_apply_can_mend_is_left_to_a_person(updated):
    (before,) = daemons(updated, HELPER)
    patch(updated, HELPERS, OTHER_SOURCE, "json")
    deletion = f"kubectl delete {HELPERS} {HERE} --cascade=orphan"
    try:
        assert [one for one in problems(updated) if deletion in one["problem"]]
        for words in COMMANDS.values():
            assert deletion in confcom(updated, *words, code=ExitCode.REFUSED).stderr
    finally:
        updated.run(deletion.split())
    confcom(updated, "enable")
    assert not problems(updated, ExitCode.OK)
    assert [one["metadata"]["uid"] for one in daemons(updated, HELPER)] == [before["metadata"]["uid"]]


def test_after_a_failed_change_deleted_objects_are_named(updated):
    patch(updated, "validatingadmissionpolicy/confcom-templates", {"spec": {"failurePolicy": "Fail"}})
    helm = ["helm", "upgrade", RELEASE, str(ROOT / "charts" / "confcom"), HERE, "--reuse-values", "--server-side=true"]
    assert updated.run(helm, check=False).returncode  # a conflict
    updated.kubectl("delete", *DELETED, HERE)
    codes = [one["code"] for one in problems(updated)]
    assert (codes.count("object-missing"), codes.count("change-unfinished")) == (len(DELETED), 1)
    confcom(updated, "enable")
    assert not problems(updated, ExitCode.OK)
