"""Applying what the user asked for, unless the release matches it and the cluster matches the release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from confcom.addon.cluster.installed_release import read_drift
from confcom.addon.cluster.preflight_reader import InstallRequest, PreflightContext
from confcom.addon.cluster.programs import ForbiddenError
from confcom.addon.model.chart_objects import is_hook
from confcom.addon.operations.apply.add_on import AddOn
from confcom.addon.release.drift import SECRET, Drift
from confcom.addon.release.drift_report import described
from confcom.kubernetes.objects import KubernetesObject, name_of, text
from confcom.simulated_root.record import RECORD_NAME, SECRET_NAME, RootRecord

_ROOT = (
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET_NAME}},
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": RECORD_NAME}},
)
"""No manifest contains them: the hook's Job creates them, and only helm runs the hook."""


@dataclass(frozen=True, slots=True)
class Applied:
    """How much of what the user asked for is already in the cluster.

    Args:
        recorded: whether the release that helm stores matches what the user asked for.
        complete: whether all objects exist that only an upgrade creates.
        drifts: objects in the cluster that differ from the release.
    """

    recorded: bool
    complete: bool = False
    drifts: tuple[Drift, ...] = ()
    gone: tuple[tuple[str, str], ...] = ()
    """Kinds and names of the missing objects that only an upgrade creates again."""

    @property
    def is_up_to_date(self) -> bool:
        """Whether nothing needs to be changed."""
        return self.recorded and self.complete and not self.drifts


def compare_with_cluster(add_on: AddOn, seen: PreflightContext) -> Applied:
    """Compare the release and the cluster with what the user asked for; tell the user what is missing or changed."""
    if not seen.history or seen.history[-1].status != "deployed" or seen.rendering is None:
        return Applied(recorded=False)
    manifests = add_on.helm.installed()
    recorded = seen.values.stored == seen.rendering.config and sorted(map(repr, manifests)) == sorted(
        map(repr, seen.rendering.manifests)
    )
    try:
        drifts, _ = read_drift(add_on.api, manifests)
        secrets = [one for one in manifests if text(one, "kind") == SECRET]
        of_hooks = objects_of_hooks(seen.rendering.hooks)
        gone = add_on.api.missing([*secrets, *of_hooks])
        record = add_on.api.find_config_map(RECORD_NAME) if of_hooks else None
    except ForbiddenError as error:
        # An upgrade would fail for the same user: helm reads each of these objects too.
        add_on.reporter.say(f"The release's objects could not be compared: {error.why}")
        return Applied(recorded, complete=True)
    missing = [f"{one.kind} {one.name}" for one in drifts if one.gone]
    missing += [f"{text(one, 'kind')} {name_of(one)}" for one in gone]
    if missing:
        add_on.reporter.say(f"Missing from the cluster, will be created again: {', '.join(missing)}.")
    damaged = record is not None and RootRecord.read(record) is None
    if damaged:
        add_on.reporter.say(
            f"The ConfigMap {RECORD_NAME} contains no fingerprint of the simulated root and will be restored."
        )
    for one in drifts:
        if not one.gone:
            add_on.reporter.say(f"Differs from the release, will be restored: {described(one)}.")
    lost = [*gone, *([_ROOT[1]] if damaged else [])]
    named = tuple((text(one, "kind"), name_of(one)) for one in lost)
    return Applied(recorded, complete=not lost, drifts=drifts, gone=named)


def objects_of_hooks(hooks: Sequence[KubernetesObject]) -> tuple[KubernetesObject, ...]:
    """Return the objects that a release's hooks create: they are in no manifest."""
    return _ROOT if any(map(is_hook, hooks)) else ()


def apply_if_needed(add_on: AddOn, request: InstallRequest, seen: PreflightContext) -> bool:
    """Apply what the user asked for unless nothing needs to be changed; return whether it was applied."""
    found = compare_with_cluster(add_on, seen)
    if not (found.recorded and found.complete):
        add_on.apply(request.chart, seen)
    elif found.drifts:
        # Not an upgrade: it would be one more change for `confcom rollback` to undo.
        last = seen.history[-1].number
        add_on.restore_revision(last, "helm restores the changed objects", last=last)
    else:
        add_on.reporter.say("The release already has the requested state.")
        return False
    return True
