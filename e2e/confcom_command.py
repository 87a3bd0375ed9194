"""The add-on as used by a person with the `confcom` command, on some nodes of the cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from confcom.errors import ExitCode, UnavailableError
from e2e.add_on import HELPER, PROBES_PORT, SYSTEM, allocatable, daemons, is_ready
from e2e.cluster import Cluster, Node
from e2e.waiting import until

COMMAND_SECONDS = 600.0
"""Seconds for one command, which gives up by itself after three minutes without progress."""

JSON = "--output=json"
SET_ASIDE_MIB = 6
"""MiB of a node's EPC that are set aside for two quote helpers."""

_REQUESTS = "confcom_quote_helper_request_seconds_count"

Done = subprocess.CompletedProcess[str]


def confcom(cluster: Cluster, *arguments: str, code: ExitCode = ExitCode.OK) -> Done:
    """Run the command on the first node, as administrator or the user of --as; it must exit with `code`."""
    done = cluster.run([sys.executable, "-m", "confcom", *arguments], check=False, timeout=COMMAND_SECONDS)
    assert done.returncode == code, f"{arguments} ended with {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def status_of(cluster: Cluster) -> dict[str, Any]:
    return document_of(cluster.run([sys.executable, "-m", "confcom", "status", JSON], check=False))


def document_of(done: Done) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def changes(done: Done) -> bool:
    return bool(document_of(done)["changed"])


def codes_of(done: Done) -> set[str]:
    """Codes in a command's output: codes of the error, of findings that are not ok, and of problems."""
    found = document_of(done)
    findings = [one for one in found.get("findings", []) if one["outcome"] != "ok"]
    errors = filter(None, [found.get("error")])
    return {one["code"] for one in (*findings, *found.get("problem_details", []), *errors)}


@dataclass(frozen=True, slots=True)
class AddOn:
    """The enabled add-on on simulated nodes, each of which offers `offered_mib` MiB of EPC."""

    cluster: Cluster
    nodes: tuple[Node, ...]
    offered_mib: int

    def confcom(self, *arguments: str, code: ExitCode = ExitCode.OK) -> Done:
        return confcom(self.cluster, *arguments, code=code)

    def status(self) -> dict[str, Any]:
        return status_of(self.cluster)

    def epc(self) -> dict[str, dict[str, Any]]:
        """EPC of each node in `confcom status`, with the way of counting, keyed by the node's name.

        `confcom status` asks only ready device plugins, and a plugin may get ready after its node offers EPC.
        """

        def told() -> dict[str, dict[str, Any]]:
            nodes = self.status()["nodes"]
            if not all(one["epc"] and one["epc"]["accounting"] for one in nodes):
                return {}
            return {one["name"]: {**one["epc"], **one["epc"]["accounting"]} for one in nodes}

        return until(told, "status tells of each node's EPC")

    def codes(self) -> set[str]:
        """Codes of the problems and notes in `confcom status`."""
        found = self.status()
        return {one["code"] for one in (*found["problem_details"], *found["notes"])}

    def is_well(self) -> bool:
        """Whether `confcom status` finds nothing wrong; otherwise raises an error with its findings."""
        found = self.status()
        if not found["ok"]:
            raise UnavailableError("confcom status finds something wrong", why="; ".join(found["problems"]))
        return True

    def pods(self, component: str) -> dict[str, dict[str, Any]]:
        """The component's Pod on each node, keyed by the node's name, once each node has one ready Pod."""

        def alone() -> dict[str, dict[str, Any]] | None:
            listed = self.all_pods(component)
            found = {pod["spec"].get("nodeName", ""): pod for pod in listed}
            whole = len(found) == len(listed) == len(self.nodes)
            return found if whole and all(map(is_ready, listed)) else None

        seen = until(alone, f"there is one {component} on each node", seconds=120)
        assert seen
        return seen

    def all_pods(self, component: str) -> list[dict[str, Any]]:
        return daemons(self.cluster, component)

    def has_replaced(self, helpers: Iterable[str]) -> bool:
        """Whether each node has exactly one helper Pod, and no helper Pod has a UID from `helpers`."""
        there = {pod["metadata"]["uid"] for pod in self.all_pods(HELPER)}
        return len(there) == len(self.nodes) and there.isdisjoint(helpers)

    def quotes_by(self, pod: dict[str, Any]) -> int:
        """Quotes counted in a helper's metrics, read by the API server's proxy; they may be a second old."""
        path = f"/api/v1/namespaces/{SYSTEM}/pods/{pod['metadata']['name']}:{PROBES_PORT}/proxy/metrics"
        families = text_string_to_metric_families(self.cluster.kubectl("get", "--raw", path).stdout)
        made = {"request": "GetQuoteEx", "result": "success"}
        found = [one for family in families for one in family.samples if one.name == _REQUESTS]
        return int(sum(one.value for one in found if made.items() <= one.labels.items()))

    def wait_for_epc(self) -> None:
        """Wait until every node offers all of its EPC; the kubelet reports every 10 s."""
        wanted = str(self.offered_mib)
        until(
            lambda: all(allocatable(self.cluster, node.name) == wanted for node in self.nodes), "nodes offer their EPC"
        )


def uids(pods: dict[str, dict[str, Any]]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods.values()}
