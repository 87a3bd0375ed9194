"""Waits until the daemons are ready and the quote helpers use the cluster's simulated root."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence

from confcom.addon.cluster.snapshot_reader import look_at_root
from confcom.addon.daemons.root_comparison import (
    EDITED_REMEDY,
    FOLLOW_MINUTES,
    RootObservation,
    behind_text,
    root_doubts,
)
from confcom.addon.operations.apply.add_on import POLL_SECONDS, AddOn
from confcom.addon.rollout.progress import Mark, Row
from confcom.addon.rollout.rollout import NodeStep
from confcom.addon.rollout.rollout_report import NotReadyError
from confcom.kubernetes.objects import of_kind

FOLLOW_SECONDS = 60.0 * FOLLOW_MINUTES
_TITLE = "The quote helpers load the root when their kubelets update the volumes"


def await_daemons(add_on: AddOn, title: str, *, deadline: float, remedy: str) -> tuple[NodeStep, ...]:
    """Wait for the daemons, and until their quotes are made under the cluster's simulated root.

    Args:
        add_on: the add-on of the cluster.
        title: the progress title.
        deadline: seconds without progress.
        remedy: the error's advice if the rollout stalls.

    Raises:
        NotReadyError: the rollout stalled, or a helper still uses another root.
        ClusterAccessError: the API server did not answer within the deadline, or denies access.
    """
    steps = add_on.wait(title, deadline=deadline, remedy=remedy)
    _await_root(add_on, deadline=deadline)
    return steps


def _await_root(add_on: AddOn, *, deadline: float) -> None:
    """Wait until every quote helper uses the cluster's simulated root, which takes minutes after a new one was made.

    Helpers that cannot be asked from the start are reported, and not waited for.

    Args:
        add_on: the add-on of the cluster.
        deadline: seconds without progress; at least FOLLOW_SECONDS count.

    Raises:
        NotReadyError: a helper still uses another root.
        ClusterAccessError: the API server did not answer within the deadline, or denies access.
    """
    observation = add_on.retry_while_unreachable(lambda: _look(add_on), deadline=deadline)
    waited_for = _still_behind(observation, ())
    if observation is not None and observation.record is not None and waited_for:
        add_on.reporter.say(
            f"The cluster has a new simulated root, SHA-256 {observation.record.fingerprint}: relying parties need "
            "the output of `confcom simulation export` again."
        )
    progress, fewest = add_on.clock(), len(waited_for)
    with contextlib.ExitStack() as stack:
        table = stack.enter_context(add_on.reporter.waiting(_TITLE)) if waited_for else None
        while observation is not None and table is not None and waited_for:
            table.show(_rows(observation, waited_for))
            if len(waited_for) < fewest:
                progress, fewest = add_on.clock(), len(waited_for)
            if add_on.clock() - progress >= max(deadline, FOLLOW_SECONDS):
                raise _timeout_error(add_on, observation, waited_for)
            add_on.sleep(POLL_SECONDS)
            observation = add_on.retry_while_unreachable(lambda: _look(add_on), deadline=deadline, table=table)
            waited_for = _still_behind(observation, waited_for)
    for doubt in root_doubts(observation, add_on.cluster.namespace):
        add_on.reporter.say(f"Not known: {doubt}")


def _still_behind(observation: RootObservation | None, before: Collection[str]) -> tuple[str, ...]:
    """Return the helpers to wait for; one that was behind and has become unreachable still counts as behind."""
    if observation is None:
        return ()
    return (*observation.behind, *(pod for pod in observation.unreachable if pod in before))


def _look(add_on: AddOn) -> RootObservation | None:
    objects = add_on.api.list_objects("pods,daemonsets.apps", add_on.cluster.namespace_flag)
    return look_at_root(add_on.api, of_kind(objects, "DaemonSet"), of_kind(objects, "Pod"))


def _rows(observation: RootObservation, pods: Sequence[str]) -> list[Row]:
    return [
        Row(
            observation.nodes[pod],
            _text(observation, pod),
            Mark.BAD if pod in observation.unreachable else Mark.WAITING,
        )
        for pod in pods
    ]


def _text(observation: RootObservation, pod: str) -> str:
    if pod in observation.unreachable:
        return f"the quote helper {pod} no longer responds: {observation.unreachable[pod]}"
    return behind_text(observation, pod)


def _timeout_error(add_on: AddOn, observation: RootObservation, pods: Sequence[str]) -> NotReadyError:
    commands = "; ".join(f"kubectl delete pod {add_on.cluster.namespace_flag} {pod}" for pod in pods)
    return NotReadyError(
        "not every quote helper uses the cluster's simulated root",
        error_code="root-not-in-use",
        why="; ".join(f"{observation.nodes[pod]}: {_text(observation, pod)}" for pod in pods),
        remedy=f"if this lasts, {EDITED_REMEDY}; otherwise restart them one at a time: {commands}",
    )
