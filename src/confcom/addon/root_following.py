"""Waiting until the quote helpers quote by the cluster's simulated root."""

from __future__ import annotations

from confcom.addon.add_on import POLL_SECONDS, AddOn, NotReadyError
from confcom.addon.objects import of_kind
from confcom.addon.root_looking import look_at_root
from confcom.addon.root_sight import FOLLOW_MINUTES, RootSight, behind_text
from confcom.addon.telling import Mark, Row

FOLLOW_SECONDS = 60.0 * FOLLOW_MINUTES


def await_root(add_on: AddOn, *, deadline: float) -> None:
    """Wait until every quote helper quotes by the cluster's simulated root, which takes a while if that is a new one.

    Args:
        add_on: of which cluster.
        deadline: seconds without progress.

    Raises:
        NotReadyError: some helper does not.
        ClusterAccessError: the API server stayed away for as long, or refuses.
    """
    sight = add_on.patiently(lambda: _look(add_on), deadline=deadline)
    if sight is None or sight.record is None or not (sight.behind or sight.untold):
        return
    add_on.teller.say(
        f"The cluster has another simulated root now, SHA-256 {sight.record.fingerprint}: whoever verifies quotes "
        "needs `confcom simulation export` again."
    )
    progress, fewest = add_on.clock(), len(sight.behind) + len(sight.untold)
    with add_on.teller.waiting("The quote helpers take it when their kubelets renew their volumes") as board:
        while sight is not None and (sight.behind or sight.untold):
            board.show(_rows(sight))
            left = len(sight.behind) + len(sight.untold)
            if left < fewest:
                progress, fewest = add_on.clock(), left
            if add_on.clock() - progress >= max(deadline, FOLLOW_SECONDS):
                raise _late(add_on, sight)
            add_on.sleep(POLL_SECONDS)
            sight = add_on.patiently(lambda: _look(add_on), deadline=deadline, board=board)


def _look(add_on: AddOn) -> RootSight | None:
    objects = add_on.api.list_objects("pods,daemonsets.apps", add_on.cluster.here)
    return look_at_root(add_on.api, of_kind(objects, "DaemonSet"), of_kind(objects, "Pod"))


def _rows(sight: RootSight) -> list[Row]:
    waiting = [Row(sight.nodes[pod], behind_text(sight, pod), Mark.WAITING) for pod in sight.behind]
    silent = [Row(sight.nodes[pod], f"{pod} cannot be asked: {why}", Mark.BAD) for pod, why in sight.untold.items()]
    return waiting + silent


def _late(add_on: AddOn, sight: RootSight) -> NotReadyError:
    pods = [*sight.behind, *sight.untold]
    told = [f"{sight.nodes[pod]}: {behind_text(sight, pod)}" for pod in sight.behind]
    told += [f"{sight.nodes[pod]}: the quote helper {pod} cannot be asked: {why}" for pod, why in sight.untold.items()]
    return NotReadyError(
        "not every quote helper is known to quote by the cluster's simulated root",
        why="; ".join(told),
        remedy=f"have them start anew, one after the other: kubectl delete pod {add_on.cluster.here} {' '.join(pods)}",
    )
