import pytest

from confcom.addon.model.node_selection import selects, untolerated
from testkit.fake_cluster import objects as make

UNAVAILABLE = "node.kubernetes.io/network-unavailable"
NODE = make.node("n1", {"zone": "a", "cores": "8", "sgx": "true"})


def affinity(*terms):
    required = {"nodeSelectorTerms": [{"matchExpressions": list(term)} for term in terms]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


def expression(key, operator, *values):
    return {"key": key, "operator": operator, "values": list(values)}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, True),
        ({"nodeSelector": {"sgx": "true"}}, True),
        ({"nodeSelector": {"sgx": "true", "zone": "b"}}, False),
        (affinity([expression("zone", "In", "a", "b")]), True),
        (affinity([expression("zone", "NotIn", "a")]), False),
        (affinity([expression("gpu", "NotIn", "a")]), True),
        (affinity([expression("sgx", "Exists")]), True),
        (affinity([expression("sgx", "DoesNotExist")]), False),
        (affinity([expression("cores", "Gt", "4")]), True),
        (affinity([expression("cores", "Lt", "4")]), False),
        (affinity([expression("zone", "Gt", "4")]), False),
        (affinity([expression("zone", "Resembles", "a")]), False),
        (affinity([expression("zone", "In", "b")], [expression("sgx", "Exists")]), True),
        (affinity([expression("zone", "In", "b"), expression("sgx", "Exists")]), False),
        (affinity([]), False),
        (affinity(), False),
        ({"nodeSelector": {"zone": "b"}} | affinity([expression("sgx", "Exists")]), False),
    ],
)
def test_selection(spec, expected):
    assert selects(spec, NODE) is expected


def taint(key="sgx", value="only", effect="NoSchedule"):
    return {"key": key, "value": value, "effect": effect}


@pytest.mark.parametrize(
    ("tolerations", "taints", "expected"),
    [
        ([], [taint()], ("sgx=only:NoSchedule",)),
        ([{"key": "sgx", "value": "only"}], [taint()], ()),
        ([{"key": "sgx", "value": "other"}], [taint()], ("sgx=only:NoSchedule",)),
        ([{"key": "sgx", "operator": "Exists"}], [taint()], ()),
        ([{"operator": "Exists"}], [taint(), taint("gpu")], ()),
        ([{"key": "sgx", "operator": "Exists", "effect": "NoExecute"}], [taint()], ("sgx=only:NoSchedule",)),
        ([], [taint(effect="PreferNoSchedule")], ()),
        ([], [taint("node.kubernetes.io/not-ready", "", "NoExecute")], ()),
        ([], [taint("node.kubernetes.io/unschedulable", "")], ()),
        ([], [taint(UNAVAILABLE, "")], (f"{UNAVAILABLE}=:NoSchedule",)),
    ],
)
def test_taints(tolerations, taints, expected):
    assert untolerated({"tolerations": tolerations}, make.node("n", taints=taints)) == expected
