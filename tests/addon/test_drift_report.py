"""What is said of a change of the release that is not finished, by when it began."""

from datetime import UTC, datetime, timedelta

import pytest

from confcom.addon.cluster import helm
from confcom.addon.release.drift import ReleaseSeen
from confcom.addon.release.drift_report import change_problem
from confcom.addon.release.history import LONGEST_CHANGE_SECONDS, Revision

NOON = datetime(2026, 11, 26, 12, 0, 0, 123456, tzinfo=UTC)
AS_HELM_WRITES_IT = "2026-11-26T13:00:00.123456789+01:00"


def told(seconds, status="pending-upgrade", updated=AS_HELM_WRITES_IT):
    """At so many seconds after noon, when the change began."""
    last = Revision.parse({"revision": 7, "status": status, "description": "x", "updated": updated})
    return change_problem(ReleaseSeen(last, can_roll_back=True), NOON + timedelta(seconds=seconds))


@pytest.mark.parametrize("seconds", [0, 45, LONGEST_CHANGE_SECONDS - 1])
def test_a_change_that_began_just_now_is_in_progress(seconds):
    problem = told(seconds)
    which = "pending-upgrade since 2026-11-26 12:00:00 UTC (revision 7)"
    assert problem.startswith(f"a change of the release is in progress, {which}, ")
    assert f" {seconds:.0f} s ago: wait for it; if no helm" in problem
    assert problem.endswith("it was interrupted, and `confcom rollback --interrupted` undoes what it did")


@pytest.mark.parametrize("status", ["pending-install", "pending-upgrade", "pending-rollback"])
@pytest.mark.parametrize("seconds", [LONGEST_CHANGE_SECONDS + 1, 1e6])
def test_one_that_began_long_ago_was_interrupted(status, seconds):
    problem = told(seconds, status)
    assert problem.startswith(
        f"a change of the release was interrupted: {status} since 2026-11-26 12:00:00 UTC (revision 7)"
    )
    assert problem.endswith("`confcom rollback --interrupted` undoes what it did")


def test_a_clock_that_is_behind_makes_no_negative_seconds():
    assert "(revision 7), 0 s ago" in told(-90)


@pytest.mark.parametrize("updated", ["", "yesterday"])
def test_without_its_time_both_are_possible(updated):
    problem = told(0, updated=updated)
    assert problem.startswith(
        "the release is pending-upgrade (revision 7): if no helm is at work on it, it was interrupt"
    )


def test_no_change_by_confcom_takes_longer_than_is_said():
    assert helm.HELM_SECONDS + helm._GRACE_SECONDS <= LONGEST_CHANGE_SECONDS
