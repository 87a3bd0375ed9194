import pytest

from testkit.cel import Walks
from testkit.chart_golden import SETS, golden

POLICIES = {
    f"{name}: {policy}": one["spec"]
    for name in SETS
    for (kind, policy), one in golden(name).items()
    if kind.endswith("AdmissionPolicy")
}
TENANTS = [key for key in POLICIES if not key.endswith("confcom-controller")]


def expressions(spec):
    for one in (*spec.get("matchConditions", ()), *spec.get("validations", ())):
        yield one["expression"]
        yield one.get("messageExpression", '""')
    yield from (one["jsonPatch"]["expression"] for one in spec.get("mutations", ()))


@pytest.mark.parametrize("spec", POLICIES.values(), ids=POLICIES)
def test_no_walk_of_a_tenants_list_stands_in_another(spec):
    assert Walks(spec.get("variables", ()), expressions(spec)).nested == []


@pytest.mark.parametrize("key", TENANTS)
def test_policies_have_no_conditions_and_read_no_annotation_of_ours(key):
    """The API server converts an object, which can have a million parts, anew for each condition of each policy."""
    assert "matchConditions" not in POLICIES[key]
    assert not any("confcom.internal/" in one and "annotations[" in one for one in expressions(POLICIES[key]))


@pytest.mark.parametrize("name", SETS)
def test_each_kind_of_object_has_one_validating_and_one_mutating_policy(name):
    seen = set()
    for (kind, policy), one in golden(name).items():
        if f"{name}: {policy}" in TENANTS and kind.endswith("AdmissionPolicy"):
            for rule in one["spec"]["matchConstraints"]["resourceRules"]:
                keys = {(kind, resource) for resource in rule["resources"]}
                assert not keys & seen
                seen |= keys


@pytest.mark.parametrize("key", TENANTS)
def test_a_refusal_never_falls_back_to_the_policys_source(key):
    assert all(one.get("message") for one in POLICIES[key].get("validations", ()) if "messageExpression" in one)
