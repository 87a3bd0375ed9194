"""What somebody edited by hand: `confcom status` names it, and the next change sets it back; on a cluster in memory."""

import copy
import json
from datetime import UTC, datetime, timedelta

import pytest

from confcom.errors import ExitCode
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
        return json.loads(done.stdout)["problems"]

    return call


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
    set_image: "containers[quote-helper].image is confcom/quote-helper:evil instead of "
    f"registry.test/confcom/quote-helper:0.1.0 (by kubectl-set at {EDITED})",
    replace_args: f"containers[quote-helper].args has --other (by kubectl-patch at {EDITED})",
    add_container: f"containers[debug] was added (by kubectl-edit at {EDITED})",
    add_field: f"hostNetwork was added (by kubectl-patch at {EDITED})",
    take_limit: f"containers[quote-helper].resources.limits.{make.PROVISION} is missing",
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
    told = f"the DaemonSet confcom-quote-helper was changed: {EDITS[by_hand]}"
    assert problems() == [f"{told}: `confcom enable` sets it back"]

    done = confcom(command, "--output", "json")
    assert done.exit_code == ExitCode.OK, done.output
    assert json.loads(done.stdout)["changed"] is True
    assert f"Not as the release has it, to be set back: {told}.\n" in done.stderr
    assert cluster.find("DaemonSet", "confcom-quote-helper")[0]["spec"] == installed
    assert confcom("status").exit_code == ExitCode.OK
    assert json.loads(confcom("enable", "--output", "json").stdout)["changed"] is False


def test_json_has_all_of_it(confcom, enabled, helper):
    for by_hand in EDITS:
        by_hand(helper())
    document = json.loads(confcom("status", "-o", "json").stdout)
    (drift,) = document["drift"]
    assert (drift["kind"], drift["name"], drift["missing"]) == ("DaemonSet", "confcom-quote-helper", False)
    assert {
        "field": "spec.template.spec.containers[quote-helper].image",
        "deviation": "changed",
        "manager": "kubectl-set",
        "time": EDITED,
    } in drift["fields"]
    assert len(drift["fields"]) == len(EDITS)
    assert any("; 2 more: `confcom enable`" in problem for problem in document["problems"])
    assert document["ok"] is False


def test_setting_back_is_no_change_that_a_rollback_would_undo(confcom, enabled, helper):
    assert confcom("update", "--version", "0.2.0").exit_code == ExitCode.OK
    set_image(helper())
    assert confcom("enable").stdout == "The add-on is enabled (revision 3).\n"
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
    told = "the last change (revision 2) failed and may be half made (Upgrade"
    assert [one for one in problems() if one.startswith(told) and "`confcom enable` makes it again" in one]
    done = confcom(*command)
    assert done.exit_code == ExitCode.OK, done.output
    assert "evil" not in json.dumps(enabled.find("DaemonSet"))
    assert confcom("status").exit_code == ExitCode.OK


def test_an_interrupted_change_is_told(problems, enabled):
    enabled.revisions.append(enabled.revisions[0] | {"revision": 2, "status": "pending-upgrade"})
    (problem,) = problems()
    assert problem.startswith("the release is pending-upgrade (revision 2): if no helm is at work on it")


PENDING = ["pending-install", "pending-upgrade", "pending-rollback"]


@pytest.mark.parametrize("status", PENDING)
@pytest.mark.parametrize("ago", [None, 30, 86_400])
def test_with_an_unfinished_change_nothing_is_called_well(confcom, enabled, status, ago):
    enabled.revisions.append(enabled.revisions[0] | {"revision": 2, "status": status})
    if ago is not None:
        enabled.revisions[-1]["updated"] = (datetime.now(UTC) - timedelta(seconds=ago)).isoformat()
    done = confcom("status")
    assert done.exit_code == ExitCode.NOT_READY
    assert "All is well" not in done.stdout
    assert "`confcom rollback --interrupted` undoes what it did" in done.stdout


ENABLE_AGAIN = "; then `confcom enable`"
REMEDIES = {
    ("failed",): "`confcom enable` makes it again, `confcom disable` removes it",
    ("pending-install",): f"`confcom disable --interrupted` removes what it made{ENABLE_AGAIN}",
    ("failed", "pending-upgrade"): f"`confcom disable --interrupted` removes what it made{ENABLE_AGAIN}",
    ("uninstalling",): f"`confcom disable` finishes the removal{ENABLE_AGAIN}",
    ("deployed", "uninstalling"): f"`confcom disable` finishes the removal{ENABLE_AGAIN}",
    ("deployed", "failed"): "`confcom enable` makes it again, `confcom rollback` undoes it",
    ("deployed", "pending-upgrade"): "`confcom rollback --interrupted` undoes what it did",
    ("deployed", "pending-rollback"): "`confcom rollback --interrupted` undoes what it did",
}
"""By the revisions' statuses: how the problem ends."""


@pytest.mark.parametrize("statuses", REMEDIES, ids=" ".join)
def test_the_remedy_for_a_change_that_was_not_finished_is_one_that_helm_takes(enabled, problems, statuses):
    described = {"failed": 'Upgrade "confcom" failed: x', "pending-upgrade": "Preparing upgrade"}
    enabled.revisions[:] = [
        enabled.revisions[0] | {"revision": number, "status": status, "description": described.get(status, "done")}
        for number, status in enumerate(statuses, 1)
    ]
    (problem,) = problems()
    assert problem.endswith(f", and {REMEDIES[statuses]}" if statuses[-1] != "failed" else f": {REMEDIES[statuses]}")


def test_a_release_that_was_removed_and_whose_history_helm_keeps_was_not_interrupted(enabled, problems):
    enabled.remove({("DaemonSet", f"confcom-{one}") for one in ("quote-helper", "device-plugin")})
    enabled.revisions[0] |= {"status": "uninstalled"}
    assert not [one for one in problems() if "interrupted" in one]


@pytest.mark.parametrize("kind", ["ServiceAccount", "DaemonSet"])
def test_what_somebody_deleted_is_named(confcom, enabled, problems, kind):
    gone = enabled.find(kind, "confcom-quote-helper")[0]
    enabled.remove({(kind, "confcom-quote-helper")})
    assert f"the {kind} confcom-quote-helper is missing: `confcom enable` makes it again" in problems()
    done = confcom("enable")
    assert f"Gone from the cluster, to be made again: {kind} confcom-quote-helper.\n" in done.stderr
    assert enabled.find(kind, "confcom-quote-helper")[0]["metadata"]["labels"] == gone["metadata"]["labels"]
    assert confcom("status").exit_code == ExitCode.OK


def test_all_daemons_are_deleted(enabled, problems):
    enabled.remove({("DaemonSet", f"confcom-{one}") for one in ("quote-helper", "device-plugin")})
    told = problems()
    assert "the DaemonSet confcom-device-plugin is missing: `confcom enable` makes it again" in told
    assert "the DaemonSet confcom-quote-helper is missing: `confcom enable` makes it again" in told


def test_a_restart_is_no_drift(confcom, enabled, helper):
    edit(helper(), "kubectl-rollout", ("spec", "template", "metadata", "annotations", "restartedAt"), "now")
    edit(helper(), "kubectl-annotate", ("metadata", "annotations", "mine"), "x")
    enabled.sleep(1)
    enabled.sleep(1)
    assert confcom("status").exit_code == ExitCode.OK
    assert "as it was asked to be already" in confcom("enable").stderr
    assert confcom("update", "--set", "logLevel=debug").exit_code == ExitCode.OK
    assert helper()["spec"]["template"]["metadata"]["annotations"] == {"restartedAt": "now"}


def test_a_dry_run_says_what_would_be_set_back(confcom, enabled, helper):
    set_image(helper())
    before = copy.deepcopy(helper())
    done = confcom("enable", "--dry-run")
    assert "Not as the release has it, to be set back: the DaemonSet confcom-quote-helper was changed" in done.stderr
    assert helper() == before


def test_who_may_not_read_the_release_gets_the_rest_and_is_told(confcom, enabled, helper):
    set_image(helper())
    enabled.denied = {"list secrets"}
    document = json.loads(confcom("status", "-o", "json").stdout)
    assert document["problems"] == []
    (doubt,) = document["not_compared"]
    assert doubt.startswith("the release cannot be looked up: query: failed to query with labels: secrets is forbidden")
    assert "Not compared:\n  the release cannot be" in confcom("status").stdout


def test_who_may_read_a_part_is_told_of_the_rest(confcom, enabled, helper, problems):
    set_image(helper())
    enabled.sleep(1)
    enabled.sleep(1)
    enabled.remove({("ServiceAccount", "confcom-quote-helper")})
    enabled.denied = {"get serviceaccounts"}
    (problem,) = problems()
    assert "quote-helper:evil instead of" in problem
    assert json.loads(confcom("status", "-o", "json").stdout)["not_compared"] == [
        "this user may not read ServiceAccount confcom-device-plugin, ServiceAccount confcom-quote-helper"
    ]


def test_without_helm_nothing_is_compared(confcom, enabled):
    enabled.missing = {"helm"}
    done = confcom("status")
    assert done.exit_code == ExitCode.OK
    assert "  the release cannot be looked up: there is no helm on PATH" in done.stdout


def test_manifests_without_a_release_are_not_compared(confcom, enabled):
    enabled.revisions.clear()
    done = confcom("status")
    assert done.exit_code == ExitCode.OK
    assert f"  helm has no release confcom in {SYSTEM}" in done.stdout


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
    done = confcom("update", "--set", "logLevel=debug")
    assert done.exit_code == ExitCode.REFUSED
    assert f"why: not allowed: update daemonsets.apps in {SYSTEM}\n" in done.stderr
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
