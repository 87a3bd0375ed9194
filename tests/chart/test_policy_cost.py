import re

import pytest

from testkit.chart_golden import SETS, golden

TOKENS = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<name>[A-Za-z_]\w*)"""
    r"""|(?P<other>\.\?|\[\?|&&|\|\||[=!<>]=|\d+|.))"""
)
MACROS = {"all", "exists", "exists_one", "filter", "map"}
WALKS = {"sum", "max", "min", "join", "flatten", "indexOf", "lastIndexOf", "sort", "distinct", "isSorted", "split"}
WALKS |= {"reverse", "slice"}
OBJECTS = {"object", "oldObject", "request", "namespaceObject", "params"}
"""Variables from which CEL gets its values. The WALKS above are functions that visit a whole list."""
MAPS = {"limits", "requests", "annotations", "labels", "capacity", "allocatable"}
"""Fields that are maps; the operator `in` looks up a map's key without a walk."""
OPENING = {"(", "[", "[?", "{"}
TENANT = "a tenant's"
"""Name that `Walks` uses as the source of every list whose length a tenant chooses."""


class Walks:
    """Walks through lists in one policy; `nested` has the walks of tenants' lists inside other such walks.

    The source of a list is TENANT, or the loop variable whose value contains the list. A literal has none.
    """

    def __init__(self, variables, expressions):
        self.variables = {one["name"]: one["expression"] for one in variables}
        self.nested, self.known = [], {}
        for expression in (*self.variables.values(), *expressions):
            self.sources(expression, {})

    def sources(self, expression, loops):
        tokens = [(match.lastgroup, match[match.lastgroup]) for match in TOKENS.finditer(expression.strip())]
        found, at = self._parts(tokens, 0, loops)
        assert at == len(tokens), f"{expression} is not understood at {tokens[at:][:5]}"
        return found

    def _variable(self, name):
        if name not in self.known:
            self.known[name] = {TENANT}  # assumed if the variable refers to itself
            nested, self.nested = self.nested, []
            self.known[name] = self.sources(self.variables[name], {}) if name in self.variables else {TENANT}
            self.nested = nested
        return self.known[name]

    def _parts(self, tokens, at, loops):
        """Parse operands up to a closing bracket or the end; omit conditions' sources from the result."""
        done, found, looked_up = set(), set(), False
        while at < len(tokens) and tokens[at][1] not in {")", "]", "}"}:
            kind, word = tokens[at]
            if word == "?":
                found = set()
            elif word == ",":
                done, found = done | found, set()
            elif (kind, word) == ("name", "in"):
                looked_up = True
            elif kind != "other" or word in OPENING or word.isdigit():
                part, at, field = self._operand(tokens, at, loops)
                if looked_up and field not in MAPS:
                    self._walk("in", part, loops)
                found, looked_up = found | part, False
                continue
            at += 1
        return done | found, at

    def _operand(self, tokens, at, loops):
        kind, word = tokens[at]
        field, found = "", set()
        if word in OPENING:
            found, at = self._parts(tokens, at + 1, loops)
        elif kind == "name" and word == "variables":
            at += 2
            found, field = set(self._variable(tokens[at][1])), self._last_field(tokens[at][1])
        elif kind == "name":
            found = set(loops[word][0]) if word in loops else {TENANT} if word in OBJECTS else set()
        at += 1
        while at < len(tokens) and tokens[at][1] in {".", ".?", *OPENING}:
            if tokens[at][1] in OPENING:
                inside, at = self._parts(tokens, at + 1, loops)
                found, at = found | (inside if field in {"", "range"} else set()), at + 1
                continue
            name, at = tokens[at + 1][1], at + 2
            called = tokens[at : at + 1] == [("other", "(")]
            if name in MACROS and called:
                found, at = self._macro(tokens, at + 1, loops, name, found)
            elif name in WALKS and called:
                self._walk(name, found, loops)
            field = field if name == "orValue" else name
        return found, at, field

    def _last_field(self, variable):
        found = re.search(r"(\w+)(?:[.]orValue[(].*[)])?$", self.variables.get(variable, ""))
        return found[1] if found else ""

    def _macro(self, tokens, at, loops, name, found):
        loop = tokens[at][1]
        self._walk(name, found, loops)
        # The loop variable is a source only if the list has a source; elements of literals keep their own.
        depth = max((one[1] for one in loops.values()), default=0)
        inner = {loop: ({loop} if found else set(), depth + bool(found))}
        inside, at = self._parts(tokens, at + 2, {**loops, **inner})
        return found | {one for one in inside if one != loop and name == "map"}, at + 1

    def _walk(self, name, found, loops):
        innermost = max((one[1] for one in loops.values()), default=0)
        owners = {loop for loop, (_, depth) in loops.items() if depth == innermost}
        if innermost and found - owners:
            self.nested.append(f"{name} of {sorted(found)} in a walk by {sorted(owners)}")


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
    """Each condition of each policy makes the API server convert the object, with up to a million parts."""
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
