"""Compare a release's manifests with the cluster by means of a server-side dry run of helm's apply.

In the dry run, the API server fills in defaults and converts quantities, so this module need not know them. A field
that another manager added is legitimate, and stays. Containers, volumes and variables added to our Pod templates
are reported nevertheless, since these Pods are privileged. Policies and permissions (EXACT_GROUPS) may have only our
fields. An apply would keep added fields, so a dry run of a replacement (PUT) finds the added fields.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from confcom.addon.api import Api, ClusterAccessError, RefusedError, at_once, place_of
from confcom.addon.chart_objects import EXACT_GROUPS
from confcom.kubernetes.names import RELEASE
from confcom.kubernetes.objects import KubernetesObject, listing, mapping, name_of, text

MAX_VALUE_CHARACTERS = 80
"""Maximum length of a value in messages; an image with a digest fits, unless its registry has a long name."""
MAX_FIELDS = 3
"""Maximum number of differing fields in a message about an object; `--output json` has all fields."""
_KEYS = ("name", "mountPath", "containerPort", "key")
"""Fields that can identify a list's items. Items are matched by the first field that every item has."""
_COUNTED = frozenset({"deprecated.daemonset.template.generation", "deployment.kubernetes.io/revision"})
"""Annotations in which controllers store the version number of an object's Pod template."""
_VOLATILE = frozenset({"managedFields", "resourceVersion", "generation", "creationTimestamp", "uid"})
_HIDDEN = frozenset({"env", "data", "stringData"})
"""Fields whose values are not shown: they may be confidential."""
_WORKLOADS = frozenset({"DaemonSet", "Deployment"})
"""Kinds that a repair never deletes, since their Pods would end; only the user deletes such an object."""
_EFFECTS = (
    ("spec.matchConditions", "does not apply to requests for which a condition is false"),
    ("spec.match", "does not apply to all requests that the chart's applies to"),
    ("spec.validationActions", "does not treat a violation as the chart's does"),
    ("spec.ingress", "lets in other connections than the chart's"),
    ("rules", "has other permissions than the chart's"),
    ("subjects", "gives permissions to others than the chart's"),
)
"""Pairs: a path, and what a policy or permission does if a field below this path was changed."""


class Effect(StrEnum):
    MADE = "made"
    CHANGED = "changed"
    REMOVED = "removed"
    REPLACED = "replaced"
    """A PUT replaces the policy or permission, because an apply would keep fields that somebody added."""
    RECREATED = "recreated"
    """Somebody's change has made every apply and PUT invalid: the object must be deleted and created anew."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field that an apply would change. A value that is not set, or is hidden, is None."""

    path: str
    old: object = None
    new: object = None

    def __str__(self) -> str:
        if self.old is None and self.new is None:
            return self.path
        old, new = self.old, self.new
        if isinstance(old, list) and isinstance(new, list):
            old, new = [one for one in old if one not in new], [one for one in new if one not in old]
        return f"{self.path}: {_shown(old)} -> {_shown(new)}"


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """An apply's effect on one object. `fields` is empty if the apply would create or remove the object."""

    kind: str
    name: str
    effect: Effect
    fields: tuple[FieldChange, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.name} {self.effect}" + (f": {self.shown_fields}" if self.fields else "")

    @property
    def shown_fields(self) -> str:
        shown = [str(one) for one in self.fields[:MAX_FIELDS]]
        more = len(self.fields) - len(shown)
        return "; ".join([*shown, *([f"{more} more fields"] if more > 0 else [])])

    @property
    def meaning(self) -> str:
        """The effect of the differing fields on a policy or permission; empty if _EFFECTS has none."""
        paths = [one.path for one in self.fields]
        return next((words for start, words in _EFFECTS if any(path.startswith(start) for path in paths)), "")

    def to_json(self) -> dict[str, object]:
        fields = [{"field": one.path, "old": one.old, "new": one.new} for one in self.fields]
        return {"kind": self.kind, "name": self.name, "effect": self.effect, "fields": fields}


@dataclass(frozen=True, slots=True)
class Comparison:
    changes: tuple[ObjectChange, ...] = ()
    added: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """For each object (kind and name): the containers, volumes and variables added to its Pod template."""
    not_compared: tuple[str, ...] = ()
    """Messages that say which objects were not compared, and why."""


def compare(api: Api, manifests: Sequence[KubernetesObject], namespace: str) -> Comparison:
    """Compare a release's manifests with those objects in the cluster that this user may read and patch."""
    found = at_once(lambda one: _compared(api, one, namespace), manifests)
    unread = [reason for one in found for reason in one.not_compared]
    others = f" (and {len(unread) - 1} objects more)" if len(unread) > 1 else ""
    return Comparison(
        tuple(change for one in found for change in one.changes),
        tuple(added for one in found for added in one.added),
        tuple(f"{reason}{others}" for reason in unread[:1]),
    )


def removed(before: Iterable[KubernetesObject], after: Iterable[KubernetesObject]) -> tuple[ObjectChange, ...]:
    kept = {(text(one, "kind"), name_of(one)) for one in after}
    lost = ((text(one, "kind"), name_of(one)) for one in before)
    return tuple(ObjectChange(kind, name, Effect.REMOVED) for kind, name in lost if (kind, name) not in kept)


def replace(api: Api, manifest: KubernetesObject, namespace: str) -> None:
    """Make an object in the cluster equal its manifest, except for metadata; do not create a missing object."""
    place = place_of(manifest, namespace)
    while (live := api.get(*place)) and not api.replace(_exactly(manifest, live)):
        pass  # somebody changed the object after this GET


def deletion(changes: Iterable[ObjectChange], namespace: str) -> str:
    """Return a kubectl command that deletes all workloads that must be recreated; empty if there are none.

    The Pods keep running, and the new workload adopts them, unless an immutable field (a selector) differs.
    """
    lost = [one for one in changes if one.effect is Effect.RECREATED and one.kind in _WORKLOADS]
    orphans = ("" if "immutable" in one.shown_fields else " --cascade=orphan" for one in lost)
    named = zip(lost, orphans, strict=True)
    return " && ".join(
        f"kubectl delete {one.kind.lower()}/{one.name} --namespace={namespace}{orphan}" for one, orphan in named
    )


def _compared(api: Api, manifest: KubernetesObject, namespace: str) -> Comparison:
    kind, name, where = place_of(manifest, namespace)
    live: KubernetesObject | None = None
    added: tuple[tuple[str, tuple[str, ...]], ...] = ()
    try:
        live = api.get(kind, name, where)
        if live is None:
            return Comparison((ObjectChange(kind.__name__, name, Effect.MADE),))
        if names := tuple(added_names(manifest, live)):
            added = ((f"{kind.__name__} {name}", names),)
        effect, made = _mended(api, manifest, live, namespace)
    except ClusterAccessError as error:
        if error.error_code == "object-invalid" and _is_releases(live, namespace):
            return Comparison((ObjectChange(kind.__name__, name, Effect.RECREATED, (FieldChange(error.why),)),), added)
        return Comparison(added=added, not_compared=(f"{error.what}: {error.why}",))
    fields = tuple(_differences(live, made, ""))
    return Comparison((ObjectChange(kind.__name__, name, effect, fields),) if fields else (), added)


def _mended(
    api: Api, manifest: KubernetesObject, live: KubernetesObject, namespace: str
) -> tuple[Effect, KubernetesObject]:
    group, exactly = text(manifest, "apiVersion").partition("/")[0], _exactly(manifest, live)
    exact = group in EXACT_GROUPS and _is_releases(live, namespace)
    metadata = mapping(manifest, "metadata")
    annotations = {**mapping(metadata, "annotations"), **_owned_by(namespace)}  # helm adds these annotations
    by_helm = {**manifest, "metadata": {**metadata, "annotations": annotations}}
    try:
        applied = api.applied(by_helm, namespace)
    except RefusedError as error:
        if exact and error.error_code == "object-invalid":
            return Effect.REPLACED, api.replaced(exactly)
        raise
    if not exact:
        return Effect.CHANGED, applied
    replaced = {**api.replaced(exactly), "metadata": applied["metadata"]}  # other managers write metadata too
    return Effect.REPLACED if any(_differences(applied, replaced, "")) else Effect.CHANGED, replaced


def _exactly(manifest: KubernetesObject, live: KubernetesObject) -> KubernetesObject:
    return {**manifest, "metadata": live["metadata"]}


def _owned_by(namespace: str) -> Mapping[str, str]:
    return {"meta.helm.sh/release-name": RELEASE, "meta.helm.sh/release-namespace": namespace}


def _is_releases(live: KubernetesObject | None, namespace: str) -> bool:
    """Return whether an object belongs to the release. helm refuses to change other objects."""
    return live is not None and _owned_by(namespace).items() <= mapping(live, "metadata", "annotations").items()


def added_names(manifest: KubernetesObject, live: KubernetesObject) -> Iterator[str]:
    ours, theirs = (mapping(each, "spec", "template", "spec") for each in (manifest, live))
    for part in ("initContainers", "containers", "volumes"):
        known = {text(one, "name"): one for one in listing(ours, part)}
        for one in listing(theirs, part):
            name = text(one, "name")
            if name not in known:
                yield f"{part.removesuffix('s')} {name}"
                continue
            before = {text(variable, "name") for variable in listing(known[name], "env")}
            now = (text(variable, "name") for variable in listing(one, "env"))
            yield from (f"variable {variable} of {name}" for variable in now if variable not in before)


def _differences(old: object, new: object, path: str) -> Iterator[FieldChange]:
    """Yield the differing fields, depth first. List items are matched by keys if every item has a key."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        skipped = {"": {"status"}, "metadata": _VOLATILE, "metadata.annotations": _COUNTED}.get(path, ())
        for key in [*new, *(one for one in old if one not in new)]:
            if key not in skipped:
                yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif (keyed := _keyed(old)) is not None and (others := _keyed(new)) is not None:
        for key in [*others, *(one for one in keyed if one not in others)]:
            yield from _differences(keyed.get(key), others.get(key), f"{path}[{key}]")
    elif old != new:
        hidden = not _HIDDEN.isdisjoint(path.replace("[", ".").split(".")) or _has_hidden([old, new])
        yield FieldChange(path) if hidden else FieldChange(path, old, new)


def _has_hidden(value: object) -> bool:
    if isinstance(value, Mapping):
        return not _HIDDEN.isdisjoint(value) or any(map(_has_hidden, value.values()))
    return isinstance(value, list) and any(map(_has_hidden, value))


def _keyed(value: object) -> Mapping[str, object] | None:
    if not isinstance(value, list) or not value or not all(isinstance(one, Mapping) for one in value):
        return None
    key = next((one for one in _KEYS if all(one in item for item in value)), None)
    if key is None:
        return None
    found = {str(mapping(item).get(key)): item for item in value}
    return found if len(found) == len(value) else None


def _shown(value: object) -> str:
    shown = "not set" if value is None else str(value)
    return shown if len(shown) <= MAX_VALUE_CHARACTERS else f"{shown[:MAX_VALUE_CHARACTERS]}..."
