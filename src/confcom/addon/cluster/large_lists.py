"""Reading all nodes and pods of a cluster: in pages, and of each object what is needed.

kubectl's own list of 5,000 nodes and 20,000 pods is 310 MB, since it indents, and kubectl holds all of it decoded. With
--raw it passes the API server's answers on as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from urllib.parse import quote

from confcom.addon.cluster.kubectl import KubeApi
from confcom.addon.model.slim_objects import Slimmer
from confcom.addon.status.socket_holders import may_serve
from confcom.kubernetes.objects import KubernetesObject, listing, text

PAGE = 1_000
"""Objects in a page: 10 MB of JSON, and 60 MB while it is parsed. Each page takes a kubectl, a tenth of a second of
CPU."""


def list_nodes_and_pods(api: KubeApi) -> tuple[tuple[KubernetesObject, ...], tuple[KubernetesObject, ...]]:
    """Return all nodes and all pods, without what no decision needs (`Slimmer`)."""
    slimmer = _slimmer(api)
    with futures.ThreadPoolExecutor(max_workers=1) as pool:
        pods = pool.submit(_pages, api, "pods", slimmer.pod)
        nodes = _pages(api, "nodes", slimmer.node)
        return nodes, pods.result()


def list_nodes(api: KubeApi) -> tuple[KubernetesObject, ...]:
    """Return all nodes, without what no decision needs."""
    return _pages(api, "nodes", _slimmer(api).node)


def list_own_pods(api: KubeApi) -> tuple[KubernetesObject, ...]:
    """Return the pods of the add-on's namespace, without what no decision needs."""
    return _pages(api, f"namespaces/{quote(api.cluster.namespace, safe='')}/pods", _slimmer(api).pod)


def _slimmer(api: KubeApi) -> Slimmer:
    return Slimmer(api.cluster.namespace, may_serve)


def _pages(
    api: KubeApi, path: str, slim: Callable[[KubernetesObject], KubernetesObject]
) -> tuple[KubernetesObject, ...]:
    found: list[KubernetesObject] = []
    query = f"limit={PAGE}"
    while True:
        page = api.raw_object(f"/api/v1/{path}?{query}", f"{path.rpartition('/')[2]} cannot be listed")
        found += [slim(one) for one in listing(page, "items")]
        token = text(page, "metadata", "continue")
        if not token:
            return tuple(found)
        query = f"limit={PAGE}&continue={quote(token, safe='')}"
