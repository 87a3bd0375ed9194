"""Two changes of a cluster in memory at once: one is made, the other is told of it and changes nothing."""

import copy
import re
from datetime import UTC, datetime, timedelta

import pytest

from confcom.addon.release.revision_history import LONGEST_CHANGE_SECONDS
from confcom.errors import ExitCode
from testkit.cli_output import commands_in
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import SYSTEM


def begin(cluster, status="pending-upgrade", *, ago=20.0, revision=2):
    """Another helm has recorded that it begins."""
    when = (datetime.now(UTC) - timedelta(seconds=ago or 0)).isoformat()
    base = cluster.revisions[0] if cluster.revisions else {"values": {}, "manifests": [], "hooks": []}
    described = {"pending-rollback": "Rollback to 1"}.get(status, "Preparing upgrade")
    made = base | {"revision": revision, "status": status, "description": described}
    cluster.revisions.append(made | ({} if ago is None else {"updated": when}))
    return when[:19].replace("T", " ")


def state(cluster):
    return copy.deepcopy((cluster.revisions, cluster.objects))


CHANGES = [
    ["enable", "--simulated-node", "b"],
    ["update", "--version", "0.2.0"],
    ["rollback"],
    ["rollback", "1"],
    ["disable"],
]


@pytest.mark.parametrize("command", CHANGES, ids=" ".join)
def test_the_second_one_is_told_of_the_first(confcom, enabled, command):
    since = begin(enabled)
    before = state(enabled)
    error = confcom.error(ExitCode.REFUSED, "change-running", *command)
    assert state(enabled) == before
    assert re.search(rf" 2 .*pending-upgrade.* {since} UTC \(2[0-9]* s", error["why"])
    assert commands_in(error["do"]) == ["confcom status", "confcom rollback --interrupted"]


@pytest.mark.parametrize(
    ("status", "ago", "code"),
    [
        ("pending-upgrade", 5.0, "change-running"),
        ("pending-upgrade", LONGEST_CHANGE_SECONDS + 5, "change-interrupted"),
        ("pending-rollback", None, "change-interrupted"),
    ],
)
def test_of_one_that_died_the_remedy_that_is_named_works(confcom, enabled, status, ago, code):
    begin(enabled, status, ago=ago)
    error = confcom.error(ExitCode.REFUSED, code, "update", "--version", "0.2.0")
    assert commands_in(error["do"])[-1] == "confcom rollback --interrupted"
    problem = confcom.problem("change-unfinished")
    assert commands_in(problem)[-1] == "confcom rollback --interrupted"
    assert bool(re.search(r"\b[0-9]+ s ago", problem)) is (code == "change-running")
    confcom.ok("rollback", "--interrupted")
    assert enabled.revisions[-1]["description"] == "Rollback to 1"
    confcom.ok("update", "--version", "0.2.0")


@pytest.mark.parametrize("ago", [LONGEST_CHANGE_SECONDS + 5, None], ids=["long ago", "no date"])
def test_an_old_one_needs_no_word_that_it_died(confcom, enabled, ago):
    begin(enabled, ago=ago)
    error = confcom.error(ExitCode.REFUSED, "change-interrupted", "update")
    assert (f" {LONGEST_CHANGE_SECONDS:.0f} s " in error["why"]) is (ago is not None)
    confcom.ok("rollback")


def test_a_first_installation_that_died_is_removed(confcom, cluster):
    begin(cluster, "pending-install", revision=1)
    error = confcom.error(ExitCode.REFUSED, "change-running", "enable", "--simulated")
    assert commands_in(error["do"])[-2:] == ["confcom disable --interrupted", "confcom enable"]
    assert confcom("disable").exit_code == ExitCode.REFUSED
    confcom.ok("disable", "--interrupted")
    confcom.ok("enable", "--simulated")


@pytest.mark.parametrize("status", ["pending-upgrade", "deployed"])
def test_one_that_records_at_the_same_moment_is_told_as_well(confcom, enabled, status):
    def late(_):
        begin(enabled, status, ago=0.0)
        return 1, "", "Error: release: already exists"

    enabled.replace("upgrade", late)
    objects = copy.deepcopy(enabled.objects)
    code = "change-concurrent" if status == "deployed" else "change-running"
    error = confcom.error(ExitCode.REFUSED, code, "update", "--version", "0.2.0")
    assert enabled.objects == objects
    assert re.search(rf" 2\b.* {status} .*UTC", error["why"])


def test_a_change_that_is_not_recorded_yet_has_no_revision(confcom, cluster):
    cluster.replace("upgrade", lambda _: (1, "", "Error: INSTALLATION FAILED: release: already exists"))
    error = confcom.error(ExitCode.REFUSED, "change-running", "enable", "--simulated")
    assert not re.search(r"\d", error["why"])
    assert SYSTEM in error["why"]


def test_a_change_during_the_question_is_not_disturbed(confcom, enabled, asked):
    seen = []

    def agree():
        begin(enabled)
        seen.extend(state(enabled))
        return True

    asked(agree)
    confcom.error(ExitCode.REFUSED, "change-running", "disable")
    assert state(enabled) == tuple(seen)


@pytest.mark.parametrize("follows", [True, False])
def test_the_job_of_a_change_that_follows_at_once_is_left_to_it(confcom, enabled, follows):
    labels = make.labels("simulated-root")
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x", "namespace": SYSTEM, "labels": labels}}

    def followed(upgrade):
        done = upgrade()
        enabled.objects.append(job)
        if follows:
            begin(enabled, revision=3)
        return done

    enabled.replace("upgrade", followed)
    confcom("update", "--set", "logLevel=debug", "--no-wait")
    assert enabled.find("Job") == ([job] if follows else [])
