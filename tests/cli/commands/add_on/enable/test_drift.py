"""What somebody edited by hand: `confcom status` names it, and the next change sets it back; on a cluster in memory."""

import copy
import json
import re

import pytest

from testkit.cli_output import commands_in
from testkit.fake_cluster import fields
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.fields import EDITED, edit
from testkit.fake_cluster.objects import SYSTEM

POD = ("spec", "template", "spec")
HELPER = (*POD, "containers", ("name", "quote-helper"))
IMAGE, DEBUG = (*HELPER, "image"), (*POD, "containers", ("name", "debug"))


@pytest.fixture
def helper(enabled):
    """Gives the quote helper's DaemonSet as it is now."""
    return lambda: enabled.find("DaemonSet", "confcom-quote-helper")[0]


def changed_fields(document):
    """Of the one object that was changed: each field without the path of the Pod's spec, how, by whom and when."""
    (drift,) = document["drift"]
    assert (drift["kind"], drift["name"], drift["missing"]) == ("DaemonSet", "confcom-quote-helper", False)
    return {
        (one["field"].removeprefix("spec.template.spec."), one["deviation"], one["manager"], one["time"])
        for one in drift["fields"]
    }


def set_image(daemon):
    edit(daemon, "kubectl-set", IMAGE, "confcom/quote-helper:evil")


def add_container(daemon):
    edit(daemon, "kubectl-edit", DEBUG, {"name": "debug", "image": "busybox", "resources": {"limits": {}}})


def take_limit(daemon):
    edit(daemon, "kubectl-edit", (*HELPER, "resources", "limits", make.PROVISION), None)


EDITS = {
    set_image: ("containers[quote-helper].image", "changed", "kubectl-set", EDITED),
    add_container: ("containers[debug]", "added", "kubectl-edit", EDITED),
    take_limit: (f"containers[quote-helper].resources.limits.{make.PROVISION}", "missing", "", ""),
}


@pytest.mark.parametrize(
    ("command", "by_hand"),
    [*(("enable", one) for one in EDITS), ("update", add_container)],
    ids=lambda one: getattr(one, "__name__", one),
)
def test_it_is_named_and_set_back(confcom, cluster, by_hand, command):
    confcom.ok("enable", "--simulated")
    (daemon,) = cluster.find("DaemonSet", "confcom-quote-helper")
    installed = copy.deepcopy(daemon["spec"])
    by_hand(daemon)
    cluster.settle()
    assert commands_in(confcom.problem("object-changed")) == ["confcom enable"]
    assert changed_fields(confcom.unwell()) == {EDITS[by_hand]}

    done = confcom.ok(command, "-o", "json")
    assert json.loads(done.stdout)["changed"] is True
    assert f" confcom-quote-helper was changed: {EDITS[by_hand][0]} " in done.stderr
    assert cluster.find("DaemonSet", "confcom-quote-helper")[0]["spec"] == installed
    handed_over = any("managedFields" in word for line in cluster.calls for word in line)
    assert handed_over is (by_hand is add_container)  # helm takes away only what is its own
    confcom.ok("status")
    assert confcom.document("enable")["changed"] is False


def test_setting_back_is_no_change_that_a_rollback_would_undo(confcom, enabled, helper):
    confcom.ok("update", "--version", "0.2.0")
    set_image(helper())
    assert confcom.document("enable")["revision"] == 3
    assert fields.get(helper(), IMAGE) == "registry.test/confcom/quote-helper:0.2.0"
    confcom.ok("rollback")
    assert fields.get(helper(), IMAGE) == "registry.test/confcom/quote-helper:0.1.0"


def test_it_is_not_in_the_way_of_an_update_or_of_a_rollback(confcom, enabled, helper):
    set_image(helper())
    add_container(helper())
    confcom.ok("update", "--version", "0.2.0")
    assert fields.get(helper(), IMAGE) == "registry.test/confcom/quote-helper:0.2.0"
    assert fields.get(helper(), DEBUG) is None
    set_image(helper())
    add_container(helper())
    confcom.ok("rollback")
    assert fields.get(helper(), IMAGE) == "registry.test/confcom/quote-helper:0.1.0"
    assert fields.get(helper(), DEBUG) is None
    confcom.ok("status")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("ServiceAccount", "confcom-quote-helper"),
        ("ValidatingAdmissionPolicy", "confcom-provision"),
    ],
)
def test_what_somebody_deleted_is_named_and_comes_back(confcom, enabled, kind, name):
    (gone,) = enabled.find(kind, name)
    enabled.remove({(kind, name)})
    problems = [one["problem"] for one in confcom.problems() if one["code"] in {"object-missing", "policy-missing"}]
    assert problems
    assert all(f"{kind} " in problem and name in problem for problem in problems)
    assert {command for problem in problems for command in commands_in(problem)} == {"confcom enable"}
    done = confcom.ok("enable", "-o", "json")
    assert f": {kind} {name}.\n" in done.stderr
    assert json.loads(done.stdout)["changed"] is True
    assert enabled.find(kind, name)[0]["metadata"]["labels"] == gone["metadata"]["labels"]
    confcom.ok("status")


def test_a_restart_is_no_drift(confcom, enabled, helper):
    edit(helper(), "kubectl-rollout", ("spec", "template", "metadata", "annotations", "restartedAt"), "now")
    edit(helper(), "kubectl-annotate", ("metadata", "annotations", "mine"), "x")
    enabled.settle()
    confcom.ok("status")
    assert confcom.document("enable")["changed"] is False


def test_who_may_read_a_part_is_told_of_the_rest(confcom, enabled, helper):
    set_image(helper())
    enabled.settle()
    enabled.remove({("ServiceAccount", "confcom-quote-helper")})
    enabled.denied = {"get serviceaccounts"}
    assert "quote-helper:evil" in confcom.problem("object-changed")
    (doubt,) = confcom.unwell()["not_compared_details"]
    assert doubt["code"] == "release-not-compared"
    found = re.findall(r"ServiceAccount (confcom-[a-z-]+)", doubt["problem"])
    assert found == ["confcom-device-plugin", "confcom-quote-helper"]


def test_without_helm_nothing_is_compared(confcom, enabled):
    enabled.missing = {"helm"}
    assert " helm " in confcom.doubt("release-not-compared")


def test_manifests_without_a_release_are_not_compared(confcom, enabled):
    enabled.revisions.clear()
    assert f" {SYSTEM}" in confcom.doubt("release-not-compared")


@pytest.mark.parametrize("drifted", [True, False])
def test_helm_is_told_to_overwrite(confcom, cluster, drifted):
    confcom.ok("enable", "--simulated")
    for command in (["update", "--set", "logLevel=debug"], ["rollback"], ["enable"]):
        if drifted:
            set_image(cluster.find("DaemonSet", "confcom-quote-helper")[0])
        confcom.ok(*command)
    force = {"--server-side=true", "--force-conflicts"}
    assert flags_of_changes(cluster) == [set(), *[force] * (2 + drifted)]


def flags_of_changes(cluster):
    """By which helm overwrites, of each of its changes."""
    return [
        {word for word in line if "force" in word or "server-side" in word}
        for line in cluster.calls
        if line[:2] in (["helm", "upgrade"], ["helm", "rollback"]) and "--dry-run=server" not in line
    ]
