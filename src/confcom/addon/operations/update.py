"""Updating an enabled add-on, node by node."""

from __future__ import annotations

import contextlib

from confcom.addon.cluster.preflight_reader import InstallRequest
from confcom.addon.cluster.programs import ClusterAccessError
from confcom.addon.operations.apply.add_on import AddOn
from confcom.addon.operations.apply.dry_run import Changed, planned
from confcom.addon.operations.apply.up_to_date import apply_if_needed
from confcom.addon.operations.nodes.root_wait import await_daemons
from confcom.addon.operations.not_enabled import NotEnabledError, other_namespaces


def update_add_on(add_on: AddOn, request: InstallRequest, *, dry_run: bool, wait: bool, deadline: float) -> Changed:
    """Update an enabled add-on, node by node: on each node, the old daemon serves until the new one is ready.

    Args:
        add_on: the add-on of the cluster.
        request: what the user wants to change.
        dry_run: whether to stop before anything is changed.
        wait: whether to wait until every node is ready.
        deadline: seconds without progress after which waiting ends.

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
                raise NotEnabledError.of("no release can be updated", other_namespaces(add_on))
        seen, findings = add_on.preflight(request)
        if dry_run:
            return planned(add_on, seen, findings)
        changed = apply_if_needed(add_on, request, seen)
        remedy = "`confcom rollback` undoes it"
        steps = await_daemons(add_on, "Updating node by node", deadline=deadline, remedy=remedy) if wait else ()
        return Changed(changed, add_on.revision(deadline=deadline), findings, steps)
