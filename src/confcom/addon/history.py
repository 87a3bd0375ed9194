"""A release's revisions, and which one undoes the last change. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from confcom.addon.objects import time_of
from confcom.errors import ConfcomError, ExitCode

_ROLLED_BACK = re.compile(r"Rollback to ([0-9]{1,9})")
"""How helm describes a revision that is an older one again."""
_FAILED_ROLLBACK = re.compile(r'(Rollback|Release) "[^"]*" failed')
"""How it describes a rollback that failed: what it was to is overwritten (Helm's action.Rollback)."""
_NOT_APPLIED = re.compile(r'(Release|Upgrade|Rollback) "[^"]*" failed|Preparing upgrade|Initial install underway')
"""What it leaves of others; their status may be "superseded" later, as if they had been applied."""
_APPLIED = frozenset({"deployed", "superseded"})
DEPLOYED = "deployed"
"""The status of a revision that was applied to its end, and is the last one."""
FAILED = "failed"
UNINSTALLING = "uninstalling"
"""Of one whose removal has begun: helm makes no other change before that is finished."""
UNINSTALLED = "uninstalled"
"""Of one that was removed with `helm uninstall --keep-history`."""
_PENDING_ROLLBACK = "pending-rollback"
_PENDING = "pending-"
"""How the status begins of one that helm is at work on, or was when it was interrupted."""
LONGEST_CHANGE_SECONDS = 360.0
"""For one change by helm: its own limit of 300 s for hooks (confcom.addon.helm), and a minute for all else. An older
change has no helm any more."""


class NoRevisionError(ConfcomError):
    """There is nothing to roll back to."""

    exit_code = ExitCode.REFUSED


@dataclass(frozen=True, slots=True)
class Revision:
    """One change of a release."""

    number: int
    status: str
    description: str
    chart: str = ""
    updated: datetime | None = None
    """When it was begun; None: helm does not tell."""

    @classmethod
    def parse(cls, found: Mapping[str, object]) -> Revision:
        """From `helm history -o json`."""
        number, status, description, chart = (
            found.get(key, "") for key in ("revision", "status", "description", "chart")
        )
        updated = time_of(str(found.get("updated", "")))
        at = updated.astimezone(UTC) if updated else None
        return cls(int(str(number) or 0), str(status), str(description), str(chart), at)

    @property
    def pending(self) -> bool:
        """Whether helm has begun it and not ended it."""
        return self.status.startswith(_PENDING)

    @property
    def since(self) -> str:
        """When it was begun, to follow its status; empty if that is not known."""
        return f" since {self.updated:%Y-%m-%d %H:%M:%S} UTC" if self.updated else ""

    def age(self, now: datetime) -> float | None:
        """How many seconds ago it was begun; None if that is not known."""
        return None if self.updated is None else max(0.0, (now - self.updated).total_seconds())

    @property
    def target(self) -> int:
        """The number of the revision that it was made from; 0, if it is none's copy."""
        match = _ROLLED_BACK.fullmatch(self.description)
        found = int(match[1]) if match else 0
        return found if found < self.number else 0


@dataclass(frozen=True, slots=True)
class _History:
    """What a release was, one after the other; a content is known by the number of the revision that had it first."""

    revisions: tuple[Revision, ...]
    """Oldest first; the oldest may be gone, since Helm keeps ten."""

    def content(self, revision: Revision) -> int:
        """A copy of a copy has the first one's."""
        by_number = {one.number: one for one in self.revisions}
        found = revision
        while found.target:
            if found.target not in by_number:
                return found.target
            found = by_number[found.target]
        return found.number

    @property
    def applied(self) -> tuple[Revision, ...]:
        """Those that were applied to their end."""
        # A rollback that fails calls its predecessor superseded, an interrupted one too; "deployed" stays true.
        last = max((one.number for one in self.revisions if one.status == DEPLOYED), default=None)
        return tuple(
            one
            for one in self.revisions
            if one.status in _APPLIED
            and not _NOT_APPLIED.match(one.description)
            and (last is None or one.number <= last)
        )

    def before(self, content: int) -> int | None:
        """What was applied when a content was made."""
        found = [self.content(one) for one in self.applied if one.number < content]
        return found[-1] if found else None

    @property
    def wanted(self) -> int | None:
        """The content that undoes the last change."""
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
        """The number of a revision that has a content and is there: the first, or a copy."""
        have = [one for one in self.revisions if self.content(one) == content]
        kept = [one for one in have if one in self.applied]
        first = next((one for one in have if one.number == content), None)
        return (first or (kept or have)[-1]).number


def previous(history: Sequence[Revision]) -> int:
    """The revision that undoes the last change that has not been undone yet.

    A second rollback goes further back instead of undoing the first. Revisions that failed are passed over, and so are
    those that were undone before. A rollback that was interrupted, or failed, is gone on with.

    Args:
        history: oldest first.

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
    """Whether there is a revision that undoes the last change."""
    try:
        previous(history)
    except NoRevisionError:
        return False
    return True
