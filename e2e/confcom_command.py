"""The add-on as a person with the `confcom` command has it, on some nodes of the cluster."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confcom.errors import ExitCode, UnavailableError
from e2e.add_on import EPC, SIMULATED_LABEL, SYSTEM, uninstall
from e2e.cluster import Cluster, Node
from e2e.images_workshop import CHART_REGISTRY
from e2e.waiting import until

COMMAND_SECONDS = 600.0
"""For one command: it gives up by itself when nothing has gone on for three minutes."""

PLUGIN, HELPER = "device-plugin", "quote-helper"
POOL_LABEL = "example.com/pool"
"""By whose values pools have their nodes."""
SET_ASIDE_MIB = 6
"""Of a node's EPC, for two quote helpers."""

_QUOTES = re.compile(
    r'^confcom_quote_helper_requests_total\{request="GetQuoteEx",result="success"\} (\S+)$', re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class AddOn:
    """The enabled add-on.

    Args:
        cluster: where.
        nodes: those that simulate.
        offered_mib: how much EPC each of them offers.
    """

    cluster: Cluster
    nodes: tuple[Node, ...]
    offered_mib: int

    def confcom(self, *arguments: str, code: ExitCode = ExitCode.OK) -> subprocess.CompletedProcess[str]:
        """Run the command on the first node, which must end with this code."""
        command = [sys.executable, "-m", "confcom", *arguments]
        done = self.cluster.run(command, check=False, timeout=COMMAND_SECONDS)
        assert done.returncode == code, f"{arguments} ended with {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def status(self) -> dict[str, Any]:
        """What `confcom status` says, whatever it is."""
        command = [sys.executable, "-m", "confcom", "status", "--output=json"]
        found: dict[str, Any] = json.loads(self.cluster.run(command, check=False).stdout)
        return found

    def is_well(self) -> bool:
        """Whether `confcom status` finds nothing wrong.

        Raises:
            UnavailableError: it does; tells what.
        """
        found = self.status()
        if not found["ok"]:
            raise UnavailableError("confcom status finds something wrong", why="; ".join(found["problems"]))
        return True

    def pods(self, component: str) -> dict[str, dict[str, Any]]:
        """The component's only pod on each node, by the node's name, once there is one only and it is ready."""

        def alone() -> dict[str, dict[str, Any]] | None:
            found = {pod["spec"].get("nodeName", ""): pod for pod in self.all_pods(component)}
            whole = len(found) == len(self.all_pods(component)) == len(self.nodes)
            return found if whole and all(map(is_ready, found.values())) else None

        seen = until(alone, f"there is one {component} on each node", seconds=120)
        assert seen
        return seen

    def pods_now(self, component: str) -> dict[str, dict[str, Any]]:
        """The component's pods by the node's name, ready or not."""
        return {pod["spec"].get("nodeName", ""): pod for pod in self.all_pods(component)}

    def all_pods(self, component: str) -> list[dict[str, Any]]:
        """Also those that start, end or were rejected."""
        chosen = f"--selector=app.kubernetes.io/component={component}"
        listed: list[dict[str, Any]] = self.cluster.kubectl_json("get", "pods", f"--namespace={SYSTEM}", chosen)[
            "items"
        ]
        return listed

    def replace_restarted(self) -> None:
        """Have new pods made for those that have restarted: the kubelet lets each next start wait longer."""
        for pod in (*self.all_pods(PLUGIN), *self.all_pods(HELPER)):
            if any(one["restartCount"] for one in pod["status"].get("containerStatuses", [])):
                self.cluster.kubectl("delete", "pod", pod["metadata"]["name"], f"--namespace={SYSTEM}")
        self.wait_for_epc()

    def quotes_by(self, pod: dict[str, Any]) -> int:
        """How many quotes a helper has made for clients, by its own count, which may be a second old."""
        path = f"/api/v1/namespaces/{SYSTEM}/pods/{pod['metadata']['name']}:8080/proxy/metrics"
        found = _QUOTES.search(self.cluster.kubectl("get", "--raw", path).stdout)
        return int(float(found[1])) if found else 0

    def export(self, folder: Path) -> datetime:
        """Write what relying parties need; returns the time at which it was."""
        self.confcom("simulation", "export", str(folder))
        return datetime.now(UTC)

    def wait_for_epc(self) -> None:
        """Until every node offers all of it; the kubelet reports every 10 s."""
        wanted = str(self.offered_mib)
        until(lambda: all(self.offered(node) == wanted for node in self.nodes), "the nodes offer their EPC")

    def offered(self, node: Node) -> str:
        """A node's allocatable EPC, as the API has it."""
        return str(self.cluster.kubectl_json("get", "node", node.name)["status"]["allocatable"].get(EPC, ""))


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether it is, and is not about to go."""
    conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def uids(pods: dict[str, dict[str, Any]]) -> set[str]:
    """Of pods by node."""
    return {pod["metadata"]["uid"] for pod in pods.values()}


@contextmanager
def enabled(cluster: Cluster, nodes: Sequence[Node], *, epc_mib: int, settings: Sequence[str] = ()) -> Iterator[AddOn]:
    """Enable the add-on on these nodes, and take it away afterwards.

    Args:
        cluster: where.
        nodes: which will simulate.
        epc_mib: how much EPC each of them has.
        settings: more of the chart's values.
    """
    add_on = AddOn(cluster, tuple(nodes), epc_mib - SET_ASIDE_MIB)
    no_label = ("label", "nodes", "--all", f"{SIMULATED_LABEL}-")
    uninstall(cluster)
    cluster.kubectl(*no_label)
    until(lambda: all(add_on.offered(node) in {"", "0"} for node in nodes), "the kubelets report that nothing is there")
    chosen = [f"--simulated-node={node.name}" for node in nodes]
    values = [f"--set={value}" for value in (CHART_REGISTRY, f"simulated.epcMiB={epc_mib}", *settings)]
    try:
        add_on.confcom("enable", *chosen, *values)
        add_on.wait_for_epc()
        yield add_on
    finally:
        cluster.mend()
        uninstall(cluster)
        cluster.kubectl(*no_label)
