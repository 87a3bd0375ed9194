from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.addon.release.revision_history import NoRevisionError, Revision, previous
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


@pytest.mark.parametrize("description", ["Rollback to 2", "Rollback to 9", "Rollback to 1 as the ticket says"])
def test_descriptions_that_somebody_chose(description):
    assert previous(told(UPGRADE, f"deployed: {description}")) == 1


@dataclass
class Model:
    """A release whose contents are known, with helm's own rules for the status and description of each revision."""

    keep: int
    names_target: bool
    """Whether it is helm 4.3.0 or newer."""
    revisions: list = field(default_factory=list)
    contents: dict = field(default_factory=dict)
    parents: dict = field(default_factory=dict)
    """By content: what was applied when it was made."""
    at: int | None = None
    lost: set = field(default_factory=set)
    """Failed rollbacks of which nothing tells the content."""
    failed: set = field(default_factory=set)
    """The others."""

    def _add(self, status, description, content=None, *, target=0):
        numbers = [one.number for one in self.revisions]
        while len(self.revisions) >= self.keep:
            self.revisions.remove(next(one for one in self.revisions if one.status != "deployed"))
        number = max(numbers, default=0) + 1
        named = {"rollback_revision": target} if target and self.names_target else {}
        self.revisions.append(revision(number, status, description, **named))
        self.contents[number] = content or number
        return number

    def _supersede(self, which):
        self.revisions = [replace(one, status="superseded") if one in which else one for one in self.revisions]

    @property
    def _deployed(self):
        return [one for one in self.revisions if one.status == "deployed"]

    def update(self, how):
        last = self.revisions[-1] if self.revisions else None
        if last and last.status.startswith("pending"):
            return  # helm refuses
        if how == "ok":
            before = self._deployed or [last]
            number = self._add("deployed", "Upgrade complete" if last else "Install complete")
            self._supersede(before)
        elif how == "failed":
            number = self._add("failed", f'{"Upgrade" if last else "Release"} "confcom" failed: no')
        else:
            kind, description = ("upgrade", "Preparing upgrade") if last else ("install", "Initial install underway")
            number = self._add(f"pending-{kind}", description)
        self.parents[number] = self.at
        if how == "ok":
            self.at = number

    def roll_back(self, how, chosen):
        kept = [one.number for one in self.revisions if one.number not in self.lost]
        if not kept:
            return
        target, last = kept[chosen % len(kept)], self.revisions[-1]
        content = self.contents[target]
        if how == "ok":
            before = self._deployed
            self._add("deployed", f"Rollback to {target}", content, target=target)
            self._supersede(before)
            self.at = content
        elif how == "interrupted":
            self._add("pending-rollback", f"Rollback to {target}", content, target=target)
        elif last.status != "pending-rollback":  # else nothing tells that this one was interrupted
            number = self._add("failed", 'Rollback "confcom" failed: no', content, target=target)
            self._supersede([one for one in self.revisions if one.number == last.number])
            if self.names_target:
                self.failed.add(number)
            else:
                self.lost.add(number)

    @property
    def expected(self):
        last = self.revisions[-1]
        if last.number in self.lost:
            return self.parents.get(self.at) or self.at
        content = self.contents[last.number]
        goes_on = last.status == "pending-rollback" or last.number in self.failed
        return content if goes_on else self.parents[content]


HOW = st.sampled_from(["ok", "failed", "interrupted"])
CHANGES = st.lists(st.tuples(HOW, st.none() | st.integers(0, 30)), min_size=1, max_size=14)


def changed(changes, keep, names_target):
    model = Model(keep, names_target)
    for how, chosen in changes:
        if chosen is None:
            model.update(how)
        else:
            model.roll_back(how, chosen)
    return model


@given(CHANGES, st.booleans())
def test_whatever_was_done_the_last_change_is_undone(changes, names_target):
    model = changed(changes, 100, names_target)
    if not model.revisions:
        return
    if model.expected is None:
        with pytest.raises(NoRevisionError):
            previous(model.revisions)
    else:
        assert model.contents[previous(model.revisions)] == model.expected


@given(CHANGES, st.integers(2, 5), st.booleans())
def test_with_old_revisions_gone_it_is_the_same_or_nothing(changes, keep, names_target):
    model = changed(changes, keep, names_target)
    try:
        found = previous(model.revisions)
    except NoRevisionError:
        return
    numbers = {one.number for one in model.revisions}
    assert found in numbers
    # Of a copy that is gone, nothing tells any more what it was a copy of.
    known = all(one.target in {0, *numbers, model.contents.get(one.target)} for one in model.revisions)
    assert not known or model.contents[found] in {model.expected, model.at}
