"""Enable and update the add-on: check the cluster, run helm, and wait until the daemons are ready."""

import contextlib
import secrets
from collections.abc import Iterator, Sequence

from confcom.addon import change, preflight
from confcom.addon.api import NAMESPACE, NODE, ForbiddenError
from confcom.addon.change import Changed
from confcom.addon.command import AddOn
from confcom.addon.drift import Comparison, Effect, FieldChange, ObjectChange, removed
from confcom.addon.helm import Rendering, Revision
from confcom.addon.owned_objects import delete_objects
from confcom.addon.preflight import Finding, PreflightError, PreflightInputs
from confcom.addon.preflight_inputs import InstallRequest, gather_preflight_inputs
from confcom.addon.rollback import undo_interrupted
from confcom.addon.simulated_root import create_root, secret_name
from confcom.kubernetes.names import NAME_LABEL, RELEASE
from confcom.kubernetes.node_selection import SIMULATED_LABEL
from confcom.simulation.root_seed import SEED_SIZE, RootSeed


def enable(add_on: AddOn, request: InstallRequest, *, dry_run: bool, wait: bool, timeout: float) -> Changed:
    """Install the add-on, or change it as requested; idempotent. After NotReadyError, the add-on is installed."""
    api, namespace = add_on.cluster.api, add_on.cluster.namespace
    with change.reporting_interruption(add_on.helm):
        if not dry_run and api.get(NAMESPACE, namespace) is None:
            _check(add_on, request, quiet=True)  # must precede the Lease, which needs the namespace
            labels = {NAME_LABEL: RELEASE, preflight.ENFORCE_LABEL: preflight.PRIVILEGED}
            metadata = {"name": namespace, "labels": labels}
            api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        with change.hold_lease(add_on, "enable", dry_run=dry_run):
            return _apply(add_on, request, dry_run=dry_run, wait=wait, timeout=timeout)


def update(add_on: AddOn, request: InstallRequest, *, dry_run: bool, wait: bool, timeout: float) -> Changed:
    """Update an enabled add-on: on each node, the old daemon serves until the new one is ready."""
    with change.reporting_interruption(add_on.helm):
        change.require_release(add_on)
        with change.hold_lease(add_on, "update", dry_run=dry_run):
            return _apply(add_on, request, dry_run=dry_run, wait=wait, timeout=timeout)


def _apply(add_on: AddOn, request: InstallRequest, *, dry_run: bool, wait: bool, timeout: float) -> Changed:
    cluster, api = add_on.cluster, add_on.cluster.api
    # 1. If a change was interrupted, undo it first: until then, helm refuses every other change.
    history: Sequence[Revision] = ()
    with contextlib.suppress(ForbiddenError):  # the checks below report all missing permissions
        history = add_on.helm.history()
    change.refuse_running_helm(history, add_on.now(), dry_run=dry_run)
    if history and history[-1].is_unfinished:
        undo_interrupted(add_on, history)
    # 2. Check everything that could make the change fail.
    inputs, rendering, findings = _check(add_on, request)
    revision = inputs.history[-1].number if inputs.history else 0
    found = change.compare_release(add_on, rendering.manifests)
    root = secret_name(rendering.workloads)
    lacks_root = inputs.root is not None and inputs.root.exists is False
    if dry_run:
        gone = removed((*inputs.installed, *inputs.unrecorded), rendering.manifests)
        changes = (*_without_helm(inputs, root if lacks_root else ""), *found.changes, *gone)
        _say_changes(add_on, found, changes)
        return Changed(changed=False, revision=revision, findings=findings, would_change=changes)
    # 3. Run helm, unless the release and the cluster already match the request.
    seed = RootSeed(secrets.token_bytes(SEED_SIZE), int(add_on.now().timestamp()))
    created = lacks_root and inputs.makes_root and create_root(cluster, seed, root)
    if created:
        add_on.reporter.say(
            f"Created the cluster's simulated root, the Secret {root}: relying parties need the output of "
            "`confcom simulation export`."
        )
    before, after = (sorted(map(repr, some)) for some in (inputs.installed, rendering.manifests))
    deployed = any(last.is_deployed for last in inputs.history[-1:])
    recorded = deployed and inputs.values.stored == rendering.config and before == after
    if needed := not recorded or bool(found.changes):
        change.mend_objects(add_on, rendering.manifests, found)
        add_on.reporter.say("helm upgrades the release ..." if inputs.history else "helm installs the chart ...")
        add_on.helm.upgrade(request.chart, inputs.values)
        for one in found.changes if recorded else ():
            add_on.reporter.say(f"Restored: {one}.")
        delete_objects(cluster, inputs.unrecorded, add_on.reporter.say)
    else:
        add_on.reporter.say("The release already has the requested state.")
    # Label nodes after helm's change: a helper that starts before the change keeps the old EPC accounting.
    for node in inputs.unlabelled_nodes:
        api.merge(NODE, node, {"metadata": {"labels": {SIMULATED_LABEL: "true"}}})
        add_on.reporter.say(f"Labelled the node {node} {SIMULATED_LABEL}=true.")
    # 4. Wait until the daemons are ready, node by node.
    change.wait_for_daemons(add_on, wait=wait, timeout=timeout)
    changed = needed or created or bool(inputs.unlabelled_nodes)
    return Changed(changed=changed, revision=revision + needed, findings=findings)


def _check(
    add_on: AddOn, request: InstallRequest, *, quiet: bool = False
) -> tuple[PreflightInputs, Rendering, tuple[Finding, ...]]:
    if not quiet:
        add_on.reporter.say("Checking the cluster ...")
    inputs = gather_preflight_inputs(add_on.helm, request, add_on.now)
    findings = preflight.run_checks(inputs)
    change.report_findings(add_on, findings, quiet=quiet)
    if inputs.rendering is None:  # one of the findings has failed, and says why
        raise PreflightError(findings)
    return inputs, inputs.rendering, findings


def _without_helm(inputs: PreflightInputs, root: str) -> Iterator[ObjectChange]:
    if not inputs.has_namespace:
        yield ObjectChange("Namespace", inputs.namespace, Effect.MADE)
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
