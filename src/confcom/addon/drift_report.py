"""Drift as people and programs read it. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from confcom.addon.drift import Deviation, Drift, FieldDrift, ReleaseSeen
from confcom.addon.field_managers import Path
from confcom.addon.history import DEPLOYED, FAILED, PENDING, UNINSTALLED, UNINSTALLING, Revision
from confcom.addon.objects import time_of

MOST_FIELDS = 3
"""Of one object that are named, so that a line stays a line; `--output json` has all."""
CHANGE_SECONDS = 360.0
"""How long a change by `confcom` may take: helm's limit for its hooks, and what `confcom` gives helm beside. Helm's own
default is 300 s."""
MAX_VALUE_CHARACTERS = 80
"""Of a value that is shown: an image with its digest is longer than that only with a long registry's name."""
_POD_SPEC: Path = ("spec", "template", "spec")
_UNSHOWN = frozenset({"env", "data"})
"""Fields whose values are not shown, because they may be confidential."""


def change_problem(seen: ReleaseSeen, now: datetime) -> str:
    """What is wrong with the release's last change, and what to do; empty if it was made to its end.

    Args:
        seen: the release.
        now: by this machine's clock.
    """
    if seen.last is None or seen.last.status in {DEPLOYED, UNINSTALLED}:
        return ""
    number, status, said = seen.last.number, seen.last.status, seen.last.description
    if status == FAILED:
        undo = "`confcom rollback` undoes it" if seen.can_roll_back else "`confcom disable` removes it"
        return (
            f"the last change (revision {number}) failed and may be half made ({said}): `confcom enable` makes it "
            f"again, {undo}"
        )
    if status == UNINSTALLING:
        remedy = "`confcom disable` finishes the removal; then `confcom enable`"
    elif seen.can_roll_back:
        remedy = "`confcom rollback` undoes what it did"
    else:
        remedy = "`confcom disable` removes what it made; then `confcom enable`"
    return f"{_unfinished(seen.last, now)}, and {remedy}"


def _unfinished(last: Revision, now: datetime) -> str:
    """Whether a change goes on, by the time at which it began; helm leaves no other sign of it."""
    if_none = "if no helm is at work on it, it was interrupted"
    began = time_of(last.updated)
    if began is None or last.status not in PENDING:
        return f"the release is {last.status} (revision {last.number}): {if_none}"
    since = began.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    seconds = (now - began).total_seconds()
    if seconds < CHANGE_SECONDS:
        return (
            f"a change of the release is in progress since {since}, {max(0.0, seconds):.0f} s ago ({last.status}, "
            f"revision {last.number}): wait for it; {if_none}"
        )
    return (
        f"a change of the release was interrupted: it is {last.status} (revision {last.number}) since {since}, longer "
        "than helm waits by default"
    )


def drift_problem(drift: Drift) -> str:
    """What is wrong with one object, and what mends it."""
    return f"{described(drift)}: `confcom enable` {'makes it again' if drift.gone else 'sets it back'}"


def described(drift: Drift) -> str:
    """One object, with what differs and who wrote it."""
    if drift.gone:
        return f"the {drift.kind} {drift.name} is missing"
    told = [_field(one) for one in drift.fields[:MOST_FIELDS]]
    if more := len(drift.fields) - len(told):
        told.append(f"{more} more")
    return f"the {drift.kind} {drift.name} was changed: {'; '.join(told)}"


def to_json(drift: Drift) -> dict[str, object]:
    """For `--output json`."""
    fields = [
        {"field": shown(one.path), "deviation": str(one.deviation), "manager": one.manager, "time": one.time}
        for one in drift.fields
    ]
    return {"kind": drift.kind, "name": drift.name, "missing": drift.gone, "fields": fields}


def shown(path: Path) -> str:
    """As in `spec.template.spec.containers[quote-helper].image`."""
    return "".join(f".{step}" if isinstance(step, str) else str(step) for step in path).removeprefix(".")


def _field(one: FieldDrift) -> str:
    path = one.path[len(_POD_SPEC) :] if one.path[: len(_POD_SPEC)] == _POD_SPEC else one.path
    who = f" (by {one.manager}{f' at {one.time}' if one.time else ''})" if one.manager else ""
    return f"{shown(path)} {_how(one)}{who}"


def _how(one: FieldDrift) -> str:
    if one.deviation is Deviation.ADDED:
        return "was added"
    if one.deviation is Deviation.MISSING:
        return "is missing"
    if _UNSHOWN & {step for step in one.path if isinstance(step, str)}:
        return "differs"
    if isinstance(one.wanted, list) and isinstance(one.found, list):
        return _words(one.wanted, one.found)
    if isinstance(one.wanted, str | int) and isinstance(one.found, str | int):
        return f"is {_cut(one.found)} instead of {_cut(one.wanted)}"
    return "differs"


def _words(wanted: list[object], found: list[object]) -> str:
    """Of lists of words, such as a container's arguments."""
    more = [one for one in found if one not in wanted]
    less = [one for one in wanted if one not in found]
    if not all(isinstance(one, str | int) for one in (*more, *less)) or not (more or less):
        return "differs"
    told = [f"has {_cut(' '.join(map(str, more)))}"] if more else []
    return " and ".join([*told, *([f"lacks {_cut(' '.join(map(str, less)))}"] if less else [])])


def _cut(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= MAX_VALUE_CHARACTERS else f"{text[:MAX_VALUE_CHARACTERS]}..."
