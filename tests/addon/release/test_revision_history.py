import pytest

from confcom.addon.cluster.helm import GRACE_SECONDS, HELM_SECONDS
from confcom.addon.release.revision_history import LONGEST_CHANGE_SECONDS, NoRevisionError, Revision, previous
from testkit.raised import raises


def revision(number, status, description, **more):
    return Revision.parse({"revision": number, "status": status, "description": description} | more)


def history(*texts):
    """`ok`, `failed`, or the number that a revision is a rollback to."""
    made = []
    for number, text in enumerate(texts, 1):
        description = f"Rollback to {text}" if isinstance(text, int) else "Upgrade complete"
        status = "failed" if text == "failed" else "superseded"
        made.append(revision(number, status, description))
    return made


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["ok", "ok"], 1),
        (["ok", "failed"], 1),
        (["ok", "failed", "ok"], 1),
        (["ok", "ok", "ok", 2], 1),
        (["ok", "ok", 1, "ok"], 1),
        (["ok", "ok", 1, "ok", 1, "ok", "failed", 6], 1),
        (["ok", "ok", "ok", 2, "ok", 4], 1),
    ],
)
def test_each_rollback_goes_further_back(texts, expected):
    assert previous(history(*texts)) == expected


@pytest.mark.parametrize(
    "texts", [[], ["ok"], ["failed"], ["failed", "failed"], ["ok", "ok", 1], ["ok", "ok", 1, "ok", 3]]
)
def test_there_is_nothing_to_go_back_to(texts):
    with raises("no-earlier-revision" if texts else "not-enabled", NoRevisionError):
        previous(history(*texts))


def told(*lines, first=1):
    """As `helm history` tells them: status and description."""
    parts = [(number, *line.split(": ", 1)) for number, line in enumerate(lines, first)]
    return [revision(*one) for one in parts]


UPGRADE, DEPLOYED = "superseded: Upgrade complete", "deployed: Upgrade complete"
FAILED_ROLLBACK = 'failed: Rollback "confcom" failed: cannot patch'


def test_helm_names_the_copied_revision():
    copy = revision(4, "deployed", "as the ticket says", rollback_revision=2)
    assert previous([*told(UPGRADE, UPGRADE, UPGRADE), copy]) == 1
    failed = revision(4, "failed", 'Rollback "confcom" failed: cannot patch', rollback_revision=1)
    assert previous([*told(UPGRADE, UPGRADE, UPGRADE), failed]) == 1


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # An interrupted rollback is gone on with.
        ([UPGRADE, UPGRADE, DEPLOYED, "pending-rollback: Rollback to 2"], 2),
        ([UPGRADE, DEPLOYED, "pending-rollback: Rollback to 1"], 1),
        # A failed one does not tell what it was to, so that the last that was applied is undone,
        ([UPGRADE, UPGRADE, FAILED_ROLLBACK], 1),
        ([UPGRADE, UPGRADE, UPGRADE, FAILED_ROLLBACK, FAILED_ROLLBACK], 2),
        ([UPGRADE, UPGRADE, 'failed: Release "confcom" failed: timed out'], 1),
        # and one from the first goes back to it.
        ([UPGRADE, UPGRADE, "superseded: Rollback to 1", FAILED_ROLLBACK], 1),
        # Helm calls superseded what need not have been applied: after a failed rollback the failed one,
        ([UPGRADE, UPGRADE, FAILED_ROLLBACK.replace("failed:", "superseded:", 1), DEPLOYED], 2),
        # and at one that fails what it was to undo: here an interrupted upgrade,
        ([UPGRADE, UPGRADE, "superseded: Preparing upgrade", FAILED_ROLLBACK], 1),
        # and there an interrupted rollback; 3 is what the cluster has.
        ([UPGRADE, UPGRADE, DEPLOYED, "superseded: Rollback to 2", FAILED_ROLLBACK], 2),
    ],
)
def test_a_rollback_that_was_not_made_to_its_end(lines, expected):
    assert previous(told(*lines)) == expected


def test_a_copy_is_named_if_the_first_revision_is_gone():
    assert previous(told(*[UPGRADE] * 8, "superseded: Rollback to 2", DEPLOYED, first=3)) == 11
    assert previous(told(*[UPGRADE] * 9, "pending-rollback: Rollback to 2", first=3)) == 12


def test_what_was_before_a_revision_that_is_gone_is_gone_too():
    with raises("no-earlier-revision", NoRevisionError):
        previous(told(*[UPGRADE] * 9, "deployed: Rollback to 2", first=3))
    with raises("no-earlier-revision", NoRevisionError):
        previous(told('failed: Release "confcom" failed: no', FAILED_ROLLBACK))


@pytest.mark.parametrize("description", ["Rollback to 2", "Rollback to 9", "Rollback to 1 as the ticket says"])
def test_descriptions_that_somebody_chose(description):
    assert previous(told(UPGRADE, f"deployed: {description}")) == 1


def test_no_change_by_confcom_takes_longer_than_is_said():
    assert HELM_SECONDS + GRACE_SECONDS <= LONGEST_CHANGE_SECONDS
