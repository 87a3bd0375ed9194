import pytest

import confcom as package
from testkit import cluster_objects as make
from testkit.cluster_objects import SYSTEM

VERSION = package.__version__


def test_this_program_alone_needs_no_cluster(cluster, confcom):
    assert confcom.document("version", "--client") == {"schema": 1, "program": VERSION}
    assert cluster.logins == []


def test_without_the_add_on_nothing_differs(confcom):
    found = confcom.document("version")
    assert (found["charts"], found["daemons"], found["differ"]) == ([], {}, False)


def test_each_daemon_has_its_versions_with_their_counts(enabled, confcom):
    enabled.api.put(make.daemon("quote-helper", "x", name="older"))
    enabled.api.find("Pod", "older")[0]["spec"]["containers"][0]["image"] = "confcom/quote-helper:0.0.9"
    found = confcom.document("version")
    assert (found["program"], found["charts"]) == (VERSION, [VERSION])
    assert found["daemons"]["quote_helper"] == {"0.1.0": 1, "0.0.9": 1}
    assert found["daemons"]["device_plugin"] == {"0.1.0": 1}
    assert found["differ"] is True
    lines = confcom.ok("version").stdout.splitlines()
    assert lines[0] == f"confcom {VERSION}"
    assert any(line.startswith("quote helper: ") and "0.0.9 (1)" in line for line in lines)


@pytest.mark.parametrize(("label", "differ"), [(VERSION, False), ("0.0.1", True)])
def test_a_chart_of_another_version_differs(enabled, confcom, label, differ):
    for kind in ("DaemonSet", "Deployment"):
        for one in enabled.api.find(kind, None, SYSTEM):
            one["metadata"]["labels"]["app.kubernetes.io/version"] = label
    assert confcom.document("version")["differ"] is differ
