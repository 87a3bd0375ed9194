"""Kills of the device plugin, the controller and a kubelet, one after the other, until all is well again."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import permutations
from typing import Any

from confcom.kubernetes.objects import labels_of, name_of, owner_of, text
from e2e.add_on import COMPONENT, EPC, HELPER, HERE, PLUGIN, is_ready, kill
from e2e.churn.ledger import Rejection
from e2e.cluster import Cluster, Node
from e2e.kubelet_log import KubeletLog
from e2e.sized_nodes import SizedNode
from e2e.waiting import until

ENCLAVE, PROVISION = "sgx.intel.com/enclave", "sgx.intel.com/provision"
HELPER_EPC = "confcom.internal/quote_helper_epc_mem_in_MiB"
PAUSE_SECONDS = 5.0
"""Most seconds between two kills of one order: the second kill comes before, during or after the first
daemon's return."""
BACK_SECONDS = 180.0
"""Seconds for all to be well again on a busy machine: the kubelet reports every 10 s, and waits 10 s before
the second start of a container."""
LATE_SECONDS = 1.0
"""Seconds by which the watch may report a binding later than the kubelet sees it, on a busy machine."""


class Target(StrEnum):
    PLUGIN = "plugin"
    CONTROLLER = "controller"
    KUBELET = "kubelet"


ORDERS = tuple(permutations(Target))


@dataclass(slots=True)
class Strikes:
    cluster: Cluster
    sizes: Sequence[SizedNode]
    devices: frozenset[str]
    choose: random.Random
    _disturbed: list[tuple[float, float]] = field(default_factory=list)
    _logs: dict[str, KubeletLog] = field(default_factory=dict)

    def carry_out(self, order: Sequence[Target]) -> None:
        """Kill the targets in this order, and wait until all daemons are well again."""
        with_epc = [one.node for one in self.sizes]
        chosen = {target: self.choose.choice(with_epc) for target in (Target.PLUGIN, Target.KUBELET)}
        # While a kubelet is away, killed processes on its node are not started again.
        starts_after = self.choose.randint(order.index(Target.KUBELET), len(order) - 1)
        began = time.monotonic()
        for number, target in enumerate(order):
            self._kill(target, chosen.get(target))
            time.sleep(self.choose.uniform(0, PAUSE_SECONDS))
            if number == starts_after:
                chosen[Target.KUBELET].start("kubelet")
        self._wait_until_well()
        self._replace_restarted()
        self._disturbed.append((began, time.monotonic()))

    def undisturbed(self, rejections: Sequence[Rejection]) -> list[Rejection]:
        """Rejections of Pods outside of the periods of kills and recoveries.

        A kubelet without a plugin knows at once that the devices are gone, and tells the API server up to ten
        seconds later. Pods that are bound in between are rejected; this happens with any vendor's plugin.
        """
        return [
            one
            for one in rejections
            if not any(began <= one.told and one.bound - LATE_SECONDS <= ended for began, ended in self._disturbed)
        ]

    def _kill(self, target: Target, node: Node | None) -> None:
        if node is None:
            for any_node in self.cluster.nodes:
                kill(any_node, Target.CONTROLLER)
            return
        if target is Target.KUBELET:
            node.kill("kubelet")
        else:
            kill(node, PLUGIN)
        self._mark(node.name)

    def _mark(self, node: str) -> None:
        """Mark the present end of the log of a node's kubelet: all earlier lines count as before the kill."""
        (found,) = [one for one in self.cluster.nodes if one.name == node]
        self._logs[node] = KubeletLog(found.kubelet_log)
        self._logs[node].mark()

    def _wait_until_well(self) -> None:
        for node, log in self._logs.items():
            names = [*([EPC] if node in self.devices else []), ENCLAVE, PROVISION, HELPER_EPC]
            until(
                lambda log=log, names=names: all(log.lists(name) for name in names),  # type: ignore[misc]
                f"the kubelet of {node} knows all devices again",
                seconds=BACK_SECONDS,
            )
        self._logs.clear()
        until(lambda: not self.amiss(), "all is well again", seconds=BACK_SECONDS)

    def amiss(self) -> str:
        nodes = {name_of(one): one["status"] for one in self.cluster.kubectl_json("get", "nodes")["items"]}
        for name, mib in ((one.name, str(one.offered_mib)) for one in self.sizes):
            status = nodes[name]
            found = [text(status, part, EPC) for part in ("capacity", "allocatable")]
            if found != [mib, mib]:
                return f"{name}: capacity and allocatable are {found}, not {mib}"
            if text(status, "allocatable", ENCLAVE) in {"", "0"}:
                return f"{name} offers no enclave device"
            if not any(one["type"] == "Ready" and one["status"] == "True" for one in status["conditions"]):
                return f"{name} is not Ready"
        pods = self._daemons()
        if waiting := [name_of(pod) for pod in pods if not is_ready(pod)]:
            return f"not ready: {', '.join(waiting)}"
        # All is well when each node has a plugin and a helper, and the controller runs.
        return "" if len(pods) == 2 * len(self.sizes) + 1 else f"{len(pods)} daemons are there"

    def _replace_restarted(self) -> None:
        """Replace Pods whose containers have restarted, because the kubelet delays further starts longer.

        A plugin's Pod is replaced as in an update: its successor serves before it ends.
        """
        restarted = [
            pod for pod in self._daemons() if any(one["restartCount"] for one in pod["status"]["containerStatuses"])
        ]
        for pod in restarted:
            if _component(pod).startswith(PLUGIN):
                self._mark(text(pod, "spec", "nodeName"))
                self.cluster.kubectl("rollout", "restart", HERE, f"daemonset/{text(owner_of(pod), 'name')}")
            else:
                self.cluster.kubectl("delete", "pod", HERE, name_of(pod), "--wait=false")
        gone = {name_of(pod) for pod in restarted}
        until(
            lambda: gone.isdisjoint(map(name_of, self._daemons())),
            "the Pods that have restarted are gone",
            seconds=BACK_SECONDS,
        )
        self._wait_until_well()

    def _daemons(self) -> list[dict[str, Any]]:
        pods: list[dict[str, Any]] = self.cluster.kubectl_json("get", "pods", HERE)["items"]
        return [pod for pod in pods if _component(pod).startswith((PLUGIN, HELPER, Target.CONTROLLER))]


def _component(pod: Mapping[str, Any]) -> str:
    return text(labels_of(pod), COMPONENT)
