"""Two changes of a cluster in memory at once: one is made, the other is told of it and changes nothing."""

import copy
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import click
import pytest

from confcom.addon.release.history import LONGEST_CHANGE_SECONDS
from confcom.errors import ExitCode
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import EPC, SYSTEM


@pytest.fixture
def enabled(confcom, cluster):
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    return cluster


def begin(cluster, status="pending-upgrade", *, ago=20.0, revision=2):
    """Another helm has recorded that it begins."""
    when = (datetime.now(UTC) - timedelta(seconds=ago)).isoformat()
    base = cluster.revisions[0] if cluster.revisions else {"values": {}, "manifests": [], "hooks": []}
    described = {"pending-rollback": "Rollback to 1"}.get(status, "Preparing upgrade")
    cluster.revisions.append(base | {"revision": revision, "status": status, "description": described, "updated": when})
    return when[:19].replace("T", " ")


def refused(done, cluster, before):
    assert done.exit_code == ExitCode.REFUSED, done.output
    assert cluster.revisions == before[0]
    assert cluster.objects == before[1]
    return [line.strip() for line in done.stderr.splitlines()[-3:]]


def state(cluster):
    return copy.deepcopy((cluster.revisions, cluster.objects))


CHANGES = [["enable", "--simulated"], ["update", "--version", "0.2.0"], ["rollback"], ["rollback", "1"], ["disable"]]


@pytest.mark.parametrize("command", CHANGES, ids=" ".join)
def test_the_second_one_is_told_of_the_first(confcom, enabled, command):
    since = begin(enabled)
    before = state(enabled)
    what, why, do = refused(confcom(*command), enabled, before)
    assert what == "Error: nothing was changed: another change of the release is running"
    assert why.startswith(f"why: revision 2 is pending-upgrade since {since} UTC (2")
    assert do == (
        "do:  wait until it has ended, as `confcom status` shows, then the same command again; if it was killed, "
        "`confcom rollback --interrupted` undoes what it did"
    )
    error = json.loads(confcom(*command, "-o", "json").stdout)["error"]
    assert error["exit_code"] == ExitCode.REFUSED
    assert since in error["why"]
    assert state(enabled) == before


@pytest.mark.parametrize("status", ["pending-upgrade", "pending-rollback"])
@pytest.mark.parametrize("ago", [5.0, LONGEST_CHANGE_SECONDS + 5])
def test_of_one_that_died_the_remedy_that_is_named_works(confcom, enabled, status, ago):
    begin(enabled, status, ago=ago)
    done = confcom("update", "--version", "0.2.0")
    assert done.exit_code == ExitCode.REFUSED
    assert "`confcom rollback --interrupted` undoes what it did" in done.stderr.splitlines()[-1]
    assert "`confcom rollback --interrupted` undoes what it did" in confcom("status").stdout
    assert confcom("rollback", "--interrupted").exit_code == ExitCode.OK
    assert confcom("update", "--version", "0.2.0").exit_code == ExitCode.OK


def test_an_old_one_needs_no_word_that_it_died(confcom, enabled):
    begin(enabled, ago=LONGEST_CHANGE_SECONDS + 5)
    assert "longer than the 360 s" in confcom("update").stderr
    assert confcom("rollback").exit_code == ExitCode.OK


def test_a_first_installation_that_died_is_removed(confcom, cluster):
    begin(cluster, "pending-install", revision=1)
    done = confcom("enable", "--simulated")
    assert done.exit_code == ExitCode.REFUSED
    assert "`confcom disable --interrupted` removes what it made; then `confcom enable`" in done.stderr
    assert confcom("disable").exit_code == ExitCode.REFUSED
    assert confcom("disable", "--interrupted").exit_code == ExitCode.OK
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK


@pytest.mark.parametrize("said", ["release: already exists", "cannot reuse a name that is still in use"])
@pytest.mark.parametrize("status", ["pending-upgrade", "deployed"])
def test_one_that_records_at_the_same_moment_is_told_as_well(confcom, enabled, said, status):
    upgrade = enabled._helm_upgrade

    def late(words, flags, rest, stdin):
        if "dry-run" in flags:
            return upgrade(words, flags, rest, stdin)
        begin(enabled, status, ago=0.0)
        return 1, "", f"Error: {said}"

    enabled._helm_upgrade = late
    objects = copy.deepcopy(enabled.objects)
    done = confcom("update", "--version", "0.2.0")
    assert done.exit_code == ExitCode.REFUSED
    assert enabled.objects == objects
    what, why, _ = (line.strip() for line in done.stderr.splitlines()[-3:])
    assert what.startswith("Error: nothing was changed: another change of the release ")
    assert f"revision 2, which is {status} since " in why or f"revision 2 is {status} since " in why


def test_one_that_has_not_recorded_yet_is_told_without_its_revision(confcom, cluster):
    upgrade = cluster._helm_upgrade

    def late(words, flags, rest, stdin):
        if "dry-run" in flags:
            return upgrade(words, flags, rest, stdin)
        return 1, "", "Error: INSTALLATION FAILED: release: already exists"

    cluster._helm_upgrade = late
    done = confcom("enable", "--simulated")
    assert done.exit_code == ExitCode.REFUSED
    what, why, _ = (line.strip() for line in done.stderr.splitlines()[-3:])
    assert what == "Error: helm has changed nothing: another change of the release is running"
    assert "the other one has recorded no revision yet" in why
    assert why.endswith("without helm: the namespace confcom-system was made")


def test_helm_by_itself_that_has_no_date_is_not_taken_for_running(confcom, enabled):
    begin(enabled)
    del enabled.revisions[-1]["updated"]
    assert confcom("rollback").exit_code == ExitCode.OK


def test_a_node_is_not_labelled_by_the_second_one(confcom, enabled):
    begin(enabled)
    assert confcom("enable", "--simulated-node", "b").exit_code == ExitCode.REFUSED
    assert enabled.node("b")["metadata"]["labels"] != make.SIMULATED


def test_one_that_begins_while_somebody_is_asked_is_not_disturbed(confcom, enabled, monkeypatch):
    enabled.objects.append(make.pod("user", on="a", limits={EPC: 10}))
    seen = []

    def agree(*_, **__):
        begin(enabled)
        seen.extend(state(enabled))
        return True

    monkeypatch.setattr("confcom.cli.commands.disable.sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    monkeypatch.setattr(click, "confirm", agree)
    what, _, _ = refused(confcom("disable"), enabled, seen)
    assert what == "Error: nothing was changed: another change of the release is running"


@pytest.mark.parametrize("follows", [True, False])
def test_the_job_of_a_change_that_follows_at_once_is_left_to_it(confcom, enabled, follows):
    labels = make.labels("simulated-root")
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x", "namespace": SYSTEM, "labels": labels}}
    run = enabled.run

    def followed(arguments, /, **more):
        done = run(arguments, **more)
        if arguments[1] == "upgrade" and not any("--dry-run" in one for one in arguments):
            enabled.objects.append(job)
            if follows:
                begin(enabled, revision=3)
        return done

    enabled.run = followed
    confcom("update", "--set", "logLevel=debug", "--no-wait")
    assert enabled.find("Job") == ([job] if follows else [])
