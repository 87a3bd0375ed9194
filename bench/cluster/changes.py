"""What is changed under a running add-on: the kubelet restarts, a daemon is updated."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass

from bench.cluster.pods import HELPER_EPC
from bench.cluster.timeline import offered_again, told_of, updated
from bench.cluster.watch import SYNC_SECONDS, watching
from confcom.errors import UnavailableError
from e2e.add_on import EPC, EPC_MIB, RELEASE, ROOT, SYSTEM, names
from e2e.cluster import Cluster
from e2e.kubelet_log import SERVING, KubeletLog
from e2e.waiting import until

RESOURCES = (EPC, "sgx.intel.com/enclave", "sgx.intel.com/provision", HELPER_EPC)
REGISTER_SECONDS = 60.0
"""For the plugin to be registered again, on a machine that is busy."""
REPORT_SECONDS = 25.0
"""In which the API has to show what the kubelet knows: it reports every ten, at the latest."""
UPDATE_SECONDS = 300
"""For all nodes: one after the other, twenty seconds each and more on a machine that is busy."""
SETTLE_SECONDS = 60.0
"""For the last old pod to be gone, after helm is content."""

VALUES = {
    "quote-helper": "quoteHelper.logQuotesPerPeer={}",
    "device-plugin": "devicePlugin.resources.requests.memory={}Mi",
}
"""By component, a value that only its own pods know, and that changes nothing that is measured."""


@dataclass(frozen=True, slots=True)
class Restart:
    """One restart of a kubelet; seconds.

    Args:
        by_log: from before it listens for plugins until it has processed the last list of devices.
        by_api: from the order to restart it until the API shows all EPC again; None if the API never showed less.
    """

    by_log: float
    by_api: float | None


@dataclass(frozen=True, slots=True)
class Update:
    """One component's update on one node; seconds from the first new pod until the last old one was gone."""

    component: str
    node: str
    seconds: float


def restarts(cluster: Cluster, times: int) -> list[Restart]:
    """Restart the first node's kubelet again and again."""
    log, done = KubeletLog(cluster.node.kubelet_log), []
    one_node = f"fieldSelector=metadata.name%3D{cluster.node.name}"
    with watching(cluster, "/api/v1/nodes", one_node) as watch:
        for _ in range(times):
            log.mark()
            began = time.monotonic()
            cluster.node.restart("kubelet")
            until(
                lambda: all(log.lists(name) for name in RESOURCES),
                "the plugin is registered again",
                seconds=REGISTER_SECONDS,
            )
            serving = next(event for event in log.events() if event.message == SERVING)
            by_log = max(log.lists(name)[0].after(serving) for name in RESOURCES)
            try:
                again = watch.wait(
                    functools.partial(offered_again, resource=EPC, amount=EPC_MIB, since=began),
                    "the API shows all EPC again",
                    seconds=REPORT_SECONDS,
                )
            except UnavailableError:
                until(lambda: _offers_all(cluster), "the API shows all EPC", seconds=REPORT_SECONDS)
                done.append(Restart(by_log, None))
            else:
                done.append(Restart(by_log, again - began))
    return done


def _offers_all(cluster: Cluster) -> bool:
    node = cluster.kubectl_json("get", "node", cluster.node.name)
    return bool(node["status"]["allocatable"].get(EPC) == EPC_MIB)


def updates(cluster: Cluster, times: int) -> list[Update]:
    """Change a value of each component by `helm upgrade`, and change it again."""
    done = []
    chart = str(ROOT / "charts" / "confcom")
    there = frozenset(names(cluster, "pods", SYSTEM))
    with watching(cluster, f"/api/v1/namespaces/{SYSTEM}/pods") as watch:
        watch.wait(functools.partial(told_of, names=there), "the watch tells of all pods", seconds=SYNC_SECONDS)
        for number in range(times):
            for component, value in VALUES.items():
                since = time.monotonic()
                options = ["--reuse-values", f"--set={value.format(65 + number)}", f"--namespace={SYSTEM}"]
                waiting = ["--wait", f"--timeout={UPDATE_SECONDS}s"]
                cluster.run(["helm", "upgrade", RELEASE, chart, *options, *waiting], timeout=UPDATE_SECONDS + 30)
                took = watch.wait(
                    functools.partial(updated, component=component, since=since),
                    f"no old {component} is left",
                    seconds=SETTLE_SECONDS,
                )
                done += [Update(component, node, seconds) for node, seconds in sorted(took.items())]
    return done
