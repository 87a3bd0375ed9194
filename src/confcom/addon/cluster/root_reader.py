"""Asks the quote helpers which simulated root they use."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent import futures

from confcom.addon.cluster.kubectl import KubeApi
from confcom.addon.cluster.programs import ClusterAccessError, ForbiddenError
from confcom.addon.daemons.simulated_root import RootObservation, follows_root, nodes_by_pod, older_helpers, root_of
from confcom.kubernetes.objects import KubernetesObject, name_of
from confcom.simulated_root.record import RECORD_NAME, RootRecord

MOST_ASKED = 100
"""Maximum number of helpers in one read, each with its own kubectl. Only helpers that are older than the published root
are asked."""
ASKED_AT_ONCE = 8
"""Concurrent kubectls: each takes a tenth of a second of CPU, and otherwise waits for the API server."""
METRICS_PORT = 8080
"""The port of the helpers' probes and metrics, as in the chart."""


def look_at_root(
    api: KubeApi, daemons: Sequence[KubernetesObject], pods: Sequence[KubernetesObject]
) -> RootObservation | None:
    """Read which root is published, and which root the helpers use that may have an older one.

    Args:
        api: the cluster.
        daemons: the add-on's DaemonSets.
        pods: pods of any kind, including the add-on's.

    Returns:
        The observation; None if no helper follows a published root.

    Raises:
        ClusterAccessError: the API server does not answer.
    """
    if not any(map(follows_root, daemons)):
        return None
    try:
        found = api.find_config_map(RECORD_NAME)
    except ForbiddenError as error:
        return RootObservation(None, refusal=error.why or error.what)
    record = RootRecord.read(found) if found is not None else None
    if record is None:
        return RootObservation(None, damaged=found is not None)
    older = older_helpers(pods, record, api.cluster.namespace)
    names = [name_of(pod) for pod in older]
    fingerprints: dict[str, str] = {}
    unreachable = dict.fromkeys(names[MOST_ASKED:], f"more than {MOST_ASKED} would have to be asked")
    with futures.ThreadPoolExecutor(max_workers=ASKED_AT_ONCE) as pool:
        asked = names[:MOST_ASKED]
        for name, (fingerprint, why) in zip(asked, pool.map(lambda one: _ask(api, one), asked), strict=True):
            if fingerprint:
                fingerprints[name] = fingerprint
            else:
                unreachable[name] = why
    return RootObservation(record, fingerprints=fingerprints, unreachable=unreachable, nodes=nodes_by_pod(older))


def _ask(api: KubeApi, pod: str) -> tuple[str, str]:
    """Return the fingerprint of the root that a helper uses, and why it is unknown; one of the two is empty."""
    try:
        fingerprint = root_of(api.pod_metrics(pod, METRICS_PORT))
    except ClusterAccessError as error:
        return "", error.why or error.what
    return fingerprint, "" if fingerprint else "its metrics name no root"
