"""A release's revisions, and which one undoes the last change. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from confcom.errors import ConfcomError, ExitCode
from confcom.kubernetes.objects import KubernetesObject, number, text, time_of

_ROLLED_BACK = re.compile(r"Rollback to ([0-9]{1,9})")
"""The description of a revision that copies an older one; helm older than 4.3.0 writes its number nowhere else."""
_FAILED_ROLLBACK = re.compile(r'(Rollback|Release) "[^"]*" failed')
"""The description of a rollback that failed, which replaces the one above (Helm's action.Rollback)."""
_NOT_APPLIED = re.compile(r'(Release|Upgrade|Rollback) "[^"]*" failed|Preparing upgrade|Initial install underway')
"""The descriptions of revisions that were not applied completely; their status may later become "superseded", as if
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
    updated: datetime | None = None
    """When it was begun; None: unknown."""
    target: int = 0
    """The number of the revision that it is a copy of; 0 if it is not a copy."""

    @classmethod
    def parse(cls, found: KubernetesObject) -> Revision:
        """Parse one entry of `helm history -o json`."""
        updated, copied = time_of(text(found, "updated")), _ROLLED_BACK.fullmatch(text(found, "description"))
        revision, target = number(found, "revision"), number(found, "rollback_revision")
        target = target or (int(copied[1]) if copied else 0)
        return cls(
            number=revision,
            status=text(found, "status"),
            description=text(found, "description"),
            updated=updated.astimezone(UTC) if updated else None,
            target=target if target < revision else 0,
        )

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


def previous(history: Sequence[Revision]) -> int:
    """Return the number of the revision that undoes the last change that has not been undone yet.

    A second rollback goes further back instead of undoing the first. Revisions that failed or were undone before are
    skipped. A rollback that was interrupted or failed is continued.

    Args:
        history: the revisions, oldest first; the first ones may be missing, since Helm keeps ten.

    Raises:
        NoRevisionError: there is none, or none that was applied.
    """
    if not history:
        raise NoRevisionError(
            "there is nothing to roll back",
            error_code="not-enabled",
            why="the add-on is not enabled",
            remedy="confcom enable",
        )
    # A failed or interrupted rollback marks the revision before it as superseded, whether it was applied or not;
    # "deployed" is reliable.
    deployed = max((one.number for one in history if one.status == DEPLOYED), default=history[-1].number)
    contents: dict[int, int] = {}  # by revision: the first revision of which it is a copy, or itself
    applied = []
    for one in history:
        contents[one.number] = contents.get(one.target, one.target) or one.number
        if one.number <= deployed and one.status in _APPLIED and not _NOT_APPLIED.match(one.description):
            applied.append(one.number)
    last = history[-1]
    undone = content = contents[last.number]
    unnamed = not last.target and _FAILED_ROLLBACK.match(last.description) is not None
    if unnamed:  # nothing tells its target, so the last change that was applied is undone
        undone = contents[applied[-1]] if applied else 0
    earlier = [contents[number] for number in applied if number < undone]
    if last.target and last.status in {_PENDING_ROLLBACK, FAILED}:
        wanted = content
    else:
        wanted = earlier[-1] if earlier else undone if unnamed else 0
    if not wanted:
        raise NoRevisionError(
            "the release has no earlier revision to roll back to",
            error_code="no-earlier-revision",
            why=f"helm keeps no completely applied revision before {content}",
            remedy="helm history confcom shows the revisions; `confcom update --set ...` changes the present one",
        )
    return next(number for number in contents if contents[number] == wanted)


def can_roll_back(history: Sequence[Revision]) -> bool:
    """Return whether there is a revision that undoes the last change."""
    try:
        previous(history)
    except NoRevisionError:
        return False
    return True
