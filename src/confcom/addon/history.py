"""A release's revisions, and which one undoes the last change. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confcom.errors import ConfcomError, ExitCode

_ROLLED_BACK = re.compile(r"Rollback to ([0-9]{1,9})")
"""How helm describes a revision that is an older one again."""
_FAILED = frozenset({"failed", "pending-install", "pending-upgrade", "pending-rollback"})
"""What helm calls revisions that were not applied to their end."""


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

    @classmethod
    def parse(cls, found: Mapping[str, object]) -> Revision:
        """From `helm history -o json`."""
        number, status, description, chart = (
            found.get(key, "") for key in ("revision", "status", "description", "chart")
        )
        return cls(int(str(number) or 0), str(status), str(description), str(chart))

    @property
    def content(self) -> int:
        """The number of the revision that this one is a copy of; its own, if it is none."""
        match = _ROLLED_BACK.match(self.description)
        return int(match[1]) if match else self.number


def previous(history: Sequence[Revision]) -> int:
    """The revision that undoes the last change that has not been undone yet.

    A second rollback goes further back instead of undoing the first. Revisions that failed are passed over, and so are
    those that were undone before.

    Args:
        history: oldest first.

    Raises:
        NoRevisionError: there is none, or none that was applied.
    """
    if not history:
        raise NoRevisionError("there is nothing to roll back", why="the add-on is not enabled", remedy="confcom enable")
    now = history[-1].content
    for revision in reversed(history):
        if revision.number < now and revision.status not in _FAILED:
            return revision.content
    raise NoRevisionError(
        "there is nothing to roll back to",
        why=f"no revision before {now} was applied to its end",
        remedy="helm history confcom shows the revisions; `confcom update --set ...` changes the present one",
    )
