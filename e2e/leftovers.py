"""All objects of a cluster, for cases that look for what was left there."""

from __future__ import annotations

from e2e.cluster import Cluster


def api_objects(cluster: Cluster) -> set[str]:
    kinds = cluster.kubectl("api-resources", "--verbs=list", "--output=name").stdout.split()
    columns = "--output=custom-columns=NS:.metadata.namespace,NAME:.metadata.name"
    found = set()
    for kind in kinds:
        if kind.partition(".")[0] not in {"events", "leases"}:
            listed = cluster.kubectl("get", kind, "--all-namespaces", columns, "--no-headers").stdout
            found |= {f"{kind}/{'/'.join(line.split())}" for line in listed.splitlines()}
    return found
