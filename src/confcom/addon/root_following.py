"""Waiting until the quote helpers quote by the cluster's simulated root."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence

from confcom.addon.add_on import POLL_SECONDS, AddOn
from confcom.addon.objects import of_kind
from confcom.addon.rollout_report import NotReadyError
from confcom.addon.root_looking import look_at_root
from confcom.addon.root_sight import EDITED_REMEDY, FOLLOW_MINUTES, RootSight, behind_text, root_doubts
from confcom.addon.telling import Mark, Row

FOLLOW_SECONDS = 60.0 * FOLLOW_MINUTES
_TITLE = "The quote helpers take it when their kubelets renew their volumes"


def await_root(add_on: AddOn, *, deadline: float) -> None:
    """Wait until every quote helper quotes by the cluster's simulated root, which takes a while if that is a new one.

    Helpers that cannot be asked are told, and not waited for.

    Args:
        add_on: of which cluster.
        deadline: seconds without progress.

    Raises:
        NotReadyError: some helper quotes by another one.
        ClusterAccessError: the API server stayed away for as long, or refuses.
    """
    sight = add_on.retry_while_unreachable(lambda: _look(add_on), deadline=deadline)
    waited_for = _still_behind(sight, ())
    if sight is not None and sight.record is not None and waited_for:
        add_on.teller.say(
            f"The cluster has another simulated root now, SHA-256 {sight.record.fingerprint}: whoever verifies quotes "
            "needs `confcom simulation export` again."
        )
    progress, fewest = add_on.clock(), len(waited_for)
    with contextlib.ExitStack() as stack:
        board = stack.enter_context(add_on.teller.waiting(_TITLE)) if waited_for else None
        while sight is not None and board is not None and waited_for:
            board.show(_rows(sight, waited_for))
            if len(waited_for) < fewest:
                progress, fewest = add_on.clock(), len(waited_for)
            if add_on.clock() - progress >= max(deadline, FOLLOW_SECONDS):
                raise _late(add_on, sight, waited_for)
            add_on.sleep(POLL_SECONDS)
            sight = add_on.retry_while_unreachable(lambda: _look(add_on), deadline=deadline, board=board)
            waited_for = _still_behind(sight, waited_for)
    for doubt in root_doubts(sight, add_on.cluster.namespace):
        add_on.teller.say(f"Not known: {doubt}")


def _still_behind(sight: RootSight | None, before: Collection[str]) -> tuple[str, ...]:
    """The helpers to wait for: one that was behind, and cannot be asked now, still counts as behind."""
    if sight is None:
        return ()
    return (*sight.behind, *(pod for pod in sight.unreachable if pod in before))


def _look(add_on: AddOn) -> RootSight | None:
    objects = add_on.api.list_objects("pods,daemonsets.apps", add_on.cluster.namespace_flag)
    return look_at_root(add_on.api, of_kind(objects, "DaemonSet"), of_kind(objects, "Pod"))


def _rows(sight: RootSight, pods: Sequence[str]) -> list[Row]:
    return [
        Row(sight.nodes[pod], _text(sight, pod), Mark.BAD if pod in sight.unreachable else Mark.WAITING) for pod in pods
    ]


def _text(sight: RootSight, pod: str) -> str:
    if pod in sight.unreachable:
        return f"the quote helper {pod} cannot be asked any more: {sight.unreachable[pod]}"
    return behind_text(sight, pod)


def _late(add_on: AddOn, sight: RootSight, pods: Sequence[str]) -> NotReadyError:
    commands = "; ".join(f"kubectl delete pod {add_on.cluster.namespace_flag} {pod}" for pod in pods)
    return NotReadyError(
        "not every quote helper quotes by the cluster's simulated root",
        why="; ".join(f"{sight.nodes[pod]}: {_text(sight, pod)}" for pod in pods),
        remedy=f"if this lasts, {EDITED_REMEDY}; else have them start anew, each once the one before is ready again: "
        f"{commands}",
    )
