"""A release's revisions, and which one undoes the last change. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from confcom.errors import ConfcomError, ExitCode
from confcom.kubernetes.objects import time_of

_ROLLED_BACK = re.compile(r"Rollback to ([0-9]{1,9})")
"""Helm's description of a revision that is a copy of an older one."""
_FAILED_ROLLBACK = re.compile(r'(Rollback|Release) "[^"]*" failed')
"""Helm's description of a rollback that failed: it replaces the one that named the target (Helm's action.Rollback)."""
_NOT_APPLIED = re.compile(r'(Release|Upgrade|Rollback) "[^"]*" failed|Preparing upgrade|Initial install underway')
"""Helm's descriptions of revisions that were not applied completely; their status may later become "superseded", as if
they had been applied."""
_APPLIED = frozenset({"deployed", "superseded"})
DEPLOYED = "deployed"
"""The status of the last revision that was applied completely."""
FAILED = "failed"
UNINSTALLING = "uninstalling"
"""The status of a revision whose removal has begun: helm makes no other change before the removal is finished."""
UNINSTALLED = "uninstalled"
"""The status of a revision that was removed with `helm uninstall --keep-history`."""
_PENDING_ROLLBACK = "pending-rollback"
_PENDING = "pending-"
"""The prefix of the status of a revision that helm is applying, or was applying when it was interrupted."""
LONGEST_CHANGE_SECONDS = 360.0
"""The longest time that helm takes for one change: its timeout of 300 s for hooks (confcom.addon.cluster.helm), and a
minute for everything else. For an older change, no helm is running any more."""


class NoRevisionError(ConfcomError):
    """There is no revision to roll back to."""

    exit_code = ExitCode.REFUSED


@dataclass(frozen=True, slots=True)
class Revision:
    """One change of a release."""

    number: int
    status: str
    description: str
    chart: str = ""
    updated: datetime | None = None
    """When it was begun; None: unknown."""

    @classmethod
    def parse(cls, found: Mapping[str, object]) -> Revision:
        """Parse one entry of `helm history -o json`."""
        number, status, description, chart = (
            found.get(key, "") for key in ("revision", "status", "description", "chart")
        )
        updated = time_of(str(found.get("updated", "")))
        at = updated.astimezone(UTC) if updated else None
        return cls(int(str(number) or 0), str(status), str(description), str(chart), at)

    @property
    def pending(self) -> bool:
        """Whether helm has begun it and not finished it."""
        return self.status.startswith(_PENDING)

    @property
    def since(self) -> str:
        """When it was begun, as text that follows its status; empty if unknown."""
        return f" since {self.updated:%Y-%m-%d %H:%M:%S} UTC" if self.updated else ""

    def age(self, now: datetime) -> float | None:
        """Return how many seconds ago it was begun; None if unknown."""
        return None if self.updated is None else max(0.0, (now - self.updated).total_seconds())

    @property
    def target(self) -> int:
        """The number of the revision that it is a copy of; 0 if it is not a copy."""
        match = _ROLLED_BACK.fullmatch(self.description)
        found = int(match[1]) if match else 0
        return found if found < self.number else 0


@dataclass(frozen=True, slots=True)
class _History:
    """The contents of a release over time; a content is identified by the number of the first revision with it."""

    revisions: tuple[Revision, ...]
    """Oldest first; the first ones may be missing, since Helm keeps ten."""

    def content(self, revision: Revision) -> int:
        """Return a revision's content: that of the original, also for a copy of a copy."""
        by_number = {one.number: one for one in self.revisions}
        found = revision
        while found.target:
            if found.target not in by_number:
                return found.target
            found = by_number[found.target]
        return found.number

    @property
    def applied(self) -> tuple[Revision, ...]:
        """The revisions that were applied completely."""
        # A failed or interrupted rollback marks the revision before it as superseded, whether it was applied or not;
        # "deployed" is reliable.
        last = max((one.number for one in self.revisions if one.status == DEPLOYED), default=None)
        return tuple(
            one
            for one in self.revisions
            if one.status in _APPLIED
            and not _NOT_APPLIED.match(one.description)
            and (last is None or one.number <= last)
        )

    def before(self, content: int) -> int | None:
        """Return the content that was applied when the given one was created; None if there was none."""
        found = [self.content(one) for one in self.applied if one.number < content]
        return found[-1] if found else None

    @property
    def wanted(self) -> int | None:
        """The content that undoes the last change; None if there is none."""
        last = self.revisions[-1]
        if last.status == _PENDING_ROLLBACK and last.target:
            return self.content(last)
        if not _FAILED_ROLLBACK.match(last.description):
            return self.before(self.content(last))
        if not self.applied:
            return None
        really = self.content(self.applied[-1])
        return self.before(really) or really

    def holder(self, content: int) -> int:
        """Return the number of a stored revision with a content: the original, or a copy of it."""
        have = [one for one in self.revisions if self.content(one) == content]
        kept = [one for one in have if one in self.applied]
        first = next((one for one in have if one.number == content), None)
        return (first or (kept or have)[-1]).number


def previous(history: Sequence[Revision]) -> int:
    """Return the number of the revision that undoes the last change that has not been undone yet.

    A second rollback goes further back instead of undoing the first. Revisions that failed or were undone before are
    skipped. A rollback that was interrupted or failed is continued.

    Args:
        history: the revisions, oldest first.

    Raises:
        NoRevisionError: there is none, or none that was applied.
    """
    if not history:
        raise NoRevisionError("there is nothing to roll back", why="the add-on is not enabled", remedy="confcom enable")
    kept = _History(tuple(history))
    wanted = kept.wanted
    if wanted is None:
        raise NoRevisionError(
            "there is nothing to roll back to",
            why=f"no revision before {kept.content(history[-1])} was applied to its end, or none is kept",
            remedy="helm history confcom shows the revisions; `confcom update --set ...` changes the present one",
        )
    return kept.holder(wanted)


def can_roll_back(history: Sequence[Revision]) -> bool:
    """Return whether there is a revision that undoes the last change."""
    try:
        previous(history)
    except NoRevisionError:
        return False
    return True
