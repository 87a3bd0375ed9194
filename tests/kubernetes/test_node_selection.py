"""The scheduler's rules by which a Pod's spec allows a node."""

import pytest

from confcom.kubernetes.node import Node
from confcom.kubernetes.node_selection import NodeSelection

LABELS = {"zone": "west", "generation": "3", "empty": ""}


def node(*taints):
    given = [dict(zip(("key", "value", "effect"), taint.split(" "), strict=True)) for taint in taints]
    return Node.parse({"metadata": {"name": "a", "labels": LABELS}, "spec": {"taints": given}})


def requirement(key, operator, *values, part="matchExpressions"):
    return {part: [{"key": key, "operator": operator, "values": list(values)}]}


def affinity(*terms):
    required = {"nodeSelectorTerms": list(terms)}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


@pytest.mark.parametrize(
    ("key", "operator", "values", "holds"),
    [
        ("zone", "Exists", [], True),
        ("other", "Exists", [], False),
        ("empty", "Exists", [], True),
        ("zone", "DoesNotExist", [], False),
        ("other", "DoesNotExist", [], True),
        ("zone", "In", ["east", "west"], True),
        ("zone", "In", ["east"], False),
        ("other", "In", ["east"], False),
        ("zone", "NotIn", ["east", "west"], False),
        ("zone", "NotIn", ["east"], True),
        ("other", "NotIn", ["east"], True),
        ("generation", "Gt", ["2"], True),
        ("generation", "Gt", ["3"], False),
        ("generation", "Lt", ["4"], True),
        ("generation", "Lt", ["3"], False),
        ("zone", "Gt", ["2"], False),
        ("other", "Lt", ["4"], False),
        ("generation", "Gt", [], False),
        ("generation", "Gt", ["two"], False),
        ("generation", "Unknown", ["2"], False),
    ],
)
def test_an_expression_holds_as_in_the_scheduler(key, operator, values, holds):
    assert NodeSelection.parse(affinity(requirement(key, operator, *values))).selects(node()) is holds


WEST, EAST = (requirement("zone", "In", zone) for zone in ("west", "east"))
BY_NAME, BY_OTHER_NAME = (requirement("metadata.name", "In", name, part="matchFields") for name in ("a", "b"))


@pytest.mark.parametrize(
    ("spec", "selected"),
    [
        ({}, True),
        ({"nodeSelector": {"zone": "west", "generation": "3"}}, True),
        ({"nodeSelector": {"zone": "west", "generation": "4"}}, False),
        (affinity(EAST, WEST), True),
        (affinity(EAST), False),
        (affinity(BY_NAME), True),
        (affinity(WEST | BY_OTHER_NAME), False),
        (affinity(), False),
        (affinity({}), False),
        ({"nodeSelector": {"zone": "east"}} | affinity(WEST), False),
    ],
)
def test_the_selector_and_one_whole_term_must_match(spec, selected):
    assert NodeSelection.parse(spec).selects(node()) is selected


TAINT = "dedicated sgx NoSchedule"


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"key": "dedicated", "operator": "Equal", "value": "sgx", "effect": "NoSchedule"}, True),
        ({"key": "dedicated", "value": "sgx"}, True),
        ({"key": "dedicated", "value": "other"}, False),
        ({"key": "other", "value": "sgx"}, False),
        ({"key": "dedicated", "value": "sgx", "effect": "NoExecute"}, False),
        ({"key": "dedicated", "operator": "Exists"}, True),
        ({"key": "other", "operator": "Exists"}, False),
        ({"operator": "Exists"}, True),
        ({"operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_a_toleration_covers_a_taint_as_in_the_scheduler(toleration, tolerated):
    selection = NodeSelection.parse({"tolerations": [toleration]})
    assert selection.untolerated(node(TAINT)) == (() if tolerated else ("dedicated=sgx:NoSchedule",))


def test_a_preference_and_what_every_daemon_tolerates_keep_no_pod_away():
    taints = ("a b PreferNoSchedule", "node.kubernetes.io/not-ready x NoExecute", "c d NoExecute")
    assert NodeSelection().untolerated(node(*taints)) == ("c=d:NoExecute",)
