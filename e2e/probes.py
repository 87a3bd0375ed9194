"""Probes and metrics of the add-on's Pods, as the API server's proxy reaches them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from e2e.add_on import SYSTEM
from e2e.cluster import Cluster

PORT = 8080


def probed(cluster: Cluster, pod: dict[str, Any], path: str) -> str:
    """What a Pod answers at a path; an error if its status is not 200."""
    name = pod["metadata"]["name"]
    return cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{name}:{PORT}/proxy/{path}").stdout


def samples(cluster: Cluster, pod: dict[str, Any]) -> Iterator[Sample]:
    """All samples of a Pod's metrics, as Prometheus would read them; they may be a second old."""
    for family in text_string_to_metric_families(probed(cluster, pod, "metrics")):
        yield from family.samples
