"""What a node's quote helper counts, as Prometheus would read it."""

from __future__ import annotations

from e2e.add_on import helper_on
from e2e.cluster import Cluster
from e2e.probes import samples


def answers_by_pod(cluster: Cluster, node: str) -> dict[str, dict[str, float]]:
    """How many answers each Pod got of the node's quote helper: by its UID, then by `success` or `failure`.

    What is told may be as old as a rendering is given to others who ask (`RENDERING_SECONDS`).
    """
    found: dict[str, dict[str, float]] = {}
    for sample in samples(cluster, helper_on(cluster, node)):
        if sample.name == "confcom_quote_helper_pod_requests_total":
            found.setdefault(sample.labels["pod"], {})[sample.labels["outcome"]] = sample.value
    return found
