"""Reads everything that `confcom status` shows: what does not depend on each other, at the same time."""

from __future__ import annotations

import dataclasses
from concurrent import futures

from confcom.addon.cluster.helm import Helm
from confcom.addon.cluster.installed_release import look_at_release
from confcom.addon.cluster.inventory_reader import look_at_epc
from confcom.addon.cluster.kubectl import KubeApi
from confcom.addon.cluster.snapshot_reader import (
    fetch_cluster_snapshot,
    look_at_api_server,
    look_at_refusals,
    look_at_root,
    with_managed_fields,
)
from confcom.addon.rollout.snapshot import Snapshot
from confcom.addon.status.status import admission_policies
from confcom.kubernetes.objects import namespace_of

_AT_ONCE = 4
"""Each runs programs one after the other, which mostly wait for the API server."""


def read_status(helm: Helm, api: KubeApi) -> Snapshot:
    """Return the cluster, the release, and what the daemons tell.

    Raises:
        ClusterAccessError: the cluster cannot be read.
    """
    with futures.ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        release = pool.submit(look_at_release, helm, api)
        seen = fetch_cluster_snapshot(api)
        daemon_sets = [one for one in seen.daemon_sets if namespace_of(one) == seen.namespace]
        server = pool.submit(look_at_api_server, api, daemon_sets)
        root = pool.submit(look_at_root, api, daemon_sets, seen.pods)
        if daemon_sets:
            epc = pool.submit(look_at_epc, api, seen.nodes, seen.pods)
            refusals = look_at_refusals(api, admission_policies(daemon_sets))
            seen = dataclasses.replace(seen, epc=epc.result(), refusals=refusals)
        else:
            seen = with_managed_fields(api, seen)
        return dataclasses.replace(seen, release=release.result(), api_server=server.result(), root=root.result())
