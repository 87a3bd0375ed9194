"""Asks the nodes' device plugins for their inventories, some at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent import futures

from confcom.addon.cluster.kubectl import ASKED_AT_ONCE, PROBES_PORT, KubeApi
from confcom.addon.model.epc_accounting import EpcSeen, nodes_to_ask, plugin_epc, ready_plugins
from confcom.errors import ConfcomError
from confcom.kubernetes.objects import KubernetesObject, name_of, namespace_of


def read_inventories(api: KubeApi, pods: Mapping[str, str]) -> Mapping[str, KubernetesObject | ConfcomError]:
    """Return by node the inventory of its device plugin, or why it cannot be read.

    Args:
        api: the cluster.
        pods: by node, the name of its device plugin's pod.
    """

    def ask(pod: str) -> KubernetesObject | ConfcomError:
        try:
            return api.pod_inventory(pod, PROBES_PORT)
        except ConfcomError as error:
            return error

    with futures.ThreadPoolExecutor(max_workers=ASKED_AT_ONCE) as pool:
        return dict(zip(pods, pool.map(ask, pods.values()), strict=True))


def look_at_epc(
    api: KubeApi, nodes: Sequence[KubernetesObject], pods: Sequence[KubernetesObject], *, every_node: bool = False
) -> EpcSeen:
    """Return what the device plugins tell of their nodes' EPC.

    Args:
        api: the cluster.
        nodes: its nodes.
        pods: its pods.
        every_node: whether all device plugins are asked, however many there are.
    """
    plugins = ready_plugins([pod for pod in pods if namespace_of(pod) == api.cluster.namespace])
    asked = tuple(plugins) if every_node else nodes_to_ask(nodes, plugins)
    answers = read_inventories(api, {node: name_of(plugins[node]) for node in asked})
    found, unread = {}, {}
    for node, answer in answers.items():
        if isinstance(answer, ConfcomError):
            unread[node] = answer.why or answer.what
        elif epc := plugin_epc(answer):
            found[node] = epc
    return EpcSeen(found, unread)
