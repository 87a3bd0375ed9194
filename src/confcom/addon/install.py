"""Enabling, updating and rolling back the add-on: checks before, Helm, and a wait until the daemons are ready.

`enable` and `update` are one sequence (`_apply`). Every step may be repeated: an interrupted command is completed by
the same command.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from confcom.addon import drift, preflight
from confcom.addon.change_lease import ChangeRefusedError, change_lease, holder_name
from confcom.addon.chart_objects import SIMULATED_LABEL, daemons_in
from confcom.addon.cluster import DAEMON_SET, NAMESPACE, NODE, SECRET, Cluster, ClusterAccessError, ForbiddenError
from confcom.addon.drift import Comparison, Effect, FieldChange, ObjectChange, removed
from confcom.addon.helm import Helm, Rendering, Revision
from confcom.addon.owned_objects import delete_objects
from confcom.addon.preflight import Finding, Outcome, PreflightError, PreflightInputs
from confcom.addon.preflight_inputs import InstallRequest, check_rollback, gather_preflight_inputs
from confcom.addon.simulated_root import create_root, secret_name
from confcom.addon.waiting import NOT_SHOWN, ProgressReporter, wait_until_ready
from confcom.errors import ConfcomError, ExitCode
from confcom.kubernetes.names import NAME_LABEL, RELEASE
from confcom.kubernetes.objects import KubernetesObject, mapping, name_of, text
from confcom.simulation.root_seed import SEED_SIZE, RootSeed

AGAIN = "run the same command again to complete the change; `confcom status` shows the state"
HELM_QUIET_SECONDS = 60.0
"""Age at which an unfinished revision counts as interrupted. No other confcom runs then, since this one has the Lease;
a plain helm that waits for Pods may take longer, and only its user knows."""


class ChangeInterruptedError(ConfcomError):
    """A change was interrupted by Ctrl-C or SIGTERM."""

    error_code = "interrupted"
    exit_code = ExitCode.INTERRUPTED


@dataclass(frozen=True, slots=True)
class AddOn:
    """The add-on of one cluster, and the clocks and display of the command that changes it."""

    cluster: Cluster
    helm: Helm
    reporter: ProgressReporter
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    now: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Changed:
    cluster: Cluster
    changed: bool
    revision: int
    """The release's revision number; 0: there is no release."""
    findings: tuple[Finding, ...] = ()
    would_change: tuple[ObjectChange, ...] | None = None
    """With --dry-run, the changes that were not made."""

    def to_json(self) -> dict[str, object]:
        would = {} if self.would_change is None else {"would_change": [one.to_json() for one in self.would_change]}
        return {
            "cluster": self.cluster.to_json(),
            "changed": self.changed,
            "revision": self.revision,
            "findings": [one.to_json() for one in self.findings],
            **would,
        }


def enable(add_on: AddOn, request: InstallRequest, *, dry_run: bool, wait: bool, timeout: float) -> Changed:
    """Install the add-on, or change it to the request; it is idempotent. After a NotReadyError it is installed."""
    api, namespace = add_on.cluster.api, add_on.cluster.namespace
    with reporting_interruption(add_on.helm):
        if not dry_run and api.get(NAMESPACE, namespace) is None:
            _check(add_on, request, quiet=True)  # without a namespace there is no Lease to hold yet
            labels = {NAME_LABEL: RELEASE, preflight.ENFORCE_LABEL: preflight.PRIVILEGED}
            metadata = {"name": namespace, "labels": labels}
            api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        with _lease(add_on, "enable", dry_run=dry_run):
            return _apply(add_on, request, dry_run=dry_run, wait=wait, timeout=timeout)


def update(add_on: AddOn, request: InstallRequest, *, dry_run: bool, wait: bool, timeout: float) -> Changed:
    """Update an enabled add-on: on each node, the old daemon serves until the new one is ready."""
    with reporting_interruption(add_on.helm):
        _require_release(add_on)
        with _lease(add_on, "update", dry_run=dry_run):
            return _apply(add_on, request, dry_run=dry_run, wait=wait, timeout=timeout)


def _lease(add_on: AddOn, command: str, *, dry_run: bool) -> contextlib.AbstractContextManager[None]:
    if dry_run:
        return contextlib.nullcontext()
    return change_lease(add_on.cluster, holder_name(command), add_on.now)


def roll_back(add_on: AddOn, revision: int | None, *, wait: bool, timeout: float) -> Changed:
    """Roll the add-on back to a revision; None: the one that undoes the last change."""
    recorded = "if helm recorded the rollback, `confcom status --wait` waits on; a second one goes further back"
    with reporting_interruption(add_on.helm, recorded):
        _require_release(add_on)
        with _lease(add_on, "rollback", dry_run=False):
            history = add_on.helm.history()
            refuse_running_helm(history, add_on.now())
            target = previous(history) if revision is None else revision
            if target not in {one.number for one in history}:
                known = ", ".join(str(one.number) for one in history)
                raise _no_revision(f"there is no revision {target}", f"the revisions are {known}")
            manifests = add_on.helm.manifests(target)
            findings = check_rollback(add_on.cluster, manifests, target, add_on.now)
            _report(add_on, findings)
            _helm_rollback(add_on, target, manifests)
            _wait(add_on, wait=wait, timeout=timeout)
            return Changed(add_on.cluster, changed=True, revision=history[-1].number + 1, findings=findings)


def previous(history: Sequence[Revision]) -> int:
    """Return the number of the revision that undoes the last change that has not been undone yet.

    A second rollback goes further back instead of undoing the first. Helm keeps ten revisions: the first may be gone.
    """
    content: dict[int, int] = {}  # by revision: the first revision with the same content
    for one in history:
        content[one.number] = content.get(one.copy_of, one.copy_of) or one.number
    applied = [one.number for one in history if one.was_applied]
    last = history[-1]
    if not last.was_applied and last.copy_of in content:  # a rollback that failed is repeated
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


def _require_release(add_on: AddOn) -> None:
    history = add_on.helm.history()
    if history and history[-1].status == "uninstalling":
        raise ChangeRefusedError(
            "the add-on is being removed",
            error_code="not-enabled",
            why=history[-1].described,
            remedy="`confcom disable` completes the removal; then `confcom enable` installs it again",
        )
    if not history:
        place = add_on.cluster.namespace
        if daemons_in(add_on.cluster.api.list(DAEMON_SET, place)):
            raise ChangeRefusedError(
                f"helm has no record of the release in the namespace {place}, whose DaemonSets are there",
                error_code="release-missing",
                remedy="`confcom enable` with all values that were set installs it again, and helm records it",
            )
        raise ChangeRefusedError(
            f"the add-on is not enabled in the namespace {place}",
            error_code="not-enabled",
            remedy="run `confcom enable`, or name another namespace with --namespace; `helm list -A` lists releases",
        )


@contextlib.contextmanager
def reporting_interruption(helm: Helm, remedy: str = AGAIN) -> Iterator[None]:
    """Turn a KeyboardInterrupt into the error that says the state of helm's record."""
    try:
        yield
    except KeyboardInterrupt as error:
        try:
            history = helm.history()
        except ClusterAccessError as unread:
            record = f"helm's record cannot be read: {unread.why}"
        else:
            record = f"by helm's record, {history[-1].described}" if history else "helm has recorded no release"
        raise ChangeInterruptedError("the command was interrupted", why=record, remedy=remedy) from error


def _apply(add_on: AddOn, request: InstallRequest, *, dry_run: bool, wait: bool, timeout: float) -> Changed:
    cluster, api = add_on.cluster, add_on.cluster.api
    # 1. A change that was killed is undone, since helm makes no other one before.
    history: Sequence[Revision] = ()
    with contextlib.suppress(ForbiddenError):  # the checks name all permissions that this user lacks
        history = add_on.helm.history()
    refuse_running_helm(history, add_on.now(), dry_run=dry_run)
    if history and history[-1].is_unfinished:
        _undo_interrupted(add_on, history)
    # 2. Everything that could make the change fail is checked.
    inputs, rendering, findings = _check(add_on, request)
    revision = inputs.history[-1].number if inputs.history else 0
    found = _compared(add_on, rendering.manifests)
    root = secret_name(rendering.manifests)
    lacks_root = bool(root) and not api.exists(SECRET, root, cluster.namespace)
    if dry_run:
        gone = removed((*inputs.installed, *inputs.unrecorded), rendering.manifests)
        changes = (*_without_helm(inputs, root if lacks_root else ""), *found.changes, *gone)
        _say_changes(add_on, found, changes)
        return Changed(cluster, changed=False, revision=revision, findings=findings, would_change=changes)
    # 3. Helm installs, unless release and cluster match the request.
    seed = RootSeed(secrets.token_bytes(SEED_SIZE), int(add_on.now().timestamp()))
    created = lacks_root and inputs.makes_root and create_root(cluster, seed, root)
    if created:
        add_on.reporter.say(
            f"Created the cluster's simulated root, the Secret {root}: relying parties need the output of "
            "`confcom simulation export`."
        )
    recorded = _is_recorded(inputs, rendering)
    if needed := not recorded or bool(found.changes):
        _mend(add_on, rendering.manifests, found)
        add_on.reporter.say("helm upgrades the release ..." if inputs.history else "helm installs the chart ...")
        add_on.helm.upgrade(request.chart, inputs.values)
        for one in found.changes if recorded else ():
            add_on.reporter.say(f"Restored: {one}.")
        delete_objects(cluster, inputs.unrecorded, add_on.reporter.say)
    else:
        add_on.reporter.say("The release already has the requested state.")
    # A node that joins starts with the new values: one with a helper keeps how its EPC is counted.
    for node in inputs.unlabelled_nodes:
        api.merge(NODE, node, {"metadata": {"labels": {SIMULATED_LABEL: "true"}}})
        add_on.reporter.say(f"Labelled the node {node} {SIMULATED_LABEL}=true.")
    # 4. The daemons become ready, node by node.
    _wait(add_on, wait=wait, timeout=timeout)
    changed = needed or created or bool(inputs.unlabelled_nodes)
    return Changed(cluster, changed=changed, revision=revision + needed, findings=findings)


def _check(
    add_on: AddOn, request: InstallRequest, *, quiet: bool = False
) -> tuple[PreflightInputs, Rendering, tuple[Finding, ...]]:
    if not quiet:
        add_on.reporter.say("Checking the cluster ...")
    inputs = gather_preflight_inputs(add_on.cluster, add_on.helm, request, add_on.now)
    findings = preflight.run_checks(inputs)
    _report(add_on, findings, quiet=quiet)
    if not isinstance(inputs.rendering, Rendering):  # its absence is a failed finding
        raise PreflightError(findings)
    return inputs, inputs.rendering, findings


def _report(add_on: AddOn, findings: Sequence[Finding], *, quiet: bool = False) -> None:
    failed = any(one.outcome is Outcome.FAILED for one in findings)
    if failed or not quiet:
        add_on.reporter.findings(findings)
    if failed:
        raise PreflightError(findings)


def refuse_running_helm(history: Sequence[Revision], now: datetime, *, dry_run: bool = False) -> None:
    """Refuse while a plain helm may be changing the release; a dry run cannot undo its change either."""
    last = history[-1] if history else None
    age = (now - last.updated).total_seconds() if last and last.updated else HELM_QUIET_SECONDS
    left = max(HELM_QUIET_SECONDS - age, 0)
    if last and last.is_unfinished and (left or dry_run):
        command = "the same command without --dry-run" if dry_run else "the same command again"
        raise ChangeRefusedError(
            "nothing was changed: helm may be changing the release",
            error_code="change-running",
            why=last.described,
            remedy=f"run {command} when it has ended; if it was killed, in {left:.0f} s",
        )


def _undo_interrupted(add_on: AddOn, history: Sequence[Revision]) -> None:
    """Return the release to the last revision that was applied; remove it if there is none."""
    last = history[-1]
    applied = [] if last.status == "uninstalling" else [one.number for one in history if one.was_applied]
    undone = f"back to revision {applied[-1]}" if applied else "removing the rest"
    add_on.reporter.say(f"The last change was interrupted ({last.described}): {undone}.")
    if applied:
        _helm_rollback(add_on, applied[-1], add_on.helm.manifests(applied[-1]))
    else:
        add_on.helm.uninstall()


def _helm_rollback(add_on: AddOn, revision: int, manifests: Sequence[KubernetesObject]) -> None:
    _mend(add_on, manifests, _compared(add_on, manifests))
    add_on.reporter.say(f"helm rolls back to revision {revision} ...")
    add_on.helm.rollback(revision)


def _compared(add_on: AddOn, manifests: Sequence[KubernetesObject]) -> Comparison:
    """Compare manifests with the cluster; refuse if only a person may mend an object, or a new one would be invalid."""
    api, namespace = add_on.cluster.api, add_on.cluster.namespace
    found = drift.compare(api, manifests, namespace)
    for manifest in _of(manifests, found, Effect.RECREATED):
        _, name, where = drift.place_of(manifest, namespace)
        metadata = {**mapping(manifest, "metadata"), "name": f"{name}-preflight", "namespace": where}
        api.create({**manifest, "metadata": metadata}, dry_run=True)
    if command := drift.deletion(found.changes, namespace):
        lost = "; ".join(str(one) for one in found.changes if one.effect is Effect.RECREATED)
        raise ChangeRefusedError(
            "nothing was changed: an apply cannot mend an object that has Pods",
            error_code="object-not-mendable",
            why=lost,
            remedy=f"{command}; then run the same command again",
        )
    return found


def _mend(add_on: AddOn, manifests: Sequence[KubernetesObject], found: Comparison) -> None:
    """Mend the objects that helm's apply cannot mend."""
    api, namespace = add_on.cluster.api, add_on.cluster.namespace
    for manifest in _of(manifests, found, Effect.REPLACED):
        drift.replace(api, manifest, namespace)
    for manifest in _of(manifests, found, Effect.RECREATED):
        kind, name, where = drift.place_of(manifest, namespace)
        api.delete(kind, name, where)
        add_on.reporter.say(f"Deleted the {kind.__name__} {name}, which no apply can mend: helm creates it anew.")


def _of(manifests: Sequence[KubernetesObject], found: Comparison, effect: Effect) -> list[KubernetesObject]:
    names = {(one.kind, one.name) for one in found.changes if one.effect is effect}
    return [one for one in manifests if (text(one, "kind"), name_of(one)) in names]


def _is_recorded(inputs: PreflightInputs, rendering: Rendering) -> bool:
    return (
        bool(inputs.history)
        and inputs.history[-1].is_deployed
        and inputs.values.stored == rendering.config
        and sorted(map(repr, inputs.installed)) == sorted(map(repr, rendering.manifests))
    )


def _wait(add_on: AddOn, *, wait: bool, timeout: float) -> None:
    if wait:
        table = add_on.reporter.table("Waiting for the daemons")
        status = wait_until_ready(add_on.cluster, table, add_on.clock, add_on.sleep, timeout=timeout)
        if any(one.code in NOT_SHOWN for one in status.problems):
            add_on.reporter.say("The nodes show their EPC within 10 s: `confcom status --wait` waits for it.")


def _without_helm(inputs: PreflightInputs, root: str) -> Iterator[ObjectChange]:
    if not inputs.namespace:
        yield ObjectChange("Namespace", inputs.namespace_name, Effect.MADE)
    if root:
        yield ObjectChange("Secret", root, Effect.MADE)
    label = FieldChange(f"metadata.labels.{SIMULATED_LABEL}", None, "true")
    yield from (ObjectChange("Node", name, Effect.CHANGED, (label,)) for name in inputs.unlabelled_nodes)


def _say_changes(add_on: AddOn, found: Comparison, changes: Sequence[ObjectChange]) -> None:
    say = add_on.reporter.say
    end = ", as far as it was compared:" if found.not_compared else "."
    same = f"The cluster already has the requested state{end}"
    say("Nothing was changed. " + ("Without --dry-run:" if changes else same))
    for one in changes:
        say(f"  {one}")
    for reason in found.not_compared:
        say(f"  not compared: {reason}")
