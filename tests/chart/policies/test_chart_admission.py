"""Where which policies about EPC are rendered, and whom they are about. What they do to a Pod is seen in e2e."""

import pytest

from confcom.addon.model.chart_objects import EPC_NAMES_POLICY
from confcom.addon.model.resources import INTEL_EPC, REAL, SIMULATED
from testkit.chart_manifests import EPC_POLICIES

AMOUNTS, WARNINGS = EPC_POLICIES
QUOTAS = "confcom-epc-quotas"
ON = "admission.mutate=on"
BESIDE = "simulated.besideHardware=true"
LIVE = "v1/Pod"
KIND = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"


@pytest.fixture
def rendered_for(render):
    """The names of the policies for an API server of this version, which has these further kinds."""

    def run(version, *kinds, settings=()):
        more = ["--kube-version", version, *(word for kind in (LIVE, *kinds) for word in ("--api-versions", kind))]
        return {name for kind, name in render(*settings, more=more) if kind.endswith("AdmissionPolicy")}

    return run


def is_about(policy):
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    return rule["resources"], rule["operations"]


def left_out(policy):
    chosen = policy["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"]
    assert {one["operator"] for one in chosen} == {"NotIn"}
    return {one["key"]: one["values"] for one in chosen}


def test_the_api_servers_kinds_decide(rendered_for):
    assert EPC_NAMES_POLICY in rendered_for("1.36.3", KIND)
    assert rendered_for("1.36.3", KIND) >= {QUOTAS, AMOUNTS, WARNINGS}
    # 1.35 has the group's version, without the kind.
    assert rendered_for("1.35.4") >= {AMOUNTS, WARNINGS}
    assert not rendered_for("1.35.4") & {EPC_NAMES_POLICY, QUOTAS}
    assert not rendered_for("1.36.3", KIND, settings=["admission.mutate=off"]) & {EPC_NAMES_POLICY, QUOTAS}


def test_offline_values_decide(render, values_file):
    assert ("MutatingAdmissionPolicy", EPC_NAMES_POLICY) not in render()
    for values in ({"mutate": "on"}, {"mutate": True}):  # YAML's word `on` is true
        manifests = render(values=values_file({"admission": values}))
        assert ("MutatingAdmissionPolicy", EPC_NAMES_POLICY) in manifests
        assert ("MutatingAdmissionPolicyBinding", EPC_NAMES_POLICY) in manifests


def test_pods_are_changed_when_made_and_corrected_when_updated_and_ours_are_left_out(render):
    policy = render(ON)["MutatingAdmissionPolicy", EPC_NAMES_POLICY]
    assert is_about(policy) == (["pods"], ["CREATE", "UPDATE"])
    assert left_out(policy) == {"kubernetes.io/metadata.name": ["sgx"], "confcom.internal/epc-names": ["unchanged"]}
    assert (policy["spec"]["failurePolicy"], policy["spec"]["reinvocationPolicy"]) == ("Fail", "IfNeeded")
    # A policy whose conditions are false at first is never invoked again, whatever is injected later.
    (condition,) = policy["spec"]["matchConditions"]
    assert "config.mirror" in condition["expression"]
    (mutation,) = policy["spec"]["mutations"]
    assert mutation["patchType"] == "JSONPatch"
    assert "hostPath" not in str(policy)


@pytest.mark.parametrize(("settings", "names"), [((), [REAL]), ((BESIDE,), [SIMULATED, REAL])])
def test_every_platforms_names_and_one_of_them_is_intels(render, settings, names):
    policy = str(render(ON, *settings)["MutatingAdmissionPolicy", EPC_NAMES_POLICY])
    for one in names:
        assert all(f'"{name}"' in policy for name in (one.epc, one.enclave, one.provision))
    assert policy.count(f'"bytes": dyn("{INTEL_EPC}" in') == 1
    assert (SIMULATED.epc in policy) is (SIMULATED in names)
    checks = str(render(*settings)["ValidatingAdmissionPolicy", AMOUNTS])
    assert all(one.epc in checks for one in names)


def test_provision_by_the_annotation_is_for_namespaces_that_may_have_it(render):
    trusted = "provision.namespaces[0]=trusted"
    assert 'request.namespace in ["sgx","trusted"]' in str(
        render(ON, trusted)["MutatingAdmissionPolicy", EPC_NAMES_POLICY]
    )
    free = str(render(ON, "provision.policy=false")["MutatingAdmissionPolicy", EPC_NAMES_POLICY])
    assert "request.namespace in" not in free


def test_refusals_deny_and_fail_closed_and_warnings_neither(render):
    manifests = render(ON)
    wanted = {AMOUNTS: ("Deny", "Fail"), WARNINGS: ("Warn", "Ignore"), QUOTAS: ("Warn", "Ignore")}
    for name, (action, failure) in wanted.items():
        binding = manifests["ValidatingAdmissionPolicyBinding", name]["spec"]
        assert binding == {"policyName": name, "validationActions": [action]}
        assert manifests["ValidatingAdmissionPolicy", name]["spec"]["failurePolicy"] == failure
    for name in (AMOUNTS, WARNINGS):
        rules = manifests["ValidatingAdmissionPolicy", name]["spec"]["matchConstraints"]["resourceRules"]
        about = {one for rule in rules for one in rule["resources"]}
        assert about == {
            *("pods", "jobs", "cronjobs", "deployments", "statefulsets", "daemonsets", "replicasets"),
        }


@pytest.mark.parametrize("name", [AMOUNTS, WARNINGS, QUOTAS])
def test_older_api_servers_know_every_function(render, name):
    """These came with 1.34; an expression with an unknown function is refused, and the installation with it."""
    policy = str(render(ON)["ValidatingAdmissionPolicy", name])
    assert not any(f"{word}(" in policy for word in ("flatten", "lists.range", "distinct", "sort", "first", "last"))


def test_without_rewriting_warnings_tell_what_to_write_unless_somebody_chose_so(render):
    told = "no node offers sgx.intel.com/epc"
    assert told in str(render()["ValidatingAdmissionPolicy", WARNINGS])
    assert told not in str(render(ON)["ValidatingAdmissionPolicy", WARNINGS])
    assert told not in str(render("admission.mutate=off")["ValidatingAdmissionPolicy", WARNINGS])


def test_each_can_be_left_out(render):
    assert ("ValidatingAdmissionPolicy", AMOUNTS) not in render("admission.validate=false")
    names = {name for _, name in render(ON, "admission.warn=false")}
    assert AMOUNTS in names
    assert not names & {WARNINGS, QUOTAS}
