"""The result of a change of the add-on. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from confcom.addon.preflight.findings import Finding, Outcome
from confcom.addon.release.changes_report import changes_json
from confcom.addon.release.manifest_changes import ObjectChange
from confcom.addon.rollout.rollout import NodeStep


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
