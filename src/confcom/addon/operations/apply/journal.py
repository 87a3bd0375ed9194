"""How far a change has come, and the error that describes it after an interruption. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from confcom.addon.release.drift import ReleaseSeen
from confcom.addon.release.drift_report import unfinished
from confcom.addon.release.revision_history import DEPLOYED, UNINSTALLED, Revision, can_roll_back
from confcom.errors import ConfcomError, ExitCode

_AGAIN = "run the same command again if you still want the change"
_REST = "run `confcom disable` again to remove the rest"


class Phase(Enum):
    """How far a change has come."""

    BEFORE = "before helm is started"
    HELM = "helm is at work"
    MADE = "helm has ended well"


@dataclass(slots=True)
class Journal:
    """What one command has changed so far. It is mutable, since an interruption may come at any moment.

    Args:
        removes: whether the command removes the add-on.
        restores: whether helm restores a revision of the release, which another rollback does not undo.
        phase: how far the change has come.
        before: the number of the release's last revision before helm was started; 0: there was none.
        helm_goes_on: whether helm had not ended when the command was interrupted.
        made: the changes that were made without helm.
        begun: the change without helm that has begun and not ended; empty if there is none.
    """

    removes: bool = False
    restores: bool = False
    phase: Phase = Phase.BEFORE
    before: int = 0
    helm_goes_on: bool = False
    made: list[str] = field(default_factory=list)
    begun: str = ""

    @contextlib.contextmanager
    def change(self, what: str) -> Iterator[None]:
        """Record a change without helm that the body makes, as in "the node worker-1 was labelled"."""
        self.begun = what
        yield
        self.made.append(what)
        self.begun = ""

    @property
    def changes_without_helm(self) -> str:
        """The changes that were made without helm, and the one that has perhaps been made."""
        parts = list(self.made)
        if self.begun:
            parts.append(f"perhaps {self.begun}")
        return "; ".join(parts)


class ChangeInterruptedError(ConfcomError):
    """A change was interrupted by Ctrl-C or SIGTERM."""

    exit_code = ExitCode.INTERRUPTED

    @classmethod
    def before_anything(cls) -> ChangeInterruptedError:
        """Create the error for an interruption before anything was changed."""
        return cls("interrupted before anything was changed", error_code="interrupted-before-change", remedy=_AGAIN)


def interrupted(journal: Journal, history: Sequence[Revision] | None) -> ChangeInterruptedError:
    """Return the error that says what was changed, what was not, and what to do.

    Args:
        journal: the command's journal.
        history: the release's current revisions; None: they could not be looked up.
    """
    if journal.phase is Phase.BEFORE:
        if not journal.changes_without_helm:
            return ChangeInterruptedError.before_anything()
        remedy = _REST if journal.removes else "run the same command again to complete the change"
        why = f"helm has changed nothing; without helm: {journal.changes_without_helm}"
        return ChangeInterruptedError(
            "interrupted before helm was started", error_code="interrupted-before-helm", why=why, remedy=remedy
        )
    if journal.phase is Phase.HELM:
        why, remedy = (_removing if journal.removes else _changing)(journal, history)
        why = f"{why}; without helm: {journal.changes_without_helm}" if journal.changes_without_helm else why
        return ChangeInterruptedError(
            "interrupted while helm was running", error_code="interrupted-during-helm", why=why, remedy=remedy
        )
    if journal.removes:
        release = (
            "the release is removed; daemons may still be terminating" if journal.before else "there was no release"
        )
        why = f"{release}, and the nodes keep the names of the resources"
        return ChangeInterruptedError(
            "interrupted while the remaining resources were removed",
            error_code="interrupted-during-removal",
            why=why,
            remedy=_REST,
        )
    which = f" (revision {history[-1].number})" if history else ""
    return ChangeInterruptedError(
        "interrupted while waiting for the add-on",
        error_code="interrupted-during-wait",
        why=f"the change was applied{which}, and the cluster continues the rollout",
        remedy=_after(journal),
    )


def _after(journal: Journal) -> str:
    look = "`confcom status` shows the progress"
    return look if journal.restores else f"{look}; `confcom rollback` undoes the change"


def _changing(journal: Journal, history: Sequence[Revision] | None) -> tuple[str, str]:
    status = "`confcom status` shows the result"
    if history is None:
        return "helm's record could not be read", status
    last = history[-1] if history else None
    if last is None or last.number <= journal.before:
        was = f"the release is unchanged (revision {last.number})" if last else "there is no release"
        if journal.helm_goes_on:
            return f"helm is still running and has recorded no new revision yet: {was}", status
        return f"helm has recorded no new revision: {was}", _AGAIN
    if journal.helm_goes_on:
        return f"helm is still running: it has recorded revision {last.number} as {last.status}", status
    if last.status == DEPLOYED:
        made = f"helm has recorded revision {last.number} as {DEPLOYED}: the cluster continues the rollout"
        return made, _after(journal)
    return unfinished(ReleaseSeen(last, can_roll_back=can_roll_back(history)))


def _removing(journal: Journal, history: Sequence[Revision] | None) -> tuple[str, str]:
    remedy = f"{_REST}, or `confcom enable` to restore what was removed"
    if history is None:
        return "helm's record could not be read, so the release may still exist", remedy
    if not history or history[-1].status == UNINSTALLED:
        return "helm has removed the release", _REST
    goes_on = "helm is still running: " if journal.helm_goes_on else ""
    return f"{goes_on}the release is not removed, and is {history[-1].status} (revision {history[-1].number})", remedy
