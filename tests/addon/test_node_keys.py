import pytest

from confcom.addon.command import Mark
from confcom.addon.node_keys import (
    CLEANING_SECONDS,
    FOREIGN_AFTER_SECONDS,
    SETTLED_SECONDS,
    Stage,
    clean_nodes,
    node_keys,
    removal,
)
from confcom.addon.readiness import NotReadyError
from confcom.kubernetes.node import Node
from testkit import cluster_objects as make
from testkit.cluster_objects import ENCLAVE, EPC, HELPER_EPC
from testkit.expected_errors import raises
from testkit.fake_cluster import FakeCluster

OTHER = "example.com/other"
LATE = FOREIGN_AFTER_SECONDS


def node(capacity, allocatable=None, name="a", *, ready=True, by_controller=(), manager="confcom-controller"):
    """A node with these amounts; without `allocatable`, the allocatable amounts equal the capacity."""
    made = make.node(name, resources=capacity, ready=ready)
    made["status"]["allocatable"] |= {key: str(value) for key, value in (allocatable or {}).items()}
    made["metadata"]["managedFields"] = [make.writes_of(by_controller, manager)]
    return made


GONE, THERE = {EPC: 0}, {EPC: 162}
OFFERED, TAKEN = {EPC: 162, ENCLAVE: 110}, {EPC: 0, ENCLAVE: 110}
WRITTEN = {"by_controller": [EPC]}
AFTER = {"passed": LATE}
STAGES = {
    "none": (node({}), {}, None, (), ()),
    "offered": (node(THERE), {}, Stage.KEPT, (EPC,), ()),
    "kept": (node(THERE, GONE), {}, Stage.KEPT, (EPC,), ()),
    "at 0": (node(GONE), {}, Stage.REMOVABLE, (EPC,), ()),
    "silent kubelet": (node(THERE, ready=False), {}, Stage.SILENT, (EPC,), ()),
    "silent kubelet at 0": (node(GONE, ready=False), {}, Stage.REMOVABLE, (EPC,), ()),
    "another vendor's node": (node({ENCLAVE: 110}), AFTER, None, (), ()),
    "a shared name that was ours": (node({ENCLAVE: 0}), {"ours": True}, Stage.REMOVABLE, (ENCLAVE,), ()),
    "not reported yet": (node(TAKEN), {}, Stage.KEPT, (EPC, ENCLAVE), ()),
    "another plugin beside": (node(TAKEN), AFTER, Stage.REMOVABLE, (EPC,), (ENCLAVE,)),
    "another plugin took over": (node(THERE), AFTER, None, (), (EPC,)),
    "kept beside one": (node(OFFERED, GONE), AFTER, Stage.KEPT, (EPC,), (ENCLAVE,)),
    "written": (node(OFFERED, **WRITTEN), {}, Stage.REMOVABLE, (EPC, ENCLAVE), ()),
    "written and removed": (node({HELPER_EPC: 6}, **WRITTEN), {}, Stage.KEPT, (HELPER_EPC,), ()),
}


@pytest.mark.parametrize(("found", "options", "stage", "names", "others"), STAGES.values(), ids=STAGES)
def test_stages(found, options, stage, names, others):
    keys = node_keys(Node.parse(found), **options)
    assert (keys.names, keys.others) == (names, others)
    assert keys.stage is stage or not names


def test_only_the_controllers_own_fields_are_written_by_it():
    both = [EPC, OTHER]
    assert Node.parse(node({EPC: 131066, OTHER: 1}, by_controller=both)).written == {EPC}
    assert Node.parse(node(THERE, by_controller=both, manager="kubelet")).written == frozenset()


REMOVALS = {
    "at 0": (node({EPC: 0, "nvidia.com/gpu": 0, ENCLAVE: 9}), "0"),
    "kept": (node(THERE, GONE), None),
    "ill devices": (node({EPC: 0, ENCLAVE: 9}, {ENCLAVE: 0}), "0"),
    "written": (node({EPC: 131066, ENCLAVE: 9}, **WRITTEN), "131066"),
}


@pytest.mark.parametrize(("found", "value"), REMOVALS.values(), ids=REMOVALS)
def test_a_patch_tests_each_key_before_it_removes_it(found, value):
    paths = [f"/status/{part}/{EPC.replace('/', '~1')}" for part in ("capacity", "allocatable")]
    steps = [({"op": "test", "path": path, "value": value}, {"op": "remove", "path": path}) for path in paths]
    assert removal(found) == ([] if value is None else [step for both in steps for step in both])


def cleaned(cluster):
    add_on = cluster.add_on()
    clean_nodes(add_on, add_on.clock())
    return cluster.time


def left(cluster):
    parts = ("capacity", "allocatable")
    nodes = cluster.api.find("Node")
    keys = {one["metadata"]["name"]: {key for part in parts for key in one["status"][part]} for one in nodes}
    return {name: found - {"cpu"} for name, found in keys.items() if found - {"cpu"}}


DEAD_KEYS = {"at once": (0, SETTLED_SECONDS), "when no kubelet can report them any more": (330, 330)}


@pytest.mark.parametrize(("removed", "settled"), DEAD_KEYS.values(), ids=DEAD_KEYS)
def test_dead_keys_go_and_are_watched_for_a_kubelets_report(removed, settled):
    cluster = FakeCluster([node(GONE)])
    path = "/api/v1/nodes/a/status"
    cluster.api.refuse(lambda request: request.url.path == path and cluster.time < removed, 403, "not yet")
    assert settled <= cleaned(cluster) < settled + 5
    assert left(cluster) == {}


def test_a_first_report_after_the_plugins_end_is_waited_for():
    """A user may disable the add-on before the kubelet has first reported a changed plugin's resources."""
    cluster = FakeCluster([node({})])
    cluster.each = lambda: 8 <= cluster.time < 300 and cluster.api.put(node(THERE, GONE))
    assert 300 <= cleaned(cluster) <= 330
    assert left(cluster) == {}


def test_keys_that_a_restarted_kubelet_brings_back_are_removed_again():
    cluster = FakeCluster([node(THERE)])
    cluster.kubelets.restarted.add("a")
    assert 300 <= cleaned(cluster) <= 330
    assert left(cluster) == {}
    assert len(cluster.api.writes) > 10


def test_the_controllers_keys_go_at_once_and_those_of_the_kubelet_later():
    """The name that only the add-on uses is removed first; the other names must still count as its own."""
    cluster = FakeCluster([node({EPC: 131066, ENCLAVE: 9}, by_controller=[EPC])])
    seen = []
    cluster.each = lambda: seen.append(left(cluster).get("a"))
    assert cleaned(cluster) >= 300
    assert seen[0] == {ENCLAVE}
    assert left(cluster) == {}


def test_another_plugins_resources_stay_and_are_named():
    cluster = FakeCluster([node(THERE)])
    cluster.kubelets.report = lambda _: None
    assert LATE <= cleaned(cluster) < LATE + 5
    assert left(cluster) == {"a": {EPC}}
    assert any("a: " in line and EPC in line for line in cluster.recorder.said)


def denying(*nodes, until=float("inf")):
    """A cluster with a webhook that denies patches of these nodes' status until a given time."""
    cluster = FakeCluster([node(THERE, name=name) for name in ("a", "b", "c")])
    paths = {f"/api/v1/nodes/{name}/status" for name in nodes}
    denied = 'admission webhook "guard" denied the request: not by people'
    cluster.api.refuse(lambda request: request.url.path in paths and cluster.time < until, 403, denied)
    return cluster


def test_a_refusal_is_shown_and_retried_until_the_deadline():
    cluster = denying("a", "b")
    with raises("resources-left-on-nodes", NotReadyError) as caught:
        cleaned(cluster)
    assert caught.value.why.startswith("a, b: to be removed: ")
    assert "not by people" in caught.value.why
    assert left(cluster).keys() == {"a", "b"}
    assert CLEANING_SECONDS <= cluster.time < CLEANING_SECONDS + 5
    assert cluster.recorder.rows[-1][0].mark is Mark.BAD
    assert cleaned(denying("a", until=330)) < CLEANING_SECONDS


def test_a_silent_kubelet_is_named():
    cluster = FakeCluster([node(THERE), node(THERE, name="quiet", ready=False)])
    with pytest.raises(NotReadyError) as caught:
        cleaned(cluster)
    assert caught.value.why == f"quiet: {Stage.SILENT}: {EPC}"
    assert left(cluster) == {"quiet": {EPC}}
