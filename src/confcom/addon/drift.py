"""What is in the cluster otherwise than a release's manifests say, by content. Pure.

What a manifest sets must be the same in the live object. Defaults that the API server fills in are no drift. A field
that somebody other than helm added to a spec is drift. A value that belongs to helm alone is not, whatever the manifest
says: an admission webhook changed it in helm's own request, and would do so again. Labels and annotations that others
add are no drift either, such as that of `kubectl rollout restart`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from confcom.addon.field_managers import Entry, Item, Path, Step, entries, steps
from confcom.addon.history import Revision
from confcom.addon.objects import KubernetesObject, mapping, name_of, namespace_of, quantity, text
from confcom.addon.plan import group_of

MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
}
"""By the list's name: the key of its items, in any order (x-kubernetes-list-map-keys of the API). Others are compared
item by item."""
_ONLY_FROM_US = frozenset({"nodeSelector", "matchLabels"})
"""Maps that have one owner as a whole and no defaults: what a manifest does not have in them was added."""
_OMITTED = frozenset(
    {"hostPID", "hostIPC", "hostNetwork", "readOnly", "stdin", "stdinOnce", "tty", "minReadySeconds"}
    | {"initialDelaySeconds"}
)
"""Fields that the API does not show when they are false or 0 (no pointers in its types). Others that are false and not
there are not what was set: `automountServiceAccountToken` is true then."""
_QUANTITIES = frozenset({"limits", "requests", "sizeLimit"})
"""Where a value, or all values in the map, are quantities: `0.5` is shown as `500m`."""
_DEFAULTS: Mapping[str, object] = {
    "defaultMode": 0o644,
    "dnsPolicy": "ClusterFirst",
    "internalTrafficPolicy": "Cluster",
    "matchPolicy": "Equivalent",
    "namespaceSelector": {},
    "objectSelector": {},
    "protocol": "TCP",
    "restartPolicy": "Always",
    "revisionHistoryLimit": 10,
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "scheme": "HTTP",
    "sessionAffinity": "None",
    "successThreshold": 1,
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "minReadySeconds": 0,
    "resources": {},
    "type": "ClusterIP",
}
"""What the API server fills in, by the field's name. Its manager is whoever made the object; somebody who made it again
from an export has added nothing with it."""
_ALIASES = frozenset({"serviceAccount", "clusterIPs"})
"""Which the API server keeps like another field (serviceAccountName, clusterIP)."""
_ALLOCATED = frozenset({"ipFamilies", "ipFamilyPolicy"})
"""Which it chooses for a Service by the cluster's networks."""
_NOT_COMPARED = frozenset({"apiVersion", "kind", "metadata", "status"})
_COMPARED_METADATA = ("labels", "annotations")
_TEMPLATE_METADATA: Path = ("spec", "template", "metadata")
UNSHOWN = frozenset({"env", "data"})
"""Fields whose values are not shown, because they may be confidential."""
SECRET = "Secret"  # noqa: S105 # a kind
"""Of these, the content is not looked at."""


class Deviation(StrEnum):
    """How a field differs."""

    CHANGED = "changed"
    MISSING = "missing"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class FieldDrift:
    """One field that is not as the release has it."""

    path: Path
    deviation: Deviation
    wanted: object = None
    found: object = None
    manager: str = ""
    """Who wrote it last (`kubectl-set`); empty where the API server does not keep that, as of what is missing."""
    time: str = ""
    """When, as the API server writes it."""
    hidden: bool = False
    """Whether its values hold what a Secret holds (confcom.addon.secret_values)."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One object that is not as the release has it."""

    kind: str
    name: str
    fields: tuple[FieldDrift, ...] = ()
    """None: all of it is gone."""

    @property
    def gone(self) -> bool:
        """Whether the object itself is missing."""
        return not self.fields

    @property
    def added(self) -> tuple[Path, ...]:
        """What somebody added."""
        return tuple(one.path for one in self.fields if one.deviation is Deviation.ADDED)


@dataclass(frozen=True, slots=True)
class ReleaseSeen:
    """What a look at the release saw.

    Args:
        last: its last revision; what is there is compared with it only if it was made to its end.
        drifts: what is not as it says.
        doubt: what could not be looked at, and why; empty if all was.
        can_roll_back: whether there is a revision that undoes the last change.
    """

    last: Revision | None = None
    drifts: tuple[Drift, ...] = ()
    doubt: str = ""
    can_roll_back: bool = False


def drift(manifests: Iterable[KubernetesObject], live: Sequence[KubernetesObject], namespace: str) -> tuple[Drift, ...]:
    """Compare all of a release with what is there.

    Args:
        manifests: of the release, those that could be read in the cluster.
        live: what is there of them, with managed fields.
        namespace: of those that name none.
    """
    there = {identity(one, namespace): one for one in live}
    found = []
    for wanted in manifests:
        one = there.get(identity(wanted, namespace))
        if one is None:
            found.append(Drift(text(wanted, "kind"), name_of(wanted)))
        elif fields := tuple(field_drift(wanted, one)):
            found.append(Drift(text(wanted, "kind"), name_of(wanted), fields))
    return tuple(found)


def identity(thing: KubernetesObject, namespace: str) -> tuple[str, str, str, str]:
    """Group, kind, namespace and name; the namespace is the given one if it names none, as of the whole cluster's."""
    return group_of(thing), text(thing, "kind"), namespace_of(thing) or namespace, name_of(thing)


def field_drift(wanted: KubernetesObject, live: KubernetesObject) -> Iterator[FieldDrift]:
    """The fields of one object that are not as its manifest has them."""
    if text(wanted, "kind") == SECRET:
        return
    written = entries(live)
    for one in _differences(_compared(wanted), live, ()):
        owners = [entry for entry in written if entry.owns(one.path)]
        # Admission webhooks act after managers are recorded: what they change still belongs to helm alone.
        if not owners or not all(entry.is_helm for entry in owners):
            yield _with_last_writer(one, owners)
    seen = set[Path]()
    for entry in written:
        # What helm applied is in its manifest, unless it was handed over to helm to be removed, and helm has not.
        if not entry.is_helm or entry.applied:
            for one in _additions(entry.fields, wanted, live, ()):
                if one.path[0] == "spec" and one.path not in seen:
                    seen.add(one.path)
                    yield _with_last_writer(one, [entry])


def _compared(wanted: KubernetesObject) -> KubernetesObject:
    metadata = {key: mapping(wanted, "metadata", key) for key in _COMPARED_METADATA}
    return {"metadata": metadata, **{key: value for key, value in wanted.items() if key not in _NOT_COMPARED}}


def _with_last_writer(one: FieldDrift, owners: Sequence[Entry]) -> FieldDrift:
    others = sorted((entry for entry in owners if not entry.is_helm), key=lambda entry: entry.time)
    if not others:
        return one
    last = others[-1]
    return FieldDrift(one.path, one.deviation, one.wanted, one.found, last.manager, last.time)


def _differences(wanted: object, live: object, at: Path) -> Iterator[FieldDrift]:
    """Depth first; a list without keys is one field."""
    if isinstance(wanted, Mapping) and (live is None or isinstance(live, Mapping)):
        for key, value in wanted.items():
            yield from _differences(value, (live or {}).get(key), (*at, str(key)))
        return
    if isinstance(wanted, list) and (live is None or isinstance(live, list)):
        yield from _list_differences(wanted, live or [], at)
        return
    if not _same(wanted, live, at):
        yield _difference(wanted, live, at)


def _list_differences(wanted: Sequence[object], live: list[object], at: Path) -> Iterator[FieldDrift]:
    key = MERGE_KEYS.get(str(at[-1]))
    if key is None:
        alike = len(wanted) == len(live) and not any(
            list(_differences(one, other, at)) for one, other in zip(wanted, live, strict=True)
        )
        if not alike:
            yield _difference(wanted, live or None, at)
        return
    for one in wanted:
        if isinstance(one, Mapping):
            item = Item(((key, one.get(key)),))
            other = item.within(live)
            if other is None:
                yield FieldDrift((*at, item), Deviation.MISSING, one)
            else:
                yield from _differences(one, other, (*at, item))


def _difference(wanted: object, live: object, at: Path) -> FieldDrift:
    return FieldDrift(at, Deviation.MISSING if live is None else Deviation.CHANGED, wanted, live)


def _same(wanted: object, live: object, at: Path) -> bool:
    name, around = str(at[-1]), str(at[-2]) if len(at) > 1 else ""
    if wanted is None:
        return True  # an apply leaves it to the API server
    if live is None:
        return wanted == "" or (name in _OMITTED and not wanted)
    if isinstance(wanted, bool) or isinstance(live, bool):
        return wanted is live
    if _QUANTITIES & {name, around}:
        exact = quantity(str(wanted))
        return str(wanted) == str(live) if exact is None else exact == quantity(str(live))
    return wanted == live


def _additions(tree: Mapping[str, object], wanted: object, live: object, at: Path) -> Iterator[FieldDrift]:
    """What a manager owns, the manifest has not, and is there; of several fields within each other, the outermost."""
    if at == _TEMPLATE_METADATA:
        return
    for step, below in steps(tree):
        path = (*at, step)
        mine, there = (_child(one, step) for one in (wanted, live))
        if there is None:
            continue
        if mine is None:
            if not _is_default(step, there):
                yield FieldDrift(path, Deviation.ADDED, found=there)
        elif below:
            yield from _additions(below, mine, there, path)
        elif step in _ONLY_FROM_US and isinstance(mine, Mapping) and isinstance(there, Mapping):
            added = {key: value for key, value in there.items() if key not in mine}
            if added:
                yield FieldDrift(path, Deviation.CHANGED, mine, there)


def _is_default(step: Step, value: object) -> bool:
    return isinstance(step, str) and (step in _ALIASES | _ALLOCATED or (step in _DEFAULTS and _DEFAULTS[step] == value))


def _child(thing: object, step: Step) -> object:
    if isinstance(step, str):
        return thing.get(step) if isinstance(thing, Mapping) else None
    return step.within(thing)
