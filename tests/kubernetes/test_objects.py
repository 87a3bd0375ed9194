import pytest

from confcom.kubernetes.objects import amount, listing, mapping, node_of, number, requests_of, text
from testkit import cluster_objects as make
from testkit.cluster_objects import EPC


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ("10", 10),
        ("10Mi", 10 * 2**20),
        ("1k", 1000),
        ("1E", 10**18),
        ("1e3", 1000),
        ("1500m", 2),
        ("0", 0),
        ("ten", 0),
        ("1.2.3", 0),
        ("1ki", 0),
    ],
)
def test_quantities(quantity, expected):
    assert amount(quantity) == expected


@pytest.mark.parametrize("thing", [{}, {"a": None}, {"a": []}, {"a": "text"}, {"a": {"b": None}}])
def test_what_is_missing_or_of_another_type_reads_as_empty(thing):
    assert mapping(thing, "a", "b") == {}
    assert listing(thing, "a", "b") == []
    assert text(thing, "a", "b") == ""
    assert number(thing, "a", "b") == 0


def test_of_a_list_only_the_objects_are_read():
    assert listing({"a": ["text", {"b": 1}, None, 3]}, "a") == [{"b": 1}]


def container(epc, **more):
    return {"resources": {"limits": {EPC: epc}}} | more


@pytest.mark.parametrize(
    ("init", "containers", "expected"),
    [
        ([], [1, 2], 3),
        ([container(5)], [1, 2], 5),
        ([container(2)], [1, 2], 3),
        ([container(4, restartPolicy="Always")], [1, 2], 7),
        ([container(4, restartPolicy="Always"), container(9)], [1, 2], 13),
        ([container(9), container(4, restartPolicy="Always")], [1, 2], 9),
        ([], [None, "10"], 10),
    ],
)
def test_a_pod_takes_what_the_scheduler_counts(init, containers, expected):
    pod = {"spec": {"initContainers": init, "containers": [container(one) for one in containers]}}
    assert requests_of(pod, EPC) == expected
    assert requests_of({"spec": {"containers": [{"resources": {"requests": {EPC: "7"}}}]}}, EPC) == 7


def test_a_daemons_pod_names_its_node_before_it_is_scheduled():
    field = {"key": "metadata.name", "operator": "In", "values": ["n1"]}
    terms = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    assert node_of({"spec": {"affinity": affinity}}) == "n1"
    assert node_of(make.pod("p", on="n2")) == "n2"
    assert node_of({"spec": {}}) == ""
