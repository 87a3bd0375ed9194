"""The pure parts of the benchmark of kubelet restarts."""

import json

import pytest

from bench.cluster.restarts.measure import Plan, Restart, Results, first_report, first_run, first_status, pod
from bench.cluster.restarts.nodes import Group
from bench.cluster.restarts.table import as_json, as_table
from bench.cluster.watch import Change
from bench.load import WrongAnswerError


def node(name, heartbeat, status="True"):
    ready = {"type": "Ready", "status": status, "lastHeartbeatTime": heartbeat, "message": "why"}
    return {"metadata": {"name": name}, "status": {"conditions": [ready]}}


def phase(name, found):
    return {"metadata": {"name": name}, "status": {"phase": found}}


BEFORE = [Change(1, "ADDED", node("a", "12:00:00")), Change(2, "ADDED", node("b", "12:00:05"))]


def test_the_first_report_is_the_next_heartbeat_of_this_node():
    more = [
        Change(11, "MODIFIED", node("a", "12:00:00")),  # the controller's
        Change(12, "MODIFIED", node("b", "12:00:15")),
        Change(13, "MODIFIED", node("a", "12:00:16")),
        Change(23, "MODIFIED", node("a", "12:00:26")),
    ]
    assert first_report([*BEFORE, *more], "a", 10) == 13
    assert first_report([*BEFORE, *more[:2]], "a", 10) is None


def test_a_node_that_is_not_ready_is_no_result():
    with pytest.raises(WrongAnswerError):
        first_report([*BEFORE, Change(11, "MODIFIED", node("a", "12:00:01", "Unknown"))], "a", 10)


def test_a_pod_runs_when_it_is_told():
    changes = [
        Change(1, "ADDED", phase("new-1", "Pending")),
        Change(2, "MODIFIED", phase("new-0", "Running")),
        Change(3, "MODIFIED", phase("new-1", "Running")),
    ]
    assert first_run(changes, "new-1") == 3
    assert first_run(changes[:2], "new-1") is None


def test_a_pod_is_admitted_when_the_kubelet_tells_of_its_start():
    changes = [Change(number, "MODIFIED", phase("new-1", "Pending")) for number in (1, 2)]
    changes[1].changed["status"]["startTime"] = "12:00:00"
    assert first_status(changes, "new-1") == 2
    assert first_status(changes[:1], "new-1") is None
    assert first_status(changes, "new-0") is None


def test_a_pod_without_devices_asks_for_nothing():
    made = pod("new-1", "new", {}, nodeName="a")
    assert made["spec"]["containers"][0]["resources"] == {"limits": {}}
    assert made["spec"]["nodeName"] == "a"


def results(capacity, other):
    restarts = [Restart(Group.CAPACITY, seconds, 2.0, 4.0) for seconds in capacity]
    restarts += [Restart(Group.OTHER, seconds, 1.0, 3.0) for seconds in other]
    machine = {"cpu": "x", "cores": 2, "kernel": "6.1", "kubernetes": "v1.36.3", "container_runtime": "c", "nodes": 4}
    limits = {Group.CAPACITY: {"epc": 1310}, Group.OTHER: {"other": 1}, Group.NONE: {}, Group.BARE: {"other": 1}}
    return Results(Plan(), machine, (0.5, 1.5), limits, restarts)


def test_the_goal_is_about_the_difference_in_the_same_round():
    met = as_table(results([1.0, 9.0, 2.0], [0.95, 9.5, 1.95])).splitlines()
    missed = as_table(results([1.0, 9.0, 2.0], [0.5, 9.5, 1.5])).splitlines()
    assert [line.rpartition(" ")[2] for line in met[-3:]] == ["met", "MISSED", "MISSED"]
    assert [line.rpartition(" ")[2] for line in missed[-3:]] == ["MISSED", "MISSED", "MISSED"]


def test_the_table_has_what_was_measured_and_the_json_all_of_it():
    found = results([1.0], [2.0])
    table = as_table(found)
    assert "EPC as capacity: 1310 each" in table
    assert str(Group.NONE) not in table
    document = json.loads(json.dumps(as_json(found)))
    assert document["restarts"][0] == {"group": "EPC as capacity", "reported": 1.0, "admitted": 2.0, "new_pod": 4.0}
    assert document["limits"]["no device"] == {}
