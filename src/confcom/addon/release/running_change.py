"""Errors about another change of the release that is running or was interrupted. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from confcom.addon.release.drift_report import undoing
from confcom.addon.release.revision_history import LONGEST_CHANGE_SECONDS, Revision, can_roll_back
from confcom.errors import ConfcomError, ExitCode


class RunningChangeError(ConfcomError):
    """Another change blocks this one; helm has changed nothing."""

    exit_code = ExitCode.REFUSED


def running_change(history: Sequence[Revision], now: datetime) -> RunningChangeError | None:
    """Return the error if another change may still be running.

    Returns:
        None if no revision is pending, or if the last one is so old that helm may not be running any more.
    """
    if not history or not history[-1].pending:
        return None
    age = history[-1].age(now)
    return busy(history, now) if age is not None and age <= LONGEST_CHANGE_SECONDS else None


def busy(history: Sequence[Revision], now: datetime, *, made: str = "") -> RunningChangeError:
    """Return the error that names the blocking change, for when helm refuses to start another one.

    Args:
        history: the release's revisions, oldest first, read after helm's refusal.
        now: the time by this machine's clock.
        made: what this command has already changed without helm.
    """
    unchanged = "helm has changed nothing" if made else "nothing was changed"
    also = f"; without helm: {made}" if made else ""
    look = "check `confcom status`, then run the same command again"
    if not history:
        return RunningChangeError(
            f"{unchanged}: another change of the release is running",
            error_code="change-running",
            why=f"helm reports it, and the other change has recorded no revision yet{also}",
            remedy=look,
        )
    last = history[-1]
    state = f"revision {last.number} is {last.status}{last.since}"
    if not last.pending:
        return RunningChangeError(
            f"{unchanged}: another change of the release was made at the same time",
            error_code="change-concurrent",
            why=f"it is revision {last.number}, which is {last.status}{last.since}{also}",
            remedy=look,
        )
    undo = undoing(can_roll_back=can_roll_back(history))
    age = last.age(now)
    if age is None or age > LONGEST_CHANGE_SECONDS:
        longer = "" if age is None else f", longer than the maximum of {LONGEST_CHANGE_SECONDS:.0f} s for a change"
        return RunningChangeError(
            f"{unchanged}: an earlier change of the release is incomplete",
            error_code="change-interrupted",
            why=f"{state}{longer}{also}",
            remedy=f"if no helm process is running, the change was interrupted, and {undo}; then run the same command "
            "again",
        )
    return RunningChangeError(
        f"{unchanged}: another change of the release is running",
        error_code="change-running",
        why=f"{state} ({age:.0f} s ago), and may take {LONGEST_CHANGE_SECONDS:.0f} s{also}",
        remedy="wait until `confcom status` shows that it has ended, then run the same command again; if it was "
        "killed, "
        f"{undo}",
    )
