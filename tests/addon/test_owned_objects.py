from confcom.addon.owned_objects import EVENTS_NAMESPACE, KINDS, owned_objects
from testkit import cluster_objects as make
from testkit.chart_golden import FOLDER, golden
from testkit.cluster_objects import SYSTEM
from testkit.fake_api import FakeApi, cluster_of

CHARTS = [one for path in FOLDER.glob("*.yaml") for one in golden(path.stem).values()]


def test_each_kind_of_the_charts_objects_is_looked_for():
    assert {(one["apiVersion"], one["kind"]) for one in CHARTS} == set(KINDS)
    assert {one["metadata"].get("namespace", "") for one in CHARTS} == {"", EVENTS_NAMESPACE, "sgx"}
    assert {one["kind"] for one in CHARTS if one["metadata"].get("namespace") == EVENTS_NAMESPACE} == {
        "Role",
        "RoleBinding",
    }


def test_what_an_owner_removes_and_what_goes_already_is_left_out():
    copy = make.daemon_set("device-plugin")
    copy["metadata"] |= {"name": "copy", "ownerReferences": [{"kind": "DaemonSet", "name": "confcom-device-plugin"}]}
    goes = make.daemon_set("quote-helper")
    goes["metadata"]["deletionTimestamp"] = "2026-11-29T08:00:00Z"
    memory = FakeApi([make.daemon_set("device-plugin"), copy, goes, make.daemon_set("x", namespace="other")])
    found = [one["metadata"]["name"] for one in owned_objects(cluster_of(memory, SYSTEM))]
    assert found == ["confcom-device-plugin"]
