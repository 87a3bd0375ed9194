"""The result of a change, and the dry run of enabling and updating: what they would change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from confcom.addon.cluster.helm import RELEASE
from confcom.addon.cluster.preflight_reader import PreflightContext
from confcom.addon.model.chart_objects import Plan
from confcom.addon.model.problems import shown
from confcom.addon.model.sgx_nodes import SIMULATED_LABEL
from confcom.addon.operations.apply.add_on import AddOn
from confcom.addon.operations.apply.up_to_date import Applied, compare_with_cluster
from confcom.addon.preflight.findings import Finding, Outcome
from confcom.addon.release.drift import ReleaseSeen
from confcom.addon.release.drift_report import unfinished
from confcom.addon.release.manifest_changes import (
    Effect,
    FieldChange,
    ObjectChange,
    change_lines,
    changes_json,
    manifest_changes,
    value_changes,
    with_drift,
)
from confcom.addon.release.revision_history import DEPLOYED
from confcom.addon.rollout.rollout import NodeStep
from confcom.errors import ConfcomError
from confcom.kubernetes.objects import KubernetesObject


@dataclass(frozen=True, slots=True)
class Changed:
    """The result of a change.

    Args:
        changed: whether the release was changed.
        revision: the release's revision number; 0: there is no release.
        findings: preflight's findings.
        steps: the final state of each daemon on each node; empty if the command did not wait.
        would_change: with --dry-run, what would be changed; None without it.
    """

    changed: bool
    revision: int
    findings: tuple[Finding, ...] = ()
    steps: tuple[NodeStep, ...] = ()
    would_change: tuple[ObjectChange, ...] | None = None

    def to_json(self) -> dict[str, object]:
        """Return it for `--output json`."""
        would = {} if self.would_change is None else {"would_change": changes_json(self.would_change)}
        return {
            "changed": self.changed,
            "revision": self.revision,
            "warnings": [one.what for one in self.findings if one.outcome is Outcome.WARNING],
            "findings": [one.to_json() for one in self.findings],
            "nodes": [{"node": step.node, "step": step.step, "state": step.text} for step in self.steps],
            **would,
        }


def planned(add_on: AddOn, seen: PreflightContext, findings: Sequence[Finding]) -> Changed:
    """Report what would be changed, and return it."""
    say, found = add_on.reporter.say, seen.surroundings
    there = compare_with_cluster(add_on, seen)  # reports what would be created again or reverted
    changes = (*_without_helm(seen), *_by_helm(add_on, seen, there))
    last = seen.history[-1] if seen.history else None
    if changes or not there.is_up_to_date:
        say("Nothing was changed. Without --dry-run:")
        if last is not None and last.status != DEPLOYED:
            say(f"  {unfinished(ReleaseSeen(last))[0]}: it is repeated")
        for line in change_lines(changes):
            say(f"  {line}")
        if not changes and last is not None and last.status == DEPLOYED:
            say("  helm records a new revision with the same objects")
    else:
        say("Nothing was changed, and nothing would change without --dry-run.")
    if isinstance(found.plan, Plan) and found.nodes and not isinstance(found.nodes, ConfcomError):
        say(f"  the daemons run on {shown(found.plan.nodes(found.nodes)) or 'no node yet'}")
    revision = last.number if last else 0
    return Changed(changed=False, revision=revision, findings=tuple(findings), would_change=changes)


def _without_helm(seen: PreflightContext) -> tuple[ObjectChange, ...]:
    label = FieldChange(("metadata", "labels", SIMULATED_LABEL), new="true")
    found = seen.surroundings
    nodes = [ObjectChange("Node", name, Effect.CHANGED, (label,)) for name in found.unlabelled_nodes]
    made = [ObjectChange("Namespace", found.namespace_name, Effect.MADE)] if found.namespace is None else []
    return (*made, *nodes)


def _by_helm(add_on: AddOn, seen: PreflightContext, there: Applied) -> tuple[ObjectChange, ...]:
    if seen.rendering is None:
        return ()
    before, after = _applied_last(add_on, seen), seen.rendering.manifests
    both = (*before, *after)
    values = value_changes(seen.values.stored, seen.rendering.config, both, RELEASE)
    objects = with_drift(manifest_changes(before, after, add_on.cluster.namespace), there.drifts, both)
    return (*values, *objects, *(ObjectChange(kind, name, Effect.MADE) for kind, name in there.gone))


def _applied_last(add_on: AddOn, seen: PreflightContext) -> tuple[KubernetesObject, ...]:
    """Return the manifests of the last revision that was deployed completely."""
    number = next((one.number for one in reversed(seen.history) if one.status == DEPLOYED), None)
    return add_on.helm.installed(number) if number is not None else ()
