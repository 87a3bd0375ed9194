"""`confcom status` on a cluster of a thousand nodes: what people read is short, what programs read is whole."""

import json

import pytest

from confcom.addon.cluster.snapshot_reader import MOST_LOGS
from confcom.addon.model.problems import shown
from confcom.cli.status_table import MAX_GROUPS, MAX_ROWS
from testkit.cli_output import commands_in
from testkit.fake_cluster import large
from testkit.fake_cluster import objects as make

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
    objects = large.cluster(nodes=1000, tenants=1000, silent=250, failing=250, waiting=500)
    (updated,) = [one for one in objects if one["metadata"]["name"] == "confcom-device-plugin-00999"]
    updated["spec"]["containers"][0]["image"] = "registry.test/confcom/device-plugin:0.2.0"
    cluster = enabled(objects)
    lines = told()
    assert len([line for line in cluster.calls if line[1] == "logs"]) == MOST_LOGS
    assert len(lines) <= A_SCREEN
    assert [line for line in lines if line.startswith("500 nodes ") and "plugin 0.1.0 (499), 0.2.0 (1);" in line]
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
    (well,), versions = whole["nodes_well"], {"0.1.0": 499, "0.2.0": 1}
    assert (well["nodes"], well["epc"]["allocatable_mib"], well["device_plugin"]) == (500, 500 * 162, versions)


def test_all_nodes_are_shown_to_who_asks(enabled, told):
    enabled(large.cluster(nodes=2 * MAX_ROWS, tenants=0, silent=1, failing=MAX_ROWS + 3))
    short, whole = told(), told("--all-nodes")
    rows = [line for line in whole if line.startswith(large.name(0)[:-2])]
    assert len(rows) == 2 * MAX_ROWS
    (rest,) = [line for line in short if ALL in commands_in(line)]
    assert rest.startswith("and 3 more ")
    assert len([line for line in whole if " CrashLoopBackOff" in line]) == MAX_ROWS + 3
    assert not [line for line in whole if ALL in commands_in(line)]
    enabled(large.cluster(nodes=MAX_ROWS + 1, tenants=0))
    assert told()[-1] == "All is well."


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
