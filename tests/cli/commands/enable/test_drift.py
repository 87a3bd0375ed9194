"""What somebody edited by hand: `confcom status` names it, and the next change sets it back; on a cluster in memory."""

import copy
import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from confcom.errors import ExitCode
from testkit.cli_output import commands_in
from testkit.fake_cluster import fields
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.fields import EDITED, edit
from testkit.fake_cluster.objects import SYSTEM

POD = ("spec", "template", "spec")
HELPER = (*POD, "containers", ("name", "quote-helper"))
IMAGE, ARGS, DEBUG = (*HELPER, "image"), (*HELPER, "args"), (*POD, "containers", ("name", "debug"))


@pytest.fixture
def enabled(confcom, cluster):
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    return cluster


@pytest.fixture
def helper(enabled):
    """Gives the quote helper's DaemonSet as it is now."""
    return lambda: enabled.find("DaemonSet", "confcom-quote-helper")[0]


@pytest.fixture
def problems(confcom):
    def call():
        done = confcom("status", "-o", "json")
        assert done.exit_code == ExitCode.NOT_READY
        return json.loads(done.stdout)["problem_details"]

    return call


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


def replace_args(daemon):
    edit(daemon, "kubectl-patch", ARGS, ["--simulated", "--other"])


def add_container(daemon):
    edit(daemon, "kubectl-edit", DEBUG, {"name": "debug", "image": "busybox", "resources": {"limits": {}}})


def add_field(daemon):
    edit(daemon, "kubectl-patch", (*POD, "hostNetwork"), True)


def take_limit(daemon):
    edit(daemon, "kubectl-edit", (*HELPER, "resources", "limits", make.PROVISION), None)


EDITS = {
    set_image: ("containers[quote-helper].image", "changed", "kubectl-set", EDITED),
    replace_args: ("containers[quote-helper].args", "changed", "kubectl-patch", EDITED),
    add_container: ("containers[debug]", "added", "kubectl-edit", EDITED),
    add_field: ("hostNetwork", "added", "kubectl-patch", EDITED),
    take_limit: (f"containers[quote-helper].resources.limits.{make.PROVISION}", "missing", "", ""),
}


@pytest.fixture(params=["v4.3.1", "v3.22.0"])
def cluster_of_each_helm(request, cluster):
    cluster.helm_version = request.param
    return cluster


@pytest.mark.parametrize("command", ["enable", "update"])
@pytest.mark.parametrize("by_hand", EDITS, ids=lambda one: one.__name__)
def test_it_is_named_and_set_back(confcom, cluster_of_each_helm, problems, by_hand, command):
    cluster = cluster_of_each_helm
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    (daemon,) = cluster.find("DaemonSet", "confcom-quote-helper")
    installed = copy.deepcopy(daemon["spec"])
    by_hand(daemon)
    cluster.sleep(1)
    cluster.sleep(1)
    (problem,) = problems()
    assert problem["code"] == "object-changed"
    assert commands_in(problem["problem"]) == ["confcom enable"]
    assert changed_fields(json.loads(confcom("status", "-o", "json").stdout)) == {EDITS[by_hand]}

    done = confcom(command, "--output", "json")
    assert done.exit_code == ExitCode.OK, done.output
    assert json.loads(done.stdout)["changed"] is True
    assert f" confcom-quote-helper was changed: {EDITS[by_hand][0]} " in done.stderr
    assert cluster.find("DaemonSet", "confcom-quote-helper")[0]["spec"] == installed
    assert confcom("status").exit_code == ExitCode.OK
    assert json.loads(confcom("enable", "--output", "json").stdout)["changed"] is False


def test_json_has_all_of_it(confcom, enabled, helper):
    for by_hand in EDITS:
        by_hand(helper())
    document = json.loads(confcom("status", "-o", "json").stdout)
    assert changed_fields(document) == set(EDITS.values())
    (problem,) = document["problem_details"]
    assert "; 2 more: " in problem["problem"]
    assert document["ok"] is False


def test_setting_back_is_no_change_that_a_rollback_would_undo(confcom, enabled, helper):
    assert confcom("update", "--version", "0.2.0").exit_code == ExitCode.OK
    set_image(helper())
    assert json.loads(confcom("enable", "-o", "json").stdout)["revision"] == 3
    assert fields.get(helper(), IMAGE) == "registry.test/confcom/quote-helper:0.2.0"
    assert confcom("rollback").exit_code == ExitCode.OK
    assert fields.get(helper(), IMAGE) == "registry.test/confcom/quote-helper:0.1.0"


def test_it_is_not_in_the_way_of_an_update_or_of_a_rollback(confcom, enabled, helper):
    set_image(helper())
    add_container(helper())
    done = confcom("update", "--version", "0.2.0")
    assert done.exit_code == ExitCode.OK, done.output
    assert fields.get(helper(), IMAGE) == "registry.test/confcom/quote-helper:0.2.0"
    assert fields.get(helper(), DEBUG) is None
    set_image(helper())
    add_container(helper())
    done = confcom("rollback")
    assert done.exit_code == ExitCode.OK, done.output
    assert fields.get(helper(), IMAGE) == "registry.test/confcom/quote-helper:0.1.0"
    assert fields.get(helper(), DEBUG) is None
    assert confcom("status").exit_code == ExitCode.OK


@pytest.mark.parametrize("command", [["enable"], ["update", "--version", "0.2.0"], ["rollback"]])
def test_an_update_by_helm_alone_that_is_half_made_is_seen_and_mended(confcom, enabled, helper, problems, command):
    set_image(helper())
    chosen = {
        "simulated": {"enabled": True},
        "image": {"registry": "registry.test"},
        "devicePlugin": {"image": {"tag": "0.2.0"}},
    }
    done = enabled.run(
        ["helm", "upgrade", "confcom", "chart", "--install", "--no-hooks"], stdin=json.dumps(chosen).encode()
    )
    assert done.returncode == 1, "helm takes no field from others without being told to"
    assert "device-plugin:0.2.0" in json.dumps(enabled.find("DaemonSet"))
    (unfinished,) = [one["problem"] for one in problems() if one["code"] == "change-unfinished"]
    assert " 2)" in unfinished
    assert commands_in(unfinished)[0] == "confcom enable"
    done = confcom(*command)
    assert done.exit_code == ExitCode.OK, done.output
    assert "evil" not in json.dumps(enabled.find("DaemonSet"))
    assert confcom("status").exit_code == ExitCode.OK


def test_an_interrupted_change_is_told(problems, enabled):
    enabled.revisions.append(enabled.revisions[0] | {"revision": 2, "status": "pending-upgrade"})
    (problem,) = problems()
    assert problem["code"] == "change-unfinished"
    assert re.search(r"pending-upgrade .* 2\)", problem["problem"])


PENDING = ["pending-install", "pending-upgrade", "pending-rollback"]


@pytest.mark.parametrize("status", PENDING)
@pytest.mark.parametrize("ago", [None, 30, 86_400])
def test_with_an_unfinished_change_nothing_is_called_well(confcom, enabled, status, ago):
    enabled.revisions.append(enabled.revisions[0] | {"revision": 2, "status": status})
    if ago is not None:
        enabled.revisions[-1]["updated"] = (datetime.now(UTC) - timedelta(seconds=ago)).isoformat()
    done = confcom("status", "-o", "json")
    assert done.exit_code == ExitCode.NOT_READY
    document = json.loads(done.stdout)
    assert document["ok"] is False
    (problem,) = document["problem_details"]
    assert problem["code"] == "change-unfinished"
    assert commands_in(problem["problem"]) == ["confcom rollback --interrupted"]


REMEDIES = {
    ("failed",): ["confcom enable", "confcom disable"],
    ("pending-install",): ["confcom disable --interrupted", "confcom enable"],
    ("failed", "pending-upgrade"): ["confcom disable --interrupted", "confcom enable"],
    ("uninstalling",): ["confcom disable", "confcom enable"],
    ("deployed", "uninstalling"): ["confcom disable", "confcom enable"],
    ("deployed", "failed"): ["confcom enable", "confcom rollback"],
    ("deployed", "pending-upgrade"): ["confcom rollback --interrupted"],
    ("deployed", "pending-rollback"): ["confcom rollback --interrupted"],
}
"""By the revisions' statuses: the commands that the problem names."""


@pytest.mark.parametrize("statuses", REMEDIES, ids=" ".join)
def test_the_remedy_for_a_change_that_was_not_finished_is_one_that_helm_takes(enabled, problems, statuses):
    described = {"failed": 'Upgrade "confcom" failed: x', "pending-upgrade": "Preparing upgrade"}
    enabled.revisions[:] = [
        enabled.revisions[0] | {"revision": number, "status": status, "description": described.get(status, "done")}
        for number, status in enumerate(statuses, 1)
    ]
    (problem,) = problems()
    assert problem["code"] == "change-unfinished"
    assert commands_in(problem["problem"]) == REMEDIES[statuses]


def test_a_release_that_was_removed_and_whose_history_helm_keeps_was_not_interrupted(enabled, problems):
    enabled.remove({("DaemonSet", f"confcom-{one}") for one in ("quote-helper", "device-plugin")})
    enabled.revisions[0] |= {"status": "uninstalled"}
    assert "change-unfinished" not in {one["code"] for one in problems()}


@pytest.mark.parametrize("kind", ["ServiceAccount", "DaemonSet"])
def test_what_somebody_deleted_is_named(confcom, enabled, problems, kind):
    gone = enabled.find(kind, "confcom-quote-helper")[0]
    enabled.remove({(kind, "confcom-quote-helper")})
    (problem,) = [one["problem"] for one in problems() if one["code"] == "object-missing"]
    assert f"{kind} confcom-quote-helper " in problem
    assert commands_in(problem) == ["confcom enable"]
    done = confcom("enable")
    assert f"{kind} confcom-quote-helper" in done.stderr
    assert enabled.find(kind, "confcom-quote-helper")[0]["metadata"]["labels"] == gone["metadata"]["labels"]
    assert confcom("status").exit_code == ExitCode.OK


def test_all_daemons_are_deleted(enabled, problems):
    enabled.remove({("DaemonSet", f"confcom-{one}") for one in ("quote-helper", "device-plugin")})
    told = " ".join(one["problem"] for one in problems() if one["code"] == "object-missing")
    assert re.findall(r"DaemonSet (\S+)", told) == ["confcom-device-plugin", "confcom-quote-helper"]


def test_a_restart_is_no_drift(confcom, enabled, helper):
    edit(helper(), "kubectl-rollout", ("spec", "template", "metadata", "annotations", "restartedAt"), "now")
    edit(helper(), "kubectl-annotate", ("metadata", "annotations", "mine"), "x")
    enabled.sleep(1)
    enabled.sleep(1)
    assert confcom("status").exit_code == ExitCode.OK
    assert json.loads(confcom("enable", "-o", "json").stdout)["changed"] is False
    assert confcom("update", "--set", "logLevel=debug").exit_code == ExitCode.OK
    assert helper()["spec"]["template"]["metadata"]["annotations"] == {"restartedAt": "now"}


def test_a_dry_run_says_what_would_be_set_back(confcom, enabled, helper):
    set_image(helper())
    before = copy.deepcopy(helper())
    done = confcom("enable", "--dry-run")
    assert f"{EDITS[set_image][0]} is confcom/quote-helper:evil" in done.stderr
    assert helper() == before


def test_who_may_not_read_the_release_gets_the_rest_and_is_told(confcom, enabled, helper):
    set_image(helper())
    enabled.denied = {"list secrets"}
    document = json.loads(confcom("status", "-o", "json").stdout)
    assert document["problem_details"] == []
    (doubt,) = document["not_compared_details"]
    assert doubt["code"] == "release-not-compared"
    assert "secrets is forbidden" in doubt["problem"]
    assert f"Not compared:\n  {doubt['problem']}\n" in confcom("status").stdout


def test_who_may_read_a_part_is_told_of_the_rest(confcom, enabled, helper, problems):
    set_image(helper())
    enabled.sleep(1)
    enabled.sleep(1)
    enabled.remove({("ServiceAccount", "confcom-quote-helper")})
    enabled.denied = {"get serviceaccounts"}
    (problem,) = problems()
    assert problem["code"] == "object-changed"
    assert "quote-helper:evil" in problem["problem"]
    (doubt,) = json.loads(confcom("status", "-o", "json").stdout)["not_compared_details"]
    assert doubt["code"] == "release-not-compared"
    assert re.findall(r"ServiceAccount (confcom-[a-z-]+)", doubt["problem"]) == [
        "confcom-device-plugin",
        "confcom-quote-helper",
    ]


def test_without_helm_nothing_is_compared(confcom, enabled):
    enabled.missing = {"helm"}
    done = confcom("status", "-o", "json")
    assert done.exit_code == ExitCode.OK
    (doubt,) = json.loads(done.stdout)["not_compared_details"]
    assert doubt["code"] == "release-not-compared"
    assert " helm " in doubt["problem"]


def test_manifests_without_a_release_are_not_compared(confcom, enabled):
    enabled.revisions.clear()
    done = confcom("status", "-o", "json")
    assert done.exit_code == ExitCode.OK
    (doubt,) = json.loads(done.stdout)["not_compared_details"]
    assert doubt["code"] == "release-not-compared"
    assert f" {SYSTEM}" in doubt["problem"]


@pytest.mark.parametrize(
    ("version", "force"), [("v4.3.1", {"--server-side=true", "--force-conflicts"}), ("v3.22.0", {"--force"})]
)
def test_helm_is_told_to_overwrite_where_something_has_drifted(confcom, cluster, version, force):
    cluster.helm_version = version
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    for command in (["update", "--set", "logLevel=debug"], ["rollback"], ["enable"]):
        set_image(cluster.find("DaemonSet", "confcom-quote-helper")[0])
        assert confcom(*command).exit_code == ExitCode.OK
    assert flags_of_changes(cluster) == [set(), force, force, force]


def flags_of_changes(cluster):
    """By which helm overwrites, of each of its changes."""
    return [
        {word for word in line if "force" in word or "server-side" in word}
        for line in cluster.calls
        if line[:2] in (["helm", "upgrade"], ["helm", "rollback"]) and "--dry-run=server" not in line
    ]


def test_helm_3_replaces_objects_which_needs_a_permission_of_its_own(confcom, cluster):
    cluster.helm_version = "v3.22.0"
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    cluster.denied = {"update daemonsets"}
    done = confcom("update", "--set", "logLevel=debug", "-o", "json")
    assert done.exit_code == ExitCode.REFUSED
    (finding,) = [one for one in json.loads(done.stdout)["findings"] if one["outcome"] == "failed"]
    assert finding["code"] == "permissions-missing"
    assert finding["why"].endswith(f": update daemonsets.apps in {SYSTEM}")
    set_image(cluster.find("DaemonSet", "confcom-quote-helper")[0])
    done = confcom("rollback", "1")
    assert done.exit_code == ExitCode.FAILED
    assert 'cannot update resource "daemonsets"' in done.stderr


def test_helm_4_replaces_nothing(confcom, enabled):
    enabled.denied = {"update daemonsets"}
    set_image(enabled.find("DaemonSet", "confcom-quote-helper")[0])
    assert confcom("update", "--set", "logLevel=debug").exit_code == ExitCode.OK


@pytest.mark.parametrize(
    ("version", "force"), [("v4.3.1", {"--server-side=true", "--force-conflicts"}), ("v3.22.0", set())]
)
def test_helm_is_given_its_own_flags(confcom, cluster, version, force):
    cluster.helm_version = version
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    assert confcom("update", "--set", "logLevel=debug").exit_code == ExitCode.OK
    assert confcom("rollback").exit_code == ExitCode.OK
    assert flags_of_changes(cluster) == [set(), force, force]
