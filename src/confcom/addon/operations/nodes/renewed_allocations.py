"""Has kubelets forget the devices of Pods that have ended, and device plugins decide anew how EPC is counted.

A kubelet removes ended Pods from its record of devices, by which a device plugin decides, only when it gives a device
to a Pod. Neither its restart nor a plugin's registration does that. A quote helper has a device.
"""

from __future__ import annotations

from collections.abc import Sequence

from confcom.addon.daemons.daemon_pods import DaemonPod, PodState, daemon_pods
from confcom.addon.model.chart_objects import Component
from confcom.addon.model.problems import shown
from confcom.addon.operations.apply.add_on import POLL_SECONDS, AddOn
from confcom.addon.rollout.progress import Mark, ProgressTable, Row
from confcom.addon.rollout.rollout_report import NotReadyError


def renew_allocations(add_on: AddOn, nodes: Sequence[str], *, deadline: float) -> None:
    """Replace the nodes' quote helpers, and then their device plugins.

    Args:
        add_on: the add-on of the cluster.
        nodes: each has a quote helper.
        deadline: seconds until all Pods of one daemon have to be ready.

    Raises:
        NotReadyError: a new Pod is not ready.
        ClusterAccessError: the API server was unreachable until the deadline, or refuses.
    """
    with add_on.reporter.waiting("Kubelets forget what ended Pods held, and device plugins decide anew") as table:
        for component in (Component.QUOTE_HELPER, Component.DEVICE_PLUGIN):
            _replace(add_on, component, nodes, deadline=deadline, table=table)


def _replace(
    add_on: AddOn, component: Component, nodes: Sequence[str], *, deadline: float, table: ProgressTable
) -> None:
    def look() -> list[DaemonPod]:
        pods = daemon_pods(add_on.api.list_objects("pods", add_on.cluster.namespace_flag))
        return [pod for pod in pods if pod.component is component and pod.node in nodes]

    old = add_on.retry_while_unreachable(look, deadline=deadline, table=table)
    names, uids = [pod.name for pod in old], {pod.uid for pod in old}
    if names:
        where = add_on.cluster.namespace
        add_on.retry_while_unreachable(
            lambda: add_on.api.delete("Pod", names, namespace=where), deadline=deadline, table=table
        )
    started = add_on.clock()
    while True:
        found = add_on.retry_while_unreachable(look, deadline=deadline, table=table)
        new = {pod.node: pod for pod in found if pod.uid not in uids}
        waiting = {node: new.get(node) for node in nodes if node not in new or new[node].state is not PodState.READY}
        if not waiting:
            return
        reasons = {node: "no new Pod yet" if pod is None else pod.reason for node, pod in waiting.items()}
        table.show([Row(f"{node}  {component.words}", why, Mark.WAITING) for node, why in reasons.items()])
        if add_on.clock() - started >= deadline:
            raise NotReadyError(
                f"the {component.words} is not ready on {shown(list(reasons))}",
                error_code="daemons-not-ready",
                why=shown([f"{node}: {why}" for node, why in reasons.items()]),
                remedy="see `confcom status`; the same command again goes on",
            )
        add_on.sleep(POLL_SECONDS)
