"""Drift: how the content of the cluster's objects differs from a release's manifests. Pure.

What a manifest sets must be the same in the live object. Defaults that the API server fills in are no drift. A field
that a manager other than helm added to a spec is drift. A different value that helm alone owns is no drift: an
admission webhook changed it in helm's own request, and would do so again. Labels and annotations that others add are no
drift either, such as the annotation of `kubectl rollout restart`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from confcom.addon.model.chart_objects import group_of
from confcom.addon.release.field_managers import Entry, Item, Path, Step, entries, steps
from confcom.addon.release.revision_history import Revision
from confcom.kubernetes.objects import KubernetesObject, mapping, name_of, namespace_of, quantity, text

MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
}
"""By the list's name, the key of its items, whose order does not matter (x-kubernetes-list-map-keys of the API). Other
lists are compared item by item."""
_ONLY_FROM_US = frozenset({"nodeSelector", "matchLabels"})
"""Maps that are owned as a whole and have no defaults: an entry that is not in the manifest was added."""
_OMITTED = frozenset(
    {"hostPID", "hostIPC", "hostNetwork", "readOnly", "stdin", "stdinOnce", "tty", "minReadySeconds"}
    | {"initialDelaySeconds"}
)
"""Fields that the API omits when they are false or 0 (they are no pointers in its types). Another field that is set to
false and missing in the live object is drift: a missing `automountServiceAccountToken` means true."""
_QUANTITIES = frozenset({"limits", "requests", "sizeLimit"})
"""Fields whose value, or whose map's values, are quantities: the API shows `0.5` as `500m`."""
_DEFAULTS: Mapping[str, object] = {
    "defaultMode": 0o644,
    "dnsPolicy": "ClusterFirst",
    "internalTrafficPolicy": "Cluster",
    "matchPolicy": "Equivalent",
    "namespaceSelector": {},
    "objectSelector": {},
    "progressDeadlineSeconds": 600,
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
"""The API server's defaults, by the field's name. Their manager is the one that created the object; creating it again
from an export does not count as adding them."""
_ALIASES = frozenset({"serviceAccount", "clusterIPs"})
"""Fields that the API server keeps equal to another field (serviceAccountName, clusterIP)."""
_ALLOCATED = frozenset({"ipFamilies", "ipFamilyPolicy"})
"""Fields that the API server chooses for a Service by the cluster's networks."""
_NOT_COMPARED = frozenset({"apiVersion", "kind", "metadata", "status"})
_COMPARED_METADATA = ("labels", "annotations")
_TEMPLATE_METADATA: Path = ("spec", "template", "metadata")
UNSHOWN = frozenset({"env", "data"})
"""Fields whose values are not shown, because they may be confidential."""
SECRET = "Secret"  # noqa: S105 # a kind
"""A kind whose content is not compared."""


class Deviation(StrEnum):
    """How a field differs."""

    CHANGED = "changed"
    MISSING = "missing"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class FieldDrift:
    """One field that differs from the release."""

    path: Path
    deviation: Deviation
    wanted: object = None
    found: object = None
    manager: str = ""
    """The last manager that wrote it (`kubectl-set`); empty if the API server does not record one, as for a missing
    field."""
    time: str = ""
    """When it was written, as the API server writes it."""
    hidden: bool = False
    """Whether its values contain a value of a Secret (confcom.addon.release.secret_values)."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One object that differs from the release."""

    kind: str
    name: str
    fields: tuple[FieldDrift, ...] = ()
    """Empty: the object itself is missing."""

    @property
    def gone(self) -> bool:
        """Whether the object itself is missing."""
        return not self.fields

    @property
    def added(self) -> tuple[Path, ...]:
        """The paths of the added fields."""
        return tuple(one.path for one in self.fields if one.deviation is Deviation.ADDED)


@dataclass(frozen=True, slots=True)
class ReleaseSeen:
    """The state of the release, and its drift.

    Args:
        last: its last revision; the cluster is compared with it only if it was deployed completely.
        drifts: the objects that differ from it.
        doubt: what could not be read, and why; empty if everything could.
        can_roll_back: whether there is a revision that undoes the last change.
    """

    last: Revision | None = None
    drifts: tuple[Drift, ...] = ()
    doubt: str = ""
    can_roll_back: bool = False


def drift(manifests: Iterable[KubernetesObject], live: Sequence[KubernetesObject], namespace: str) -> tuple[Drift, ...]:
    """Compare a release's manifests with the live objects."""
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
    """Return group, kind, namespace and name; objects without a namespace get the given one, cluster-wide ones too."""
    return group_of(thing), text(thing, "kind"), namespace_of(thing) or namespace, name_of(thing)


def field_drift(wanted: KubernetesObject, live: KubernetesObject) -> Iterator[FieldDrift]:
    """Yield the fields of one object that differ from its manifest."""
    if text(wanted, "kind") == SECRET:
        return
    written = entries(live)
    for one in _differences(_compared(wanted), live, ()):
        owners = [entry for entry in written if entry.owns(one.path)]
        # Admission webhooks run after the managers are recorded: helm alone still owns what they change.
        if not owners or not all(entry.is_helm for entry in owners):
            yield _with_last_writer(one, owners)
    seen = set[Path]()
    for entry in written:
        # Helm's manifest contains what helm applied, except fields that were handed over to helm for their removal, if
        # helm has not removed them yet.
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
    """Yield the differing fields, depth first; a list without keys is one field."""
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
        return True  # null in an apply leaves the value to the API server
    if live is None:
        return wanted == "" or (name in _OMITTED and not wanted)
    if isinstance(wanted, bool) or isinstance(live, bool):
        return wanted is live
    if _QUANTITIES & {name, around}:
        exact = quantity(str(wanted))
        return str(wanted) == str(live) if exact is None else exact == quantity(str(live))
    return wanted == live


def _additions(tree: Mapping[str, object], wanted: object, live: object, at: Path) -> Iterator[FieldDrift]:
    """Yield the live fields that a manager owns and the manifest lacks; of nested ones, only the outermost."""
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
