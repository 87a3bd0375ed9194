"""Progress rows of a rollout, and the error of a stalled one. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from confcom.addon.model.problems import shown
from confcom.addon.rollout.progress import Mark, Row
from confcom.addon.rollout.rollout import NodeStep, Rollout, Step
from confcom.errors import ConfcomError, ExitCode


class NotReadyError(ConfcomError):
    """The daemons are not ready as requested."""

    error_code = "daemons-not-ready"
    exit_code = ExitCode.NOT_READY


def _independent(steps: Sequence[NodeStep]) -> list[NodeStep]:
    """Return the steps without those that wait for another step on their node."""
    daemons = {step.node for step in steps if step.step is not Step.EPC}
    return [step for step in steps if step.step is not Step.EPC or step.node not in daemons]


def rows_of(state: Rollout) -> list[Row]:
    """Return a rollout as rows of a progress table."""
    problems = (problem.text.partition(": ") for problem in state.problems)
    rows = [Row(what.removeprefix("the "), why, Mark.BAD) for what, _, why in problems]
    for step in state.steps:
        mark = Mark.DONE if step.done else Mark.BAD if step.failing else Mark.WAITING
        rows.append(Row(f"{step.node}  {step.step}", step.text, mark))
    if state.controller:
        mark = Mark.BAD if state.controller.failing else Mark.WAITING
        rows.append(Row("controller", state.controller.why, mark))
    return rows


def stalled(state: Rollout, remedy: str) -> NotReadyError:
    """Return the error for a stalled rollout: the nodes and the reasons."""
    blocked = _independent(state.open)
    reasons = [*map(str, state.problems), *(f"{step.node}: {step.step} {step.text}" for step in blocked)]
    if state.controller:
        reasons.append(f"controller: {state.controller.why}")
    why = "; ".join(reasons) or "the DaemonSet controller does not reconcile"
    nodes = sorted({step.node for step in blocked})
    # Where EPC is capacity, a node gets it from the controller only.
    if state.controller and not state.problems and all(step.step is Step.EPC for step in blocked):
        return NotReadyError(
            "the controller of node capacity is not ready", error_code="controller-not-ready", why=why, remedy=remedy
        )
    if not nodes:
        return NotReadyError(
            "the daemons' Pods cannot be created", error_code="pods-not-created", why=why, remedy=remedy
        )
    serving = sorted({step.node for step in blocked if step.serving})
    still = f" ({', '.join(serving)}: the old one keeps serving)" if serving else ""
    down = sorted({step.node for step in blocked if not step.node_ready})
    if down:
        remedy = (
            f"bring {shown(down)} back, and the rollout continues, or remove it from the cluster "
            f"(kubectl delete node {down[0]}); otherwise {remedy}"
        )
    return NotReadyError(
        f"the add-on is not ready on {', '.join(nodes)}{still}",
        error_code="daemons-not-ready",
        why=why,
        remedy=remedy,
    )
