"""Disabling the add-on: everything is removed except what is kept on purpose, such as the simulated root."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from confcom.addon.cluster.helm import RELEASE, Helm, HelmError
from confcom.addon.cluster.processes import Watch
from confcom.addon.cluster.snapshot_reader import fetch_cluster_snapshot, fetch_daemon_snapshot
from confcom.addon.daemons.controller_pods import is_controller
from confcom.addon.model.chart_objects import component_of, group_of, own_component
from confcom.addon.model.problems import shown
from confcom.addon.model.sgx_nodes import SIMULATED_LABEL
from confcom.addon.operations.apply.add_on import POLL_SECONDS, AddOn
from confcom.addon.operations.apply.journal import Phase
from confcom.addon.operations.nodes.stale_resource_cleanup import clean_nodes, remove_written
from confcom.addon.operations.not_enabled import NotEnabledError, namespaces_of_others
from confcom.addon.preflight.findings import PreflightError
from confcom.addon.preflight.permissions import CLEANING, READING, STORING, Permission, denied, is_cluster_wide, plural
from confcom.addon.preflight.preflight import permissions_missing
from confcom.addon.release.running_change import running_change
from confcom.addon.rollout.progress import Mark, Row
from confcom.addon.rollout.rollout_report import NotReadyError
from confcom.addon.rollout.snapshot import Snapshot
from confcom.addon.status.stale_resources import Stage
from confcom.addon.workloads.workloads import RunningWorkload, in_use, running_workloads
from confcom.errors import ConfcomError, ExitCode
from confcom.kubernetes.objects import KubernetesObject, labels_of, name_of
from confcom.simulated_root.record import RECORD_NAME, SECRET_NAME

POLICY_KINDS = (
    "MutatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
)
"""Kinds that can refuse pods, in the order of removal: a binding without its policy would be an error for every pod."""
POD_TERMINATION_SECONDS = 120.0
"""Deadline for the end of the daemons' pods: their grace period is 30 s, and a kubelet that restarts needs longer."""

Consent = Callable[[Sequence[RunningWorkload]], bool]


class NoConsentError(ConfcomError):
    """The user did not consent."""

    error_code = "no-consent"
    exit_code = ExitCode.REFUSED


@dataclass(frozen=True, slots=True)
class Disabled:
    """The result of disabling the add-on.

    Args:
        removed: whether there was a release to remove.
        kept: descriptions of what is kept on purpose.
        leftovers: by the node's name, the resources that are still in its status.
    """

    removed: bool
    kept: tuple[str, ...]
    leftovers: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return it for `--output json`."""
        return {
            "removed": self.removed,
            "kept": list(self.kept),
            "leftovers": {node: list(names) for node, names in self.leftovers},
        }


def disable_add_on(add_on: AddOn, *, consent: Consent, wait: bool, interrupted: bool) -> Disabled:
    """Remove the policies, then the daemons, then what is left of their resources on the nodes.

    It is idempotent: a repeated call finishes what an earlier one left, and otherwise changes nothing.

    Args:
        add_on: the add-on of the cluster.
        consent: called if workloads use the add-on; returns whether the user consents to their loss of it.
        wait: whether to wait for the kubelet's five minutes and to clean the nodes.
        interrupted: whether the user states that no helm is running the last change any more.

    Raises:
        NotEnabledError: the add-on is in another namespace, or was not installed by helm.
        RunningChangeError: helm may still be running the last change.
        NoConsentError: workloads use the add-on, and the user did not consent; nothing was changed.
        PreflightError: this user lacks permissions.
        HelmError: helm failed.
        NotReadyError: something is left that can only be removed later.
    """
    add_on.journal.removes = True
    with add_on.interruptible():
        return _disable(add_on, consent=consent, wait=wait, interrupted=interrupted)


def _disable(add_on: AddOn, *, consent: Consent, wait: bool, interrupted: bool) -> Disabled:
    with add_on.reporter.busy("Looking at the cluster"):
        seen = fetch_cluster_snapshot(add_on.api)
        history = add_on.helm.history()
        parts = (add_on.helm.installed(), add_on.helm.hooks()) if history else ((), ())
    if not interrupted and (other := running_change(history, add_on.now())):
        raise other
    _refuse_foreign(seen, add_on, released=bool(history))
    _check_permissions(add_on, (*parts[0], *parts[1]))
    workloads = running_workloads(seen.pods, seen.namespace) if history else ()
    if workloads:
        if not consent(workloads):
            raise NoConsentError(
                "nothing was changed",
                why=f"{in_use(workloads)}, and the removal was not confirmed",
                remedy="delete them first, or confirm with --yes",
            )
        # The user may take minutes to answer, and helm uninstalls a release even while another helm changes it.
        if not interrupted and (other := running_change(add_on.helm.history(), add_on.now())):
            raise other
    if history:
        add_on.journal.before = history[-1].number
        _remove(add_on, *parts)
    else:
        add_on.reporter.say("The add-on is not enabled.")
        add_on.journal.phase = Phase.MADE
    kept = add_on.retry_while_unreachable(lambda: _kept(add_on, seen), deadline=POD_TERMINATION_SECONDS)
    if wait:
        clean_nodes(add_on)
        return Disabled(bool(history), kept)
    left = add_on.retry_while_unreachable(lambda: remove_written(add_on), deadline=POD_TERMINATION_SECONDS)
    names = tuple((one.node, one.names) for one in left if one.stage is not Stage.CLEAN)
    return Disabled(bool(history), kept, names)


def _refuse_foreign(seen: Snapshot, add_on: AddOn, *, released: bool) -> None:
    daemons = [name_of(one) for one in seen.daemon_sets if own_component(one, seen.namespace)]
    if daemons and not released:
        raise NotEnabledError(
            f"the DaemonSets {', '.join(daemons)} are not from helm's release {RELEASE}",
            error_code="not-installed-by-helm",
            why=f"{add_on.cluster.described} has no such release: the manifests were applied without helm",
            remedy="delete the manifests (kubectl delete -f), then run `confcom disable` again",
        )
    if not released and (elsewhere := namespaces_of_others(seen.daemon_sets, seen.namespace)):
        raise NotEnabledError.of(f"the add-on is not in the namespace {seen.namespace}", elsewhere)


def _check_permissions(add_on: AddOn, manifests: Sequence[KubernetesObject]) -> None:
    here = add_on.cluster.namespace
    kinds = sorted({(group_of(one), str(one["kind"])) for one in manifests})
    asked = [*READING, CLEANING, *(Permission(verb, "secrets", namespace=here) for verb in STORING)]
    asked += [Permission("delete", plural(kind), group, "" if is_cluster_wide(kind) else here) for group, kind in kinds]
    missing = denied(asked, add_on.api.review([one.review() for one in asked]))
    if missing:
        finding = permissions_missing(missing)
        add_on.reporter.findings([finding])
        raise PreflightError([finding])


def _remove(add_on: AddOn, manifests: Sequence[KubernetesObject], hooks: Sequence[KubernetesObject]) -> None:
    for kind in POLICY_KINDS:
        names = [name_of(one) for one in manifests if one["kind"] == kind]
        if names:
            with add_on.journal.change(f"{kind} {', '.join(names)} was removed"):
                add_on.api.delete(kind, names)
            add_on.reporter.say(f"Removed {kind} {', '.join(names)}.")
    with add_on.reporter.busy("helm removes the daemons"):
        try:
            add_on.run_helm(Helm.uninstall, Watch())
        except HelmError as error:
            rest = "run `confcom disable` again to remove the rest, or `confcom enable` to restore what was removed"
            error.remedy = f"{rest}; {error.remedy}"
            raise
    add_on.retry_while_unreachable(lambda: _remove_hooks(add_on, hooks), deadline=POD_TERMINATION_SECONDS)
    _wait_for_the_end(add_on)


def _remove_hooks(add_on: AddOn, hooks: Sequence[KubernetesObject]) -> None:
    # Helm leaves the objects of a failed hook for inspection, and never removes them. In the order of the kinds' names,
    # so that Roles and bindings are removed before the policy that limits them.
    for kind in sorted({f"{one['kind']}.{group_of(one)}".rstrip(".") for one in hooks}):
        short = kind.partition(".")[0]
        names = [name_of(one) for one in hooks if one["kind"] == short]
        add_on.api.delete(kind, names, namespace="" if is_cluster_wide(short) else add_on.cluster.namespace)


def _wait_for_the_end(add_on: AddOn) -> None:
    deadline = add_on.clock() + POD_TERMINATION_SECONDS
    with add_on.reporter.waiting("The daemons end") as table:
        while True:
            seen = add_on.retry_while_unreachable(
                lambda: fetch_daemon_snapshot(add_on.api), deadline=POD_TERMINATION_SECONDS, table=table
            )
            pods = [pod for pod in seen.pods if component_of(pod) or is_controller(pod, seen.namespace)]
            table.show([Row(name_of(pod), "ends", Mark.WAITING) for pod in pods])
            if not pods:
                return
            if add_on.clock() > deadline:
                raise NotReadyError(
                    f"{shown([name_of(pod) for pod in pods])} did not end within {POD_TERMINATION_SECONDS:.0f} s",
                    error_code="pods-not-terminated",
                    why="their kubelet does not respond, or a finalizer blocks their deletion",
                    remedy="see kubectl describe pod; run `confcom disable` again when they are gone",
                )
            add_on.sleep(POLL_SECONDS)


def _kept(add_on: AddOn, seen: Snapshot) -> tuple[str, ...]:
    here = add_on.cluster.namespace
    kept = []
    if add_on.api.exists("secret", SECRET_NAME):
        kept.append(
            f"the Secret {here}/{SECRET_NAME}, the cluster's simulated root: if the add-on is enabled again, it is "
            "the same "
            f"platform to relying parties (to delete it: kubectl delete secret -n {here} {SECRET_NAME}, with "
            f"which Kubernetes deletes the ConfigMap {RECORD_NAME})"
        )
    if add_on.api.find_namespace() is not None:
        kept.append(f"the namespace {here} (if it is no longer needed: kubectl delete namespace {here})")
    labelled = _labelled(seen.nodes)
    if labelled:
        kept.append(f"the label {SIMULATED_LABEL} on {shown(labelled)} (kubectl label node NODE {SIMULATED_LABEL}-)")
    return tuple(kept)


def _labelled(nodes: Iterable[KubernetesObject]) -> list[str]:
    return [name_of(node) for node in nodes if SIMULATED_LABEL in labels_of(node)]
