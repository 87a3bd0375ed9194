"""What a change does to each object, field by field, by the manifests before and after it; as text and JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from confcom.addon.release.drift import MERGE_KEYS, SECRET, UNSHOWN, Drift, identity
from confcom.addon.release.drift_report import POD_SPEC, cut, shown
from confcom.addon.release.field_managers import Item, Path
from confcom.addon.release.secret_values import holds, secret_values
from confcom.kubernetes.objects import KubernetesObject, name_of, text

VALUES = "values"
"""Used in place of a kind for the chart's values that the user sets."""
MOST_LINES = 40
"""A change of both daemons' images, arguments and labels takes about twenty lines; `--output json` shows all."""


class Effect(StrEnum):
    """What a change does to an object."""

    MADE = "made"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """The change of one field; old or new is None if the field is not set."""

    path: Path
    old: object = None
    new: object = None
    hidden: bool = False
    """Whether its values may be confidential."""


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """The change of one object; it has fields only if the object exists before and after."""

    kind: str
    name: str
    effect: Effect
    fields: tuple[FieldChange, ...] = ()


def manifest_changes(
    before: Sequence[KubernetesObject], after: Sequence[KubernetesObject], namespace: str
) -> tuple[ObjectChange, ...]:
    """Compare two sets of manifests: which objects are created, removed and changed."""
    old, new = ({identity(one, namespace): one for one in some} for some in (before, after))
    secrets = secret_values((*before, *after))
    found = []
    for key, one in new.items():
        if key not in old:
            found.append(ObjectChange(text(one, "kind"), name_of(one), Effect.MADE))
        elif fields := tuple(_hiding(_differences(old[key], one, ()), text(one, "kind"), secrets)):
            found.append(ObjectChange(text(one, "kind"), name_of(one), Effect.CHANGED, fields))
    gone = [one for key, one in old.items() if key not in new]
    return (*found, *(ObjectChange(text(one, "kind"), name_of(one), Effect.REMOVED) for one in gone))


def value_changes(
    before: KubernetesObject, after: KubernetesObject, manifests: Iterable[KubernetesObject], release: str
) -> tuple[ObjectChange, ...]:
    """Compare the chart's values that the user sets; return one change, or none.

    Args:
        before: the release's values.
        after: the release's values after the change.
        manifests: the manifests before and after; the values of their Secrets are not shown.
        release: the release's name.
    """
    fields = tuple(_hiding(_differences(before, after, ()), VALUES, secret_values(manifests)))
    return (ObjectChange(VALUES, release, Effect.CHANGED, fields),) if fields else ()


def with_drift(
    changes: Sequence[ObjectChange], drifts: Iterable[Drift], manifests: Iterable[KubernetesObject]
) -> tuple[ObjectChange, ...]:
    """Add the drift that the change undoes: such a field's old value is the cluster's, not the release's.

    Args:
        changes: the changes without the drift.
        drifts: the drift that the change undoes.
        manifests: the manifests before and after; the values of their Secrets are not shown.
    """
    secrets = secret_values(manifests)
    found = {(one.kind, one.name): one for one in changes}
    for drift in drifts:
        key = (drift.kind, drift.name)
        there = found.get(key, ObjectChange(drift.kind, drift.name, Effect.CHANGED))
        if there.effect is Effect.REMOVED:
            continue
        if drift.gone:
            found[key] = replace(there, effect=Effect.MADE, fields=())
            continue
        fields = {one.path: one for one in there.fields}
        for one in drift.fields:
            planned = fields.get(one.path, FieldChange(one.path, new=one.wanted))
            if not planned.hidden:
                (fields[one.path],) = _hiding([replace(planned, old=one.found)], drift.kind, secrets)
        found[key] = replace(there, fields=tuple(one for one in fields.values() if one.hidden or one.old != one.new))
    return tuple(one for one in found.values() if one.fields or one.effect is not Effect.CHANGED)


def _differences(old: object, new: object, at: Path) -> Iterator[FieldChange]:
    """Yield the changed fields, depth first; a list without keys is one field."""
    if old == new:
        return
    if isinstance(old, Mapping | None) and isinstance(new, Mapping | None):
        for key in dict.fromkeys([*(old or {}), *(new or {})]):
            yield from _differences((old or {}).get(key), (new or {}).get(key), (*at, str(key)))
    elif at and (key := MERGE_KEYS.get(str(at[-1]))) and isinstance(old, list | None) and isinstance(new, list | None):
        for item in _items(key, [*(old or []), *(new or [])]):
            yield from _differences(item.within(old), item.within(new), (*at, item))
    else:
        yield FieldChange(at, old, new)


def _items(key: str, of: Iterable[object]) -> Iterator[Item]:
    yield from dict.fromkeys(Item(((key, one.get(key)),)) for one in of if isinstance(one, Mapping))


def _hiding(changes: Iterable[FieldChange], kind: str, secrets: frozenset[str]) -> Iterator[FieldChange]:
    for one in changes:
        hidden = _is_unshown(one.path, kind) or any(holds(value, secrets) for value in (one.old, one.new))
        yield replace(one, old=None, new=None, hidden=True) if hidden else one


def _is_unshown(path: Path, kind: str) -> bool:
    return (kind == SECRET and path[0] in {"data", "stringData"}) or any(step in UNSHOWN for step in path)


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
        return "a different value (hidden)"
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
