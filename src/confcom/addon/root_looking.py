"""Asking the quote helpers by which simulated root they quote."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent import futures

from confcom.addon.kubectl import KubeApi
from confcom.addon.objects import KubernetesObject, name_of
from confcom.addon.programs import ClusterAccessError, ForbiddenError
from confcom.addon.root_record import RECORD_NAME, RootRecord
from confcom.addon.root_sight import RootObservation, follows_root, nodes_by_pod, older_helpers, root_of

MOST_ASKED = 100
"""Helpers in one look, each by a kubectl of its own. Only those are asked that are older than the published root."""
ASKED_AT_ONCE = 8
"""A kubectl takes a tenth of a second of CPU, and waits for the API server otherwise."""
METRICS_PORT = 8080
"""Of the helpers' probes and metrics, as the chart has it."""


def look_at_root(
    api: KubeApi, daemons: Sequence[KubernetesObject], pods: Sequence[KubernetesObject]
) -> RootObservation | None:
    """See which root is published and, of helpers that may have an older one, by which they quote.

    Args:
        api: the cluster.
        daemons: the add-on's DaemonSets.
        pods: any, the add-on's among them.

    Returns:
        None if no helper follows a published root.

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
    """The fingerprint by which a helper quotes, or why it is not known."""
    try:
        fingerprint = root_of(api.pod_metrics(pod, METRICS_PORT))
    except ClusterAccessError as error:
        return "", error.why or error.what
    return fingerprint, "" if fingerprint else "its metrics name no root"
