"""Enabling, updating and rolling back the add-on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

from confcom.addon.cluster.helm import RELEASE
from confcom.addon.cluster.preflight_reader import InstallRequest, PreflightContext
from confcom.addon.cluster.programs import ClusterAccessError
from confcom.addon.model.chart_objects import ADD_ON, NAME_LABEL, Plan, component_of
from confcom.addon.model.sgx_nodes import SIMULATED_LABEL
from confcom.addon.operations.add_on import AddOn
from confcom.addon.operations.dry_run import Changed, planned
from confcom.addon.operations.root_wait import await_root
from confcom.addon.operations.up_to_date import compare_with_cluster
from confcom.addon.preflight.findings import Outcome, PreflightError
from confcom.addon.preflight.node_checks import BESIDE_HARDWARE, check_losses, check_simulation
from confcom.addon.preflight.preflight import ENFORCE_LABEL, PRIVILEGED
from confcom.addon.release.history import NoRevisionError, previous
from confcom.addon.release.running_change import running_change
from confcom.addon.rollout.rollout import NodeStep
from confcom.errors import ConfcomError, ExitCode
from confcom.kubernetes.objects import KubernetesObject, namespace_of


class NotEnabledError(ConfcomError):
    """The add-on is not enabled in this namespace, or was not installed by helm."""

    error_code = "not-enabled"
    exit_code = ExitCode.REFUSED

    @classmethod
    def of(cls, what: str, elsewhere: Sequence[str]) -> NotEnabledError:
        """Create the error, with advice that names other namespaces of the add-on."""
        if not elsewhere:
            return cls(what, why="the add-on is not enabled", remedy="confcom enable")
        why = f"the add-on is installed in {', '.join(elsewhere)}"
        return cls(what, why=why, remedy=f"run the same command with --namespace {elsewhere[0]}")


def enable_add_on(add_on: AddOn, request: InstallRequest, *, dry_run: bool, wait: bool, deadline: float) -> Changed:
    """Install the add-on, or change it to what the user asked for; it is idempotent.

    Args:
        add_on: the add-on of the cluster.
        request: what the user asked for.
        dry_run: whether to stop before anything is changed.
        wait: whether to wait until every node is ready.
        deadline: seconds without progress after which waiting ends.

    Raises:
        PreflightError: a check failed, and nothing was changed.
        HelmError: helm failed.
        NotReadyError: the add-on is installed, and some node is not ready.
    """
    with add_on.interruptible():
        seen, findings = add_on.preflight(request)
        if dry_run:
            return planned(add_on, seen, findings)
        for node in request.simulated_nodes:
            with add_on.journal.change(f"the node {node} was labelled {SIMULATED_LABEL}=true"):
                add_on.api.label_node(node, f"{SIMULATED_LABEL}=true")
            add_on.reporter.say(f"Labelled the node {node} {SIMULATED_LABEL}=true.")
        if seen.surroundings.namespace is None:
            with add_on.journal.change(f"the namespace {add_on.cluster.namespace} was created"):
                add_on.api.create(_namespace(add_on.cluster.namespace))
        changed = _apply(add_on, request, seen)
        remedy = "see `confcom status`; `confcom enable` again waits on"
        steps = _settle(add_on, "Waiting for the daemons", deadline=deadline, remedy=remedy) if wait else ()
        return Changed(changed, add_on.revision(deadline=deadline), findings, steps)


def update_add_on(add_on: AddOn, request: InstallRequest, *, dry_run: bool, wait: bool, deadline: float) -> Changed:
    """Update an enabled add-on, node by node: on each node, the old daemon serves until the new one is ready.

    Raises:
        NotEnabledError: there is nothing to update.
        PreflightError: a check failed, and nothing was changed.
        HelmError: helm failed.
        NotReadyError: the update stopped at some node; the old daemon there continues to serve.
    """
    with add_on.interruptible():
        # Before preflight: values that suffice for an update may not suffice to enable the add-on, and the chart would
        # refuse them.
        with contextlib.suppress(ClusterAccessError):  # preflight reports it, together with its other findings
            if not add_on.helm.history():
                raise NotEnabledError.of("no release can be updated", _elsewhere(add_on))
        seen, findings = add_on.preflight(request)
        if dry_run:
            return planned(add_on, seen, findings)
        changed = _apply(add_on, request, seen)
        remedy = "`confcom rollback` undoes it"
        steps = _settle(add_on, "Updating node by node", deadline=deadline, remedy=remedy) if wait else ()
        return Changed(changed, add_on.revision(deadline=deadline), findings, steps)


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
            raise NotEnabledError.of("no release can be rolled back", _elsewhere(add_on))
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


def namespaces_of_others(daemon_sets: Iterable[KubernetesObject], here: str) -> tuple[str, ...]:
    """Return the other namespaces that have daemons of the add-on."""
    return tuple(sorted({namespace_of(one) for one in daemon_sets if component_of(one)} - {here}))


def _elsewhere(add_on: AddOn) -> tuple[str, ...]:
    try:
        found = add_on.api.list_objects("daemonsets.apps", "--all-namespaces")
    except ClusterAccessError:
        return ()  # it is only a hint
    return namespaces_of_others(found, add_on.cluster.namespace)


def _apply(add_on: AddOn, request: InstallRequest, seen: PreflightContext) -> bool:
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


def _settle(add_on: AddOn, title: str, *, deadline: float, remedy: str) -> tuple[NodeStep, ...]:
    """Wait for the daemons, and until their quotes are made under the cluster's simulated root."""
    steps = add_on.wait(title, deadline=deadline, remedy=remedy)
    await_root(add_on, deadline=deadline)
    return steps


def _namespace(name: str) -> KubernetesObject:
    labels = {NAME_LABEL: ADD_ON, ENFORCE_LABEL: PRIVILEGED}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
