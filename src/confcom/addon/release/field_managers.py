"""Field managers: who wrote which field of an object, from `metadata.managedFields`. Pure.

Kubernetes: "Server-Side Apply", field management. An entry's `fieldsV1` is a tree: `f:NAME` is a field, `k:{...}` an
item of a list by its keys, `v:...` an item of a set, `.` the item itself; an empty tree is a field that is owned as a
whole.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from confcom.kubernetes.objects import KubernetesObject, listing, mapping, text

HELM = "helm"
KUBECTL = "kubectl"
"""The prefix of kubectl's manager names: `kubectl-edit`, `kubectl-client-side-apply`. kubectl also owns helm's
annotation if it created the object from an export."""
_ANNOTATIONS = ("f:metadata", "f:annotations")
_OWNERSHIP = "f:meta.helm.sh/release-name"
"""The annotation that helm writes on each object of a release. If a manager other than `helm` wrote it, that manager is
helm under another name, such as Flux's helm-controller."""


@dataclass(frozen=True, slots=True)
class Item:
    """A step of a path: a list's item, identified by its keys."""

    keys: tuple[tuple[str, object], ...]

    def within(self, items: object) -> KubernetesObject | None:
        """Return the list's item with these keys, or None; a key that the item lacks is a default, and matches.

        The first key must be present.
        """
        found = (one for one in items if isinstance(one, Mapping)) if isinstance(items, list) else iter(())
        first, rest = self.keys[0], self.keys[1:]
        return next(
            (one for one in found if one.get(first[0]) == first[1] and all(one.get(k, v) == v for k, v in rest)), None
        )

    def __str__(self) -> str:
        return f"[{self.keys[0][1]}]"


@dataclass(frozen=True, slots=True)
class Value:
    """A step of a path: an item of a list that is a set, such as a set of words."""

    value: object

    def within(self, items: object) -> object:
        """Return the value if the list contains it, else None."""
        return self.value if isinstance(items, list) and self.value in items else None

    def __str__(self) -> str:
        return f"[{self.value}]"


Step = str | Item | Value
Path = tuple[Step, ...]
"""The path of a field in an object, as in `("spec", "template", "spec", "containers", Item(...), "image")`."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One manager's entry in `managedFields`."""

    index: int
    """Its index in the object's list of entries."""
    manager: str
    operation: str
    time: str
    fields: Mapping[str, object]
    is_helm: bool

    @property
    def applied(self) -> bool:
        """Whether it is from a server-side apply: it contains the fields that were sent, and no defaults."""
        return self.operation == "Apply"

    def owns(self, path: Path) -> bool:
        """Return whether it owns a field, or owns a field around it as a whole."""
        at = self.fields
        for step in path:
            if not at:
                return True
            key = _key_of(at, step)
            below = at[key] if key is not None else None
            if not isinstance(below, Mapping):
                return False
            at = below
        return True


def entries(thing: KubernetesObject) -> tuple[Entry, ...]:
    """Return the entries of an object, without those of subresources such as its status."""
    found = listing(thing, "metadata", "managedFields")
    owners = {text(one, "manager") for one in found if _OWNERSHIP in mapping(one, "fieldsV1", *_ANNOTATIONS)}
    others = {one for one in owners if not one.startswith(KUBECTL)}
    helms = others if others and HELM not in others else {HELM}
    return tuple(
        Entry(
            index=index,
            manager=text(one, "manager"),
            operation=text(one, "operation"),
            time=text(one, "time"),
            fields=mapping(one, "fieldsV1"),
            is_helm=text(one, "manager") in helms,
        )
        for index, one in enumerate(found)
        if not one.get("subresource")
    )


def steps(tree: Mapping[str, object]) -> Iterator[tuple[Step, Mapping[str, object]]]:
    """Yield the direct children of a tree: the step of each, and its subtree."""
    for key, below in tree.items():
        step = _step(key)
        if step is not None and isinstance(below, Mapping):
            yield step, below


def handover_patch(thing: KubernetesObject, paths: Sequence[Path]) -> list[dict[str, object]]:
    """Return a JSON patch that makes helm the only manager of some fields: its next server-side apply removes them.

    An apply removes the fields that its manager applied before and does not apply again, if no other manager owns them.
    Nothing else of the object changes. The patch tests each entry first, and fails if one has changed meanwhile.

    Args:
        thing: the object, with its managed fields.
        paths: the paths of fields that are not in helm's manifest.
    """
    kept = listing(thing, "metadata", "managedFields")
    moved: dict[str, object] = {}
    left: dict[int, dict[str, object]] = {}
    for entry in entries(thing):
        if not (entry.is_helm and entry.applied):
            tree = copy.deepcopy(dict(entry.fields))
            for path in paths:
                _move(tree, moved, path)
            if tree != entry.fields:
                left[entry.index] = tree
    if not left:
        return []
    helm = next((one for one in entries(thing) if one.is_helm and one.applied), None)
    touched = sorted({*left, *([helm.index] if helm else [])})
    patch: list[dict[str, object]] = [
        {"op": "test", "path": f"/metadata/managedFields/{index}", "value": kept[index]} for index in touched
    ]
    if helm is None:
        first = kept[min(left)]
        made = {key: first[key] for key in ("apiVersion", "fieldsType", "time") if key in first}
        made |= {"manager": HELM, "operation": "Apply", "fieldsV1": moved}
        patch.append({"op": "add", "path": "/metadata/managedFields/-", "value": made})
    else:
        _merge(moved, helm.fields)
        patch.append({"op": "replace", "path": f"/metadata/managedFields/{helm.index}/fieldsV1", "value": moved})
    for index in sorted(left, reverse=True):  # the last one first: a removal renumbers the entries after it
        where = f"/metadata/managedFields/{index}"
        if left[index]:
            patch.append({"op": "replace", "path": f"{where}/fieldsV1", "value": left[index]})
        else:
            patch.append({"op": "remove", "path": where})
    return patch


def _step(key: str) -> Step | None:
    kind, _, rest = key.partition(":")
    if kind == "f":
        return rest
    if kind not in {"k", "v"}:
        return None
    try:
        read = json.loads(rest)
    except ValueError:
        return None
    if kind == "v":
        return Value(read)
    return Item(tuple(sorted(read.items(), key=_precedence))) if isinstance(read, dict) and read else None


def _precedence(key: tuple[str, object]) -> tuple[int, str]:
    """Return the sort key of an item's key: the one that users know the item by, which is never a default, is first."""
    known = ("name", "mountPath", "containerPort", "port")
    return (known.index(key[0]) if key[0] in known else len(known), key[0])


def _key_of(tree: Mapping[str, object], step: Step) -> str | None:
    if isinstance(step, str):
        return f"f:{step}" if f"f:{step}" in tree else None
    for key in tree:
        found = _step(key)
        if found == step:
            return key
        if isinstance(found, Item) and isinstance(step, Item) and set(step.keys) <= set(found.keys):
            return key
    return None


def _move(tree: dict[str, object], to: dict[str, object], path: Path) -> None:
    key = _key_of(tree, path[0])
    below = None if key is None else tree[key]
    if key is None or not isinstance(below, dict):
        return
    if len(path) == 1:
        target = to.setdefault(key, {})
        if isinstance(target, dict):
            _merge(target, below)
        del tree[key]
        return
    target = to.setdefault(key, {})
    if isinstance(target, dict):
        _move(below, target, path[1:])
        if not target:
            del to[key]
    if not below:
        del tree[key]


def _merge(into: dict[str, object], other: Mapping[str, object]) -> None:
    for key, below in other.items():
        held = into.setdefault(key, {})
        if isinstance(held, dict) and isinstance(below, Mapping):
            _merge(held, below)
