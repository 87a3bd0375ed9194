"""Who wrote which field, as the API server keeps it, as far as what differs from a release depends on it.

A path is a tuple of names; an item of a list by its name is a pair, as in `("containers", ("name", "main"), "image")`.
"""

import copy
import json

APPLIED, EDITED = "2026-11-26T09:00:00Z", "2026-11-26T09:40:00Z"


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
    if value is None:
        cut(thing, path)
    else:
        put(thing, path, value)
        thing["metadata"]["managedFields"].append(_entry(manager, "Update", [path], EDITED))
    if "generation" in thing["metadata"] and path[0] == "spec":
        thing["metadata"]["generation"] += 1


def applied(new):
    """The object after helm's change, which takes every field."""
    fresh = copy.deepcopy(new)
    release_name = ("metadata", "annotations", "meta.helm.sh/release-name")
    fresh["metadata"]["managedFields"] = [_entry("helm", "Apply", [release_name], APPLIED)]
    return fresh


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
