"""Reading the Secret with the simulated platform of a cluster, by kubectl with the user's own credentials."""

from __future__ import annotations

from confcom.addon.cluster.kubectl import Cluster
from confcom.addon.cluster.programs import (
    ClusterAccessError,
    ForbiddenError,
    Run,
    access_error,
    call,
    failure_reason,
    run_program,
)
from confcom.simulated_root.record import SECRET_NAME
from confcom.simulated_root.secret import decode_secret
from confcom.simulation.platform import SimulatedPlatform

_FAILURE = "the cluster's simulated root cannot be read"


def read_platform(cluster: Cluster, *, run: Run = run_program) -> SimulatedPlatform:
    """Read the simulated platform of a cluster. It stays in memory; the caller writes only what is exported from it.

    Raises:
        ClusterAccessError: kubectl is missing, the cluster does not answer or forbids it, or there is no root.
        MalformedError: the Secret is not from the add-on, or damaged.
    """
    # The command that the error advises prints only the Secret's name, in case it succeeds.
    by_hand, without_program = _get(cluster, "name"), "or, for a platform on this machine, give --state-dir"
    done = call(run, _get(cluster, "json"), _FAILURE, by_hand=by_hand, without_program=without_program)
    if b"(NotFound)" in done.stderr:
        raise ClusterAccessError(
            f"{cluster.described} has no Secret {SECRET_NAME}",
            error_code="simulated-root-not-found",
            why="the chart is not installed there with simulated.enabled=true, or its Job has not succeeded yet",
            remedy="name the installation's namespace with --namespace (`helm list -A` shows it) and the cluster with "
            "--context",
        )
    if b"(Forbidden)" in done.stderr:
        raise ForbiddenError(
            f"this user may not read the Secret {SECRET_NAME} in {cluster.described}",
            why=failure_reason(done),
            remedy="ask a user with this permission to export; the files are public",
        )
    if done.returncode:
        raise access_error(done, _FAILURE, by_hand=by_hand)
    return decode_secret(done.stdout)


def _get(cluster: Cluster, output: str) -> list[str]:
    return cluster.kubectl("get", cluster.namespace_flag, f"--output={output}", operands=["secret", SECRET_NAME])
