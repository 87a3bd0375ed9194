"""Formatting what a change would do, as text and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from confcom.addon.release.drift_report import POD_SPEC, cut, shown
from confcom.addon.release.manifest_changes import VALUES, Effect, FieldChange, ObjectChange

MOST_LINES = 40
"""A change of both daemons' images, arguments and labels takes about twenty lines; `--output json` shows all."""


def change_lines(changes: Sequence[ObjectChange]) -> Iterator[str]:
    """Yield at most MOST_LINES lines of text, and the number of lines left out."""
    lines = [line for one in changes for line in _lines(one)]
    yield from lines[:MOST_LINES]
    if len(lines) > MOST_LINES:
        yield f"... and {len(lines) - MOST_LINES} lines more, which `--output json` has"


def changes_json(changes: Sequence[ObjectChange]) -> list[dict[str, object]]:
    """Return all changes for `--output json`."""
    return [
        {"kind": one.kind, "name": one.name, "change": str(one.effect), "fields": list(map(_field_json, one.fields))}
        for one in changes
    ]


def _field_json(one: FieldChange) -> dict[str, object]:
    if one.hidden:
        return {"field": shown(one.path), "hidden": True}
    return {"field": shown(one.path), "old": one.old, "new": one.new}


def _lines(one: ObjectChange) -> Iterator[str]:
    if one.effect is not Effect.CHANGED:
        yield f"{one.kind} {one.name} is {one.effect}"
        return
    yield "the chart's values change:" if one.kind == VALUES else f"{one.kind} {one.name} is changed:"
    for field in one.fields:
        path = field.path[len(POD_SPEC) :] if field.path[: len(POD_SPEC)] == POD_SPEC else field.path
        yield f"  {shown(path)}: {_change(field)}"


def _change(field: FieldChange) -> str:
    if field.hidden:
        return "another value, which is not shown"
    old, new = field.old, field.new
    if isinstance(old, list) and isinstance(new, list):
        less, more = ([one for one in some if one not in others] for some, others in ((old, new), (new, old)))
        if less or more:  # else only their order
            old, new = less or None, more or None
    return f"{_value(old)} -> {_value(new)}"


def _value(value: object) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, list) and not any(isinstance(one, dict | list) for one in value):
        return cut(" ".join(map(str, value))) or "(empty)"
    return cut(value) or '""'
