"""The error of a command that needs an enabled add-on, and where else in the cluster the add-on is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from confcom.addon.cluster.programs import ClusterAccessError
from confcom.addon.model.chart_objects import component_of
from confcom.addon.operations.apply.add_on import AddOn
from confcom.errors import ConfcomError, ExitCode
from confcom.kubernetes.objects import KubernetesObject, namespace_of


class NotEnabledError(ConfcomError):
    """The add-on is not enabled in this namespace, or was not installed by helm."""

    error_code = "not-enabled"
    exit_code = ExitCode.REFUSED

    @classmethod
    def of(cls, what: str, elsewhere: Sequence[str]) -> NotEnabledError:
        """Create the error, with advice that names other namespaces of the add-on.

        Args:
            what: what could not be done.
            elsewhere: the other namespaces that have the add-on.
        """
        if not elsewhere:
            return cls(what, why="the add-on is not enabled", remedy="confcom enable")
        why = f"the add-on is installed in {', '.join(elsewhere)}"
        return cls(what, why=why, remedy=f"run the same command with --namespace {elsewhere[0]}")


def namespaces_of_others(daemon_sets: Iterable[KubernetesObject], here: str) -> tuple[str, ...]:
    """Return the other namespaces that have daemons of the add-on."""
    return tuple(sorted({namespace_of(one) for one in daemon_sets if component_of(one)} - {here}))


def other_namespaces(add_on: AddOn) -> tuple[str, ...]:
    """Return the other namespaces of the cluster that have the add-on; empty if they cannot be listed."""
    try:
        found = add_on.api.list_objects("daemonsets.apps", "--all-namespaces")
    except ClusterAccessError:
        return ()  # it is only a hint
    return namespaces_of_others(found, add_on.cluster.namespace)
