"""What a node's quote helper counts, as Prometheus would read it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from e2e.add_on import SYSTEM, helper_on
from e2e.cluster import Cluster

PROBE_PORT = 8080


def answers_by_pod(cluster: Cluster, node: str) -> dict[str, dict[str, float]]:
    """How many answers each Pod got of the node's quote helper: by its UID, then by `success` or `failure`.

    What is told may be as old as a rendering is given to others who ask (`RENDERING_SECONDS`).
    """
    helper = helper_on(cluster, node)["metadata"]["name"]
    path = f"/api/v1/namespaces/{SYSTEM}/pods/{helper}:{PROBE_PORT}/proxy/metrics"
    text = cluster.kubectl("get", "--raw", path).stdout
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "confcom_quote_helper_pod_requests_total":
                found.setdefault(sample.labels["pod"], {})[sample.labels["outcome"]] = sample.value
    return found
