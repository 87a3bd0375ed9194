"""Rolling the add-on back to an earlier revision of its release."""

from __future__ import annotations

from confcom.addon.cluster.helm import RELEASE
from confcom.addon.model.chart_objects import Plan, component_of
from confcom.addon.operations.apply.add_on import AddOn
from confcom.addon.operations.apply.dry_run import Changed
from confcom.addon.operations.not_enabled import NotEnabledError, other_namespaces
from confcom.addon.preflight.findings import Outcome, PreflightError
from confcom.addon.preflight.node_checks import BESIDE_HARDWARE, check_losses, check_simulation
from confcom.addon.release.revision_history import NoRevisionError, previous
from confcom.addon.release.running_change import running_change


def roll_back(add_on: AddOn, revision: int | None, *, interrupted: bool, wait: bool, deadline: float) -> Changed:
    """Roll the add-on back to the revision before its last change, or to a given one.

    Args:
        add_on: the add-on of the cluster.
        revision: the revision to roll back to; None: the one that undoes the last change.
        interrupted: whether the user states that no helm is running the last change any more.
        wait: whether to wait until every node is ready.
        deadline: seconds without progress after which waiting ends.

    Raises:
        NotEnabledError: there is nothing to roll back.
        RunningChangeError: helm may still be running the last change.
        NoRevisionError: there is no such revision.
        PreflightError: the revision does not fit the current nodes, and nothing was changed.
        HelmError: helm failed.
        NotReadyError: some node is not ready.
    """
    with add_on.interruptible():
        history = add_on.helm.history()
        if not history:
            raise NotEnabledError.of("no release can be rolled back", other_namespaces(add_on))
        if not interrupted and (other := running_change(history, add_on.now())):
            raise other
        target = previous(history) if revision is None else revision
        if target not in {one.number for one in history}:
            known = ", ".join(str(one.number) for one in history)
            raise NoRevisionError(
                f"there is no revision {target}",
                error_code="revision-not-found",
                why=f"the revisions are {known}",
                remedy="give one of these numbers",
            )
        _check_target(add_on, target)
        add_on.restore_revision(target, f"helm rolls back to revision {target}", last=history[-1].number)
        remedy = "see `confcom status`"
        title = f"Back to revision {target}, node by node"
        steps = add_on.wait(title, deadline=deadline, remedy=remedy) if wait else ()
        return Changed(changed=True, revision=add_on.revision(deadline=deadline), steps=steps)


def _check_target(add_on: AddOn, target: int) -> None:
    """Check a revision against the current nodes: helm applies what the chart rendered for the nodes of that time.

    A problem that the present installation has too does not prevent the rollback.

    Raises:
        PreflightError: simulated and hardware nodes would be mixed without consent, or nodes would lose the daemons.
    """
    plan = Plan(add_on.helm.installed(target))
    nodes = add_on.api.list_objects("nodes")
    ours = [one for one in add_on.api.list_objects("daemonsets", add_on.cluster.namespace_flag) if component_of(one)]
    consent = f"go back to another revision, or change the present one with `confcom enable {BESIDE_HARDWARE}`"
    anyway = f"helm rollback {RELEASE} {target} {add_on.cluster.namespace_flag}"
    found = [*check_simulation(plan, nodes, ours, consent=consent), *check_losses(plan, nodes, ours, anyway=anyway)]
    present = {one.what for one in check_simulation(Plan(tuple(ours)), nodes, ours)}
    findings = [one for one in found if one.outcome is Outcome.FAILED and one.what not in present]
    if findings:
        add_on.reporter.findings(findings)
        raise PreflightError(findings)
