"""What somebody edits by hand is named by `confcom status`, and the next change sets it back (helm 4)."""

import json
import sys
from pathlib import Path

import pytest

from confcom.errors import ExitCode
from e2e.add_on import ROOT, daemons
from e2e.cluster.addresses import NODE_NAME
from e2e.command_results import JSON, changes, codes_of
from e2e.confcom_command import COMMAND_SECONDS
from e2e.hand_edits import EDITS, HELPER, HERE, LATEST, PLUGIN, HandEdit, add_to_template, set_image, undo_rollout
from e2e.images_workshop import CHART_REGISTRY

CHART = str(ROOT / "charts" / "confcom")
MANY_VALUES = """
tolerations:
- {key: a, operator: Exists, effect: NoSchedule}
- {operator: Exists, effect: NoExecute, tolerationSeconds: 30}
devicePlugin:
  resources: {limits: {memory: 134217728, cpu: 1}, requests: {memory: 64Mi, cpu: 0.05}}
  priorityClassName: system-node-critical
  affinity:
    nodeAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
      - {weight: 1, preference: {matchExpressions: [{key: a, operator: DoesNotExist}]}}
quoteHelper:
  hostPID: false
  resources: {limits: {memory: 0.25Gi}, requests: {cpu: 1e-2, memory: 64Mi}}
networkPolicy: {enabled: true}
"""
"""Such as the API server writes in another way than they are given."""
MIRROR = """
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: case-mirror}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [daemonsets]}
  reinvocationPolicy: Never
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >-
        Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{
        priorityClassName: "system-node-critical", terminationGracePeriodSeconds: 33}}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: case-mirror}
spec: {policyName: case-mirror}
"""


@pytest.fixture
def confcom(bare):
    """Runs the command."""

    def typed(*arguments, code=ExitCode.OK, before=()):
        done = bare.run([*before, sys.executable, "-m", "confcom", *arguments], check=False, timeout=COMMAND_SECONDS)
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    return typed


@pytest.fixture
def enabled(bare, confcom):
    confcom("enable", "--simulated-node", NODE_NAME, "--set", CHART_REGISTRY)
    return bare


@pytest.fixture
def named(confcom):
    """Looks whether status says all of this."""

    def look(*parts):
        document = json.loads(confcom("status", "--output=json", code=ExitCode.NOT_READY).stdout)
        told = "\n".join(document["problems"])
        assert all(part in told for part in parts), told
        assert document["drift"]

    return look


def generation(cluster, daemon):
    return cluster.kubectl_json("get", "daemonset", daemon, HERE)["metadata"]["generation"]


def image(cluster):
    spec = cluster.kubectl_json("get", "daemonset", HELPER, HERE)["spec"]["template"]["spec"]
    return spec["containers"][0]["image"]


@pytest.mark.timeout(900, func_only=True)
def test_enable_sets_back_what_somebody_edited(enabled, confcom, named, tell):
    for edit in (*EDITS, HandEdit("undo", undo_rollout, ("containers[quote-helper].args has ", "(by kubectl at "))):
        if edit.make is undo_rollout:
            confcom("update", "--set", "logLevel=debug")
        edit.make(enabled)
        named(*edit.told)
        assert changes(confcom("enable", JSON))
        confcom("status")
        again = json.loads(confcom("enable", "--output=json").stdout)
        assert again["changed"] is False
        tell(edit.name)


@pytest.mark.timeout(600, func_only=True)
def test_update_and_rollback_set_it_back_with_the_same_change(enabled, confcom, named):
    before = image(enabled)
    set_image(enabled)
    add_to_template(enabled)
    edited = generation(enabled, HELPER)
    confcom("update", "--set", "logLevel=debug")
    assert generation(enabled, HELPER) == edited + 1, "the template is changed once"
    assert image(enabled) == before
    confcom("status")

    set_image(enabled)
    add_to_template(enabled)
    named(f"image is {LATEST} instead of {before}", "containers[debug] was added")
    assert changes(confcom("rollback", JSON))
    assert image(enabled) == before
    confcom("status")
    (helper,) = [pod for pod in daemons(enabled) if pod["metadata"]["name"].startswith(HELPER)]
    assert [one["name"] for one in helper["spec"]["containers"]] == ["quote-helper"]
    assert "--log-level=info" in helper["spec"]["containers"][0]["args"]


@pytest.mark.timeout(600, func_only=True)
@pytest.mark.parametrize(
    "mend", [["enable"], ["update", "--set", "logLevel=info"], ["rollback"]], ids=lambda one: one[0]
)
def test_an_update_by_helm_that_is_half_made(enabled, confcom, mend):
    set_image(enabled)
    upgrade = ("upgrade", "confcom", CHART, HERE, "--reuse-values", "--set=logLevel=debug")
    done = enabled.helm(*upgrade, check=False, timeout=COMMAND_SECONDS)
    assert 'conflict with "kubectl-set"' in done.stderr
    assert "change-unfinished" in codes_of(confcom("status", JSON, code=ExitCode.NOT_READY))
    confcom(*mend)
    assert image(enabled) != LATEST
    confcom("status")


@pytest.mark.timeout(300, func_only=True)
def test_a_restart_and_labels_of_others_are_no_drift(enabled, confcom):
    enabled.kubectl("rollout", "restart", HERE, f"daemonset/{HELPER}")
    enabled.kubectl("annotate", HERE, f"daemonset/{HELPER}", "example.com/mine=x")
    enabled.kubectl("label", HERE, f"daemonset/{PLUGIN}", "example.com/mine=x")
    restarted = generation(enabled, HELPER)
    assert not changes(confcom("enable", JSON))
    confcom("status")
    confcom("update", "--set", "devicePlugin.resources.limits.memory=200Mi")
    assert generation(enabled, HELPER) == restarted, "the helper is not replaced once more"


@pytest.mark.timeout(300, func_only=True)
def test_a_copy_is_drift_only_if_it_differs(enabled, confcom, named):
    for daemon in (HELPER, PLUGIN):
        export = enabled.kubectl("get", "daemonset", daemon, HERE, "--output=json").stdout
        enabled.kubectl("replace", "--force", "--filename=-", input=export)
    assert not changes(confcom("enable", JSON))
    confcom("status")

    export = enabled.kubectl("get", "daemonset", HELPER, HERE, "--output=json").stdout
    enabled.kubectl("replace", "--force", "--filename=-", input=export.replace(image(enabled), LATEST))
    named(f"image is {LATEST} instead of ", "(by kubectl-")
    confcom("enable")
    assert image(enabled) != LATEST
    confcom("status")


@pytest.mark.timeout(300, func_only=True)
def test_no_drift_where_the_api_server_writes_values_in_its_own_way(enabled, confcom):
    confcom(
        "enable", "--values=/dev/stdin", "--set=logLevel=debug", before=("sh", "-c", f'"$@" <<E{MANY_VALUES}E', "sh")
    )
    confcom("status")
    assert json.loads(confcom("enable", "--output=json").stdout)["changed"] is False


@pytest.mark.timeout(300, func_only=True)
def test_what_an_admission_policy_changes_is_no_drift(enabled, confcom):
    served = enabled.kubectl("api-resources", "--api-group=admissionregistration.k8s.io", "--output=name").stdout
    versions = enabled.kubectl("api-versions").stdout
    if "mutatingadmissionpolicies." not in served or "admissionregistration.k8s.io/v1\n" not in versions:
        pytest.skip("this API server has no MutatingAdmissionPolicy of v1")
    enabled.kubectl("apply", "--filename=-", input=MIRROR)
    try:
        confcom("update", "--set=logLevel=debug")
        spec = enabled.kubectl_json("get", "daemonset", HELPER, HERE)["spec"]["template"]["spec"]
        assert spec["terminationGracePeriodSeconds"] == 33, "the policy is in force"
        confcom("status")
        assert json.loads(confcom("enable", "--output=json").stdout)["changed"] is False
    finally:
        enabled.kubectl("delete", "--filename=-", input=MIRROR)


@pytest.mark.timeout(300, func_only=True)
def test_who_may_read_less_is_told_what_was_not_compared(enabled, confcom, tmp_path: Path):
    document = json.loads(enabled.kubectl("config", "view", "--raw", "--flatten", "--output=json").stdout)
    document["users"][0]["user"]["as"] = "eve"
    config = tmp_path / "eve.json"
    config.write_text(json.dumps(document))
    as_eve = ("env", f"KUBECONFIG={config}")
    roles = {"case-view": ("--verb=get,list", "--resource=nodes,pods,daemonsets.apps,jobs.batch,events")}
    roles["case-records"] = ("--verb=get,list", "--resource=secrets,serviceaccounts")
    try:
        for name, rules in roles.items():
            enabled.kubectl("create", "clusterrole", name, *rules)
        enabled.kubectl("create", "clusterrolebinding", "case-view", "--clusterrole=case-view", "--user=eve")
        set_image(enabled)
        enabled.kubectl("rollout", "status", HERE, f"daemonset/{HELPER}")
        # Without pods/proxy, how the plugins count is not read either.
        missing = {"release-not-compared", "root-record-unreadable", "accounting-not-read"}
        assert codes_of(confcom("status", JSON, before=as_eve)) == missing
        enabled.kubectl("create", "clusterrolebinding", "case-records", "--clusterrole=case-records", "--user=eve")
        done = confcom("status", JSON, before=as_eve, code=ExitCode.NOT_READY)
        assert codes_of(done) >= {"object-changed", "release-not-compared"}
        assert LATEST in done.stdout
    finally:
        for name in roles:
            enabled.kubectl("delete", "clusterrole", name, "--ignore-not-found")
            enabled.kubectl("delete", "clusterrolebinding", name, "--ignore-not-found")
