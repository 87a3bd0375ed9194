import json

import pytest

from confcom.controller.settings import parse_settings

ON = ("admission.mutate=on", "quoteHelper.enabled=false")


def chosen(**values):
    return [word for key, value in values.items() for word in ("--set-json", f"{key}={json.dumps(value)}")]


def expression(key, operator, *values):
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def named(operator, *values, key="metadata.name"):
    return {"matchFields": [{"key": key, "operator": operator, "values": list(values)}]}


def test_terms_become_label_selectors(render):
    terms = [
        expression("example.com/sgx", "In", "yes", "", "2.x_y"),
        expression("a", "NotIn", "b"),
        expression("a", "Exists"),
        expression("a", "DoesNotExist"),
        expression("a", "Gt", "-3") | named("In", "a.example.com"),
        expression(f"{'p' * 253}/{'k' * 63}", "Lt", "7"),
    ]
    deployment = render(*ON, more=chosen(nodeSelectorTerms=terms))["Deployment", "confcom-controller"]
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert parse_settings(arguments, prog="", environ={}).node_selector == (
        *("example.com/sgx in (yes,,2.x_y)", "a notin (b)", "a", "!a", "a>-3"),
        f"{'p' * 253}/{'k' * 63}<7",
    )


UNUSABLE = {
    "two values in one": expression("a", "In", "b,c"),
    "another selector": expression("a", "In", "b);c in (d"),
    "a quote": expression("a", "In", "b', 'c"),
    "a long value": expression("a", "In", "b" * 64),
    "an end of a line": expression("a", "In", "b\n"),
    "no value": expression("a", "In"),
    "a value too many": expression("a", "Exists", "b"),
    "no number": expression("a", "Gt", "b"),
    "two numbers": expression("a", "Lt", "1", "2"),
    "a key of two": expression("a,b", "Exists"),
    "a key's end": expression("a/", "Exists"),
    "a key's prefix": expression("A/b", "Exists"),
    "another field": named("In", "a", key="spec.unschedulable"),
    "no name": named("In", "A b"),
    "a name that exists": named("Exists"),
}


VALUES = {name: {"nodeSelectorTerms": [expression("a", "In", "b"), one]} for name, one in UNUSABLE.items()} | {
    "a label that no node has": {
        "nodeSelector": {"feature.node.kubernetes.io/cpu-security.sgx.enabled": None, "a": "b,c"}
    },
    "a key that no node has": {"simulated.enabled": True, "simulated.nodeSelector": {"a;b": "c"}},
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_what_is_no_label_selector_is_refused(template, refused, values):
    assert refused(template(*ON, more=chosen(**values))) == "node-condition-unusable"
