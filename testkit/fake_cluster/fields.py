"""Who wrote which field, as the API server keeps it, and what helm's two ways to change an object make of that.

A path is a tuple of names; an item of a list by its name is a pair, as in `("containers", ("name", "main"), "image")`.
"""

import copy
import json

APPLIED, EDITED = "2026-11-26T09:00:00Z", "2026-11-26T09:40:00Z"


class ConflictError(Exception):
    """Helm does not take a field from somebody else unless it is told to."""


def get(thing, path):
    for step in path:
        if isinstance(step, tuple):
            thing = next((one for one in thing if one.get(step[0]) == step[1]), None)
        else:
            thing = thing.get(step)
        if thing is None:
            return None
    return thing


def put(thing, path, value):
    *around, last = path
    for step, after in zip(around, [*around[1:], last], strict=True):
        if isinstance(step, tuple):
            thing = get(thing, [step])
        else:
            thing = thing.setdefault(step, [] if isinstance(after, tuple) else {})
    if isinstance(last, tuple):
        cut(thing, [last])
        thing.append(value)
    else:
        thing[last] = value


def cut(thing, path):
    *around, last = path
    holder = get(thing, around)
    if isinstance(last, tuple):
        holder[:] = [one for one in holder if one.get(last[0]) != last[1]]
    elif holder is not None:
        holder.pop(last, None)


def edit(thing, manager, path, value):
    """What `kubectl edit` and the like do: the value, and that it is this manager's now; None takes it out."""
    kept = thing["metadata"].setdefault("managedFields", [])
    for entry in kept:
        entry["fieldsV1"] = tree([one for one in paths(entry["fieldsV1"]) if one != path])
    kept[:] = [one for one in kept if one["fieldsV1"] or one["manager"] == "helm"]
    if value is None:
        cut(thing, path)
    else:
        put(thing, path, value)
        kept.append(_entry(manager, "Update", [path], EDITED))
    if "generation" in thing["metadata"] and path[0] == "spec":
        thing["metadata"]["generation"] += 1


def changed(old, new, *, force=False):
    """The object after helm's change; without force, helm refuses fields of other managers."""
    fresh = copy.deepcopy(new)
    if old is not None:
        for entry in old["metadata"].get("managedFields", []):
            for path in paths(entry["fieldsV1"]):
                wanted, there = get(new, path), get(old, path)
                if entry["manager"] == "helm":
                    continue  # of its own fields, helm takes out those that it does not have any more
                if wanted is None and there is not None:
                    put(fresh, path, copy.deepcopy(there))
                    _own(fresh, entry, path)
                elif wanted != there and not force:
                    raise ConflictError(f'conflict with "{entry["manager"]}" using apps/v1: {path}')
                elif wanted == there:
                    _own(fresh, entry, path)
    fresh["metadata"].setdefault("managedFields", []).append(
        _entry("helm", "Apply", [("metadata", "annotations", "meta.helm.sh/release-name")], APPLIED)
    )
    return fresh


def _own(thing, entry, path):
    kept = thing["metadata"].setdefault("managedFields", [])
    mine = next((one for one in kept if one["manager"] == entry["manager"]), None)
    if mine is None:
        kept.append(entry | {"fieldsV1": tree([path])})
    else:
        mine["fieldsV1"] = tree([*paths(mine["fieldsV1"]), path])


def _entry(manager, operation, of, time):
    entry = {"manager": manager, "operation": operation, "apiVersion": "apps/v1", "time": time}
    return entry | {"fieldsType": "FieldsV1", "fieldsV1": tree(of)}


def tree(of):
    found = {}
    for path in of:
        at = found
        for step in path:
            key = f"k:{json.dumps(dict([step]), separators=(',', ':'))}" if isinstance(step, tuple) else f"f:{step}"
            at = at.setdefault(key, {})
    return found


def paths(of, before=()):
    for key, below in of.items():
        kind, _, rest = key.partition(":")
        path = (*before, next(iter(json.loads(rest).items())) if kind == "k" else rest)
        if below:
            yield from paths(below, path)
        else:
            yield path
