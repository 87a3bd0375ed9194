"""Roll the add-on back: choose the target revision of a rollback, and undo an interrupted change."""

from collections.abc import Sequence

from confcom.addon import change
from confcom.addon.change import Changed, ChangeRefusedError
from confcom.addon.command import AddOn
from confcom.addon.helm import Revision
from confcom.addon.preflight_inputs import check_rollback
from confcom.kubernetes.objects import KubernetesObject


def roll_back(add_on: AddOn, revision: int | None, *, wait: bool, timeout: float) -> Changed:
    """Roll the add-on back to `revision`; None means the revision that undoes the last change."""
    recorded = "if helm recorded the rollback, `confcom status --wait` waits on; a second one goes further back"
    with change.reporting_interruption(add_on.helm, recorded):
        change.require_release(add_on)
        with change.hold_lease(add_on, "rollback"):
            history = add_on.helm.history()
            change.refuse_running_helm(history, add_on.now())
            target = previous(history) if revision is None else revision
            if target not in {one.number for one in history}:
                known = ", ".join(str(one.number) for one in history)
                raise _no_revision(f"there is no revision {target}", f"the revisions are {known}")
            manifests = add_on.helm.manifests(target)
            findings = check_rollback(add_on.cluster, manifests, target, add_on.now)
            change.report_findings(add_on, findings)
            _helm_rollback(add_on, target, manifests)
            change.wait_for_daemons(add_on, wait=wait, timeout=timeout)
            return Changed(changed=True, revision=history[-1].number + 1, findings=findings)


def previous(history: Sequence[Revision]) -> int:
    """Return the number of the revision that undoes the last change that has not been undone yet.

    A second rollback goes further back, and does not undo the first rollback. Helm keeps only the last ten revisions.
    """
    content: dict[int, int] = {}  # maps a revision to the first revision with the same content
    for one in history:
        content[one.number] = content.get(one.copy_of, one.copy_of) or one.number
    applied = [one.number for one in history if one.was_applied]
    last = history[-1]
    if not last.was_applied and last.copy_of in content:  # repeat the failed rollback
        return content[last.copy_of]
    if not last.was_applied and applied:
        return applied[-1]
    earlier = [number for number in applied if content[number] < content[last.number]]
    if not earlier:
        raise _no_revision(
            "the release has no earlier revision to roll back to",
            "`confcom update --set ...` changes the present one, and `confcom disable` removes it",
        )
    return content[earlier[-1]]


def _no_revision(what: str, remedy: str) -> ChangeRefusedError:
    return ChangeRefusedError(what, error_code="no-earlier-revision", remedy=remedy)


def undo_interrupted(add_on: AddOn, history: Sequence[Revision]) -> None:
    """Roll the release back to its last applied revision; remove the release if no revision was applied."""
    last = history[-1]
    applied = [] if last.status == "uninstalling" else [one.number for one in history if one.was_applied]
    undone = f"back to revision {applied[-1]}" if applied else "removing the rest"
    add_on.reporter.say(f"The last change was interrupted ({last.described}): {undone}.")
    if applied:
        _helm_rollback(add_on, applied[-1], add_on.helm.manifests(applied[-1]))
    else:
        add_on.helm.uninstall()


def _helm_rollback(add_on: AddOn, revision: int, manifests: Sequence[KubernetesObject]) -> None:
    change.mend_objects(add_on, manifests, change.compare_release(add_on, manifests))
    add_on.reporter.say(f"helm rolls back to revision {revision} ...")
    add_on.helm.rollback(revision)
