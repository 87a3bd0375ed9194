"""Formatting drift and the state of the last change, as text and as JSON. Pure."""

from __future__ import annotations

from datetime import datetime

from confcom.addon.release.drift import UNSHOWN, Deviation, Drift, FieldDrift, ReleaseSeen
from confcom.addon.release.field_managers import Path
from confcom.addon.release.revision_history import DEPLOYED, FAILED, LONGEST_CHANGE_SECONDS, UNINSTALLED, UNINSTALLING

MOST_FIELDS = 3
"""Limit of the fields that are named of one object, so that it fits on one line; `--output json` shows all."""
MAX_VALUE_CHARACTERS = 80
"""Limit of a shown value: an image with its digest is longer only if its registry's name is long."""
INTERRUPTED_FLAG = "--interrupted"
"""The flag by which the user states that no helm is running the last change any more."""
POD_SPEC: Path = ("spec", "template", "spec")


def change_problem(seen: ReleaseSeen, now: datetime) -> str:
    """Return what is wrong with the release's last change, and what to do; empty if it was completed."""
    if seen.last is None or seen.last.status in {DEPLOYED, UNINSTALLED}:
        return ""
    what, remedy = unfinished(seen)
    age = seen.last.age(now)
    if seen.last.pending and age is not None:
        which = f"{seen.last.status}{seen.last.since} (revision {seen.last.number})"
        if age <= LONGEST_CHANGE_SECONDS:
            return f"a change of the release is in progress, {which}, {age:.0f} s ago: wait for it; {remedy}"
        what = f"a change of the release was interrupted: {which}, longer ago than helm's timeout"
        remedy = undoing(can_roll_back=seen.can_roll_back)
    return f"{what}: {remedy}"


def unfinished(seen: ReleaseSeen) -> tuple[str, str]:
    """Return what is wrong with a last change that was not completed, and what to do."""
    if seen.last is None:
        return "", ""
    number, status, said = seen.last.number, seen.last.status, seen.last.description
    if status == FAILED:
        undo = "`confcom rollback` undoes it" if seen.can_roll_back else "`confcom disable` removes it"
        what = f"the last change (revision {number}) failed and may be incomplete ({said})"
        return what, f"`confcom enable` repeats it, {undo}"
    if status == UNINSTALLING:
        remedy = "`confcom disable` finishes the removal; then `confcom enable`"
    else:
        remedy = undoing(can_roll_back=seen.can_roll_back)
    what = f"the release is {status}{seen.last.since} (revision {number})"
    return what, f"if no helm process is running, the change was interrupted, and {remedy}"


def undoing(*, can_roll_back: bool) -> str:
    """Return the advice that undoes an interrupted change. With the flag, no check for a running change is made."""
    if can_roll_back:
        return f"`confcom rollback {INTERRUPTED_FLAG}` undoes it"
    return f"`confcom disable {INTERRUPTED_FLAG}` removes its objects; then run `confcom enable`"


def drift_problem(drift: Drift) -> str:
    """Return what is wrong with one object, and what repairs it."""
    return f"{described(drift)}: `confcom enable` {'makes it again' if drift.gone else 'sets it back'}"


def described(drift: Drift) -> str:
    """Describe one object's drift: which fields differ, and who wrote them."""
    if drift.gone:
        return f"the {drift.kind} {drift.name} is missing"
    told = [_field(one) for one in drift.fields[:MOST_FIELDS]]
    if more := len(drift.fields) - len(told):
        told.append(f"{more} more")
    return f"the {drift.kind} {drift.name} was changed: {'; '.join(told)}"


def to_json(drift: Drift) -> dict[str, object]:
    """Return one object's drift for `--output json`."""
    fields = [
        {"field": shown(one.path), "deviation": str(one.deviation), "manager": one.manager, "time": one.time}
        for one in drift.fields
    ]
    return {"kind": drift.kind, "name": drift.name, "missing": drift.gone, "fields": fields}


def shown(path: Path) -> str:
    """Format a path, as in `spec.template.spec.containers[quote-helper].image`."""
    return "".join(f".{step}" if isinstance(step, str) else str(step) for step in path).removeprefix(".")


def _field(one: FieldDrift) -> str:
    path = one.path[len(POD_SPEC) :] if one.path[: len(POD_SPEC)] == POD_SPEC else one.path
    who = f" (by {one.manager}{f' at {one.time}' if one.time else ''})" if one.manager else ""
    return f"{shown(path)} {_how(one)}{who}"


def _how(one: FieldDrift) -> str:
    if one.deviation is Deviation.ADDED:
        return "was added"
    if one.deviation is Deviation.MISSING:
        return "is missing"
    if one.hidden or UNSHOWN & {step for step in one.path if isinstance(step, str)}:
        return "differs"
    if isinstance(one.wanted, list) and isinstance(one.found, list):
        return _words(one.wanted, one.found)
    if isinstance(one.wanted, str | int) and isinstance(one.found, str | int):
        return f"is {cut(one.found)} instead of {cut(one.wanted)}"
    return "differs"


def _words(wanted: list[object], found: list[object]) -> str:
    """Describe the difference of two lists of words, such as a container's arguments."""
    more = [one for one in found if one not in wanted]
    less = [one for one in wanted if one not in found]
    if not all(isinstance(one, str | int) for one in (*more, *less)) or not (more or less):
        return "differs"
    told = [f"has {cut(' '.join(map(str, more)))}"] if more else []
    return " and ".join([*told, *([f"lacks {cut(' '.join(map(str, less)))}"] if less else [])])


def cut(value: object) -> str:
    """Return a value as it is written in YAML, cut at MAX_VALUE_CHARACTERS."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= MAX_VALUE_CHARACTERS else f"{text[:MAX_VALUE_CHARACTERS]}..."
