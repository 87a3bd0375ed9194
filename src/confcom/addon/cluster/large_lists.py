"""Reading all nodes and pods of a cluster: in pages, and of each object what is needed.

kubectl's own list of 5,000 nodes and 20,000 pods is 310 MB, since it indents, and kubectl holds all of it decoded. With
--raw it passes the API server's answers on as they are.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from concurrent import futures
from urllib.parse import quote

from confcom.addon.cluster.kubectl import KubeApi
from confcom.addon.cluster.list_pages import decode_page
from confcom.addon.model.slim_objects import Slimmer
from confcom.addon.status.socket_holders import may_serve
from confcom.kubernetes.objects import KubernetesObject

PAGE = 2_000
"""Objects in a page: 14 to 24 MB of JSON. Each page takes a kubectl, a tenth of a second of CPU."""


def list_nodes_and_pods(api: KubeApi) -> tuple[tuple[KubernetesObject, ...], tuple[KubernetesObject, ...]]:
    """Return all nodes and all pods, without what no decision needs (`Slimmer`)."""
    slimmer = _slimmer(api)
    with _large_heap(), futures.ThreadPoolExecutor(max_workers=1) as pool:
        pods = pool.submit(_pages, api, "pods", slimmer.pod)
        nodes = _pages(api, "nodes", slimmer.node)
        return nodes, pods.result()


def list_nodes(api: KubeApi) -> tuple[KubernetesObject, ...]:
    """Return all nodes, without what no decision needs."""
    with _large_heap():
        return _pages(api, "nodes", _slimmer(api).node)


def list_own_pods(api: KubeApi) -> tuple[KubernetesObject, ...]:
    """Return the pods of the add-on's namespace, without what no decision needs."""
    with _large_heap():
        return _pages(api, f"namespaces/{quote(api.cluster.namespace, safe='')}/pods", _slimmer(api).pod)


@contextlib.contextmanager
def _large_heap() -> Iterator[None]:
    """Keep the garbage collector from looking at objects that are decoded meanwhile: they are in no cycle.

    It would look at all of them again and again while they become more, which takes longer than decoding them.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # once: later, it would also keep garbage that is in cycles
            gc.freeze()
        if enabled:
            gc.enable()


def _slimmer(api: KubeApi) -> Slimmer:
    namespace = api.cluster.namespace
    return Slimmer(namespace, lambda pod: may_serve(pod, namespace))


def _pages(
    api: KubeApi, path: str, slim: Callable[[KubernetesObject], KubernetesObject]
) -> tuple[KubernetesObject, ...]:
    found: list[KubernetesObject] = []
    plural = path.rpartition("/")[2]
    failure, query = f"{plural} cannot be listed", f"limit={PAGE}"
    while True:
        page = decode_page(api.raw_answer(f"/api/v1/{path}?{query}", failure), plural, failure)
        found += map(slim, page.items)
        if not page.token:
            return tuple(found)
        query = f"limit={PAGE}&continue={quote(page.token, safe='')}"
