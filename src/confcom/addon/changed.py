"""What a change of the add-on came to. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from confcom.addon.changes_report import changes_json
from confcom.addon.findings import Finding, Outcome
from confcom.addon.manifest_changes import ObjectChange
from confcom.addon.rollout import NodeStep


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change came to.

    Args:
        changed: whether the release is another one now.
        revision: the release's number; 0: there is none.
        findings: what preflight found.
        steps: each daemon on each node, as they were at the end; none if it was not waited for.
        would_change: with --dry-run, what would be done; None: it was no dry run.
    """

    changed: bool
    revision: int
    findings: tuple[Finding, ...] = ()
    steps: tuple[NodeStep, ...] = ()
    would_change: tuple[ObjectChange, ...] | None = None

    def to_json(self) -> dict[str, object]:
        """For `--output json`."""
        would = {} if self.would_change is None else {"would_change": changes_json(self.would_change)}
        return {
            "changed": self.changed,
            "revision": self.revision,
            "warnings": [one.what for one in self.findings if one.outcome is Outcome.WARNING],
            "nodes": [{"node": step.node, "step": step.step, "state": step.text} for step in self.steps],
            **would,
        }
