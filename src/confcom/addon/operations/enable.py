"""Enabling the add-on on a cluster."""

from __future__ import annotations

from confcom.addon.cluster.preflight_reader import InstallRequest
from confcom.addon.model.chart_objects import ADD_ON, NAME_LABEL
from confcom.addon.model.sgx_nodes import SIMULATED_LABEL
from confcom.addon.operations.apply.add_on import AddOn
from confcom.addon.operations.apply.dry_run import Changed, planned
from confcom.addon.operations.apply.up_to_date import apply_if_needed
from confcom.addon.operations.nodes.root_wait import await_daemons
from confcom.addon.preflight.preflight import ENFORCE_LABEL, PRIVILEGED
from confcom.kubernetes.objects import KubernetesObject


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
        changed = apply_if_needed(add_on, request, seen)
        remedy = "see `confcom status`; `confcom enable` again waits on"
        steps = await_daemons(add_on, "Waiting for the daemons", deadline=deadline, remedy=remedy) if wait else ()
        return Changed(changed, add_on.revision(deadline=deadline), findings, steps)


def _namespace(name: str) -> KubernetesObject:
    labels = {NAME_LABEL: ADD_ON, ENFORCE_LABEL: PRIVILEGED}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
