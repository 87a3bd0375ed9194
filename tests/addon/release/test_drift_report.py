"""What is said of objects that were changed, and of a change of the release that is not finished."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from confcom.addon.cluster import helm
from confcom.addon.release.drift import Deviation, Drift, FieldDrift, ReleaseSeen
from confcom.addon.release.drift_report import INTERRUPTED_FLAG, change_problem, described
from confcom.addon.release.field_managers import Item
from confcom.addon.release.revision_history import LONGEST_CHANGE_SECONDS, Revision

NOON = datetime(2026, 11, 26, 12, 0, 0, 123456, tzinfo=UTC)
AS_HELM_WRITES_IT = "2026-11-26T13:00:00.123456789+01:00"


def told(seconds, status="pending-upgrade", updated=AS_HELM_WRITES_IT):
    """At so many seconds after noon, when the change began."""
    last = Revision.parse({"revision": 7, "status": status, "description": "x", "updated": updated})
    return change_problem(ReleaseSeen(last, can_roll_back=True), NOON + timedelta(seconds=seconds))


def parts(problem):
    """Its status, its time, and its age if it is in progress; how it is undone is always told."""
    assert INTERRUPTED_FLAG in problem
    assert "revision 7" in problem
    found = [re.search(one, problem) for one in (r"pending-[a-z]+", r"[0-9]{4}-.{14} UTC", r"\b[0-9]+ s\b")]
    return tuple(one[0] if one else "" for one in found)


BEGAN = "2026-11-26 12:00:00 UTC"


@pytest.mark.parametrize(
    ("seconds", "more", "expected"),
    [
        *((seconds, {}, (BEGAN, f"{seconds:.0f} s")) for seconds in (0, 45, LONGEST_CHANGE_SECONDS - 1)),
        (-90, {}, (BEGAN, "0 s")),  # by a clock that is behind
        (LONGEST_CHANGE_SECONDS + 1, {}, (BEGAN, "")),
        *((1e6, {"status": f"pending-{one}"}, (BEGAN, "")) for one in ("install", "upgrade", "rollback")),
        (0, {"updated": ""}, ("", "")),
        (0, {"updated": "yesterday"}, ("", "")),
    ],
)
def test_how_old_an_unfinished_change_is(seconds, more, expected):
    assert parts(told(seconds, **more)) == (more.get("status", "pending-upgrade"), *expected)


def test_no_change_by_confcom_takes_longer_than_is_said():
    assert helm.HELM_SECONDS + helm.GRACE_SECONDS <= LONGEST_CHANGE_SECONDS


CONTAINER = ("spec", "template", "spec", "containers", Item((("name", "main"),)))


def test_the_text_of_a_drift():
    fields = (
        FieldDrift((*CONTAINER, "args"), Deviation.CHANGED, ["--a", "--b"], ["--a", "--c"], "kubectl-patch", "T"),
        FieldDrift((*CONTAINER, "image"), Deviation.CHANGED, "a:1", "b:1"),
        FieldDrift((*CONTAINER, "env"), Deviation.ADDED, found=[], manager="kubectl-edit"),
        FieldDrift((*CONTAINER, "ports"), Deviation.MISSING, []),
    )
    assert described(Drift("DaemonSet", "d", fields)) == (
        "the DaemonSet d was changed: containers[main].args has --c and lacks --b (by kubectl-patch at T); "
        "containers[main].image is b:1 instead of a:1; containers[main].env was added (by kubectl-edit); 1 more"
    )
    assert (
        described(Drift("DaemonSet", "d", fields[3:]))
        == "the DaemonSet d was changed: containers[main].ports is missing"
    )
    assert described(Drift("DaemonSet", "d")) == "the DaemonSet d is missing"
