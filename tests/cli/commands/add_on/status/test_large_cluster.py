"""`confcom status` on a cluster of a thousand nodes: what people read is short, what programs read is whole."""

import json

import pytest

from confcom.addon.cluster.snapshot_reader import MOST_LOGS
from confcom.addon.model.problems import shown
from confcom.cli.status_table import MAX_GROUPS, MAX_ROWS
from testkit.cli_output import commands_in
from testkit.fake_cluster import large
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import SYSTEM

A_SCREEN = 24 + MAX_ROWS
"""Lines: the rows of some nodes, and as much around them as a terminal shows at once."""

ALL = "confcom status --all-nodes"


@pytest.fixture
def enabled(cluster):
    """Puts objects into the cluster in place of those that it has, with a release that was made to its end."""

    def put(objects):
        cluster.objects = list(objects)
        cluster.revisions = [
            {"revision": 1, "status": "deployed", "description": "", "manifests": [], "values": {}, "hooks": []}
        ]
        return cluster

    return put


@pytest.fixture
def told(confcom):
    return lambda *options: confcom("status", *options).stdout.splitlines()


@pytest.fixture
def document(confcom):
    return lambda: json.loads(confcom("status", "-o", "json").stdout)


def test_an_unwell_cluster_is_told_on_a_screen(enabled, told, document):
    enabled(large.cluster(nodes=1000, tenants=1000, silent=250, failing=250, waiting=500))
    lines = told()
    assert len(lines) <= A_SCREEN
    assert [line for line in lines if line.startswith("500 nodes ")]
    assert [line for line in lines if line.startswith("250 nodes ") and "not Ready" in line]
    names = [shown(list(map(large.name, some))) for some in (range(250), range(250, 500))]
    told_of = [line.partition("): ")[0] for line in lines if line.startswith("  250 nodes (")]
    assert told_of == [f"  250 nodes ({some}" for some in names]
    assert len([line for line in lines if line.startswith("  500 Pods (default/web-00000, ")]) == 1
    whole = document()
    assert len(whole["nodes"]) == 1000
    assert len(whole["workloads"]) == 500
    assert len([one for one in whole["problem_details"] if one["code"] == "node-not-ready"]) == 250
    silent, failing = whole["problem_groups"]
    assert (silent["code"], failing["code"]) == ("node-not-ready", "daemon-not-ready")
    assert silent["nodes"] == [large.name(number) for number in range(250)]
    assert failing["nodes"] == [large.name(number) for number in range(250, 500)]
    (well,) = whole["nodes_well"]
    assert (well["nodes"], well["epc"]["allocatable_mib"], well["device_plugin"]) == (500, 500 * 162, {"0.1.0": 500})


def test_all_nodes_are_shown_to_who_asks(enabled, told):
    enabled(large.cluster(nodes=2 * MAX_ROWS, tenants=0, silent=1, failing=MAX_ROWS + 3))
    short, whole = told(), told("--all-nodes")
    rows = [line for line in whole if line.startswith(large.name(0)[:-2])]
    assert len(rows) == 2 * MAX_ROWS
    (rest,) = [line for line in short if ALL in commands_in(line)]
    assert rest.startswith("and 3 more ")
    assert len([line for line in whole if " CrashLoopBackOff" in line]) == MAX_ROWS + 3
    assert not [line for line in whole if ALL in commands_in(line)]


def test_few_nodes_have_a_row_each(enabled, told):
    enabled(large.cluster(nodes=MAX_ROWS, tenants=0))
    assert len([line for line in told() if line.startswith("aks-")]) == MAX_ROWS
    enabled(large.cluster(nodes=MAX_ROWS + 1, tenants=0))
    assert not [line for line in told() if line.startswith("aks-")]


def test_more_causes_than_anybody_reads_are_cut(enabled, told, document):
    objects = large.cluster(nodes=100, tenants=0)
    helpers = [one for one in objects if one["kind"] == "Pod" and "quote-helper" in one["metadata"]["name"]]
    for number, helper in enumerate(helpers):
        helper["status"] = make.waiting("ErrImagePull", f"no image of kind {number}")
    enabled(objects)
    lines = told()
    assert len([line for line in lines if "no image of kind" in line]) == MAX_GROUPS
    (rest,) = [line for line in lines if line.startswith("  ") and ALL in commands_in(line)]
    assert rest.startswith(f"  and {100 - MAX_GROUPS} more ")
    assert len([one for one in document()["problems"] if "no image of kind" in one]) == 100


def test_doubts_that_are_alike_are_one_line(confcom, cluster, told, document):
    confcom.ok("enable", "--simulated")
    names = [f"n{number}" for number in range(9)]
    for name in names:
        cluster.objects.append(make.node(name, make.SIMULATED))
    cluster.settle()
    cluster.denied = {"get pods/proxy"}
    for pod in cluster.find("Pod", namespace=SYSTEM):
        pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = "2020-01-01T00:00:00Z"
    codes = [one["code"] for one in document()["not_compared_details"]]
    assert codes == [*["helper-not-asked"] * 10, "accounting-not-read"]
    lines = told()
    at = lines.index("Not compared:")
    (line,) = [line for line in lines[at + 1 :] if line.startswith("  10 ")]
    assert line.startswith("  10 nodes (a, n0, n1, n2, n3 and 5 more): ")
    assert "All is well." not in lines


def test_a_foreign_daemon_set_at_the_sockets_is_one_problem(cluster, enabled, document):
    objects = large.cluster(MOST_LOGS, 0)
    for number in range(MOST_LOGS):
        pod = make.pod(f"aesmd-{number:05}", namespace="intel", on=large.name(number))
        pod["spec"]["volumes"] = [{"name": "socket", "hostPath": {"path": "/var/run/aesmd"}}]
        pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "socket"}]
        objects.append(pod)
    line = {"message": "not ready", "about": "readiness", "reason": "in use", "code": "foreign-socket"}
    for one in objects:
        if one["metadata"]["name"].startswith("confcom-quote-helper-"):
            one["status"] = make.not_ready()
            cluster.logs[one["metadata"]["name"]] = json.dumps(line)
    enabled(objects)
    (group,) = document()["problem_groups"]
    assert "intel/aesmd-00000" in group["problem"]
    assert (group["code"], group["count"]) == ("foreign-socket", MOST_LOGS)
