"""A load: Pods on several nodes, with one client in each Pod, and the clients' results."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import Cluster, Node
from e2e.load.client import RESULTS, STOP, Attestation
from e2e.tenants import CLIENT_RESULTS, Manifest, client_pod
from e2e.waiting import until
from testkit.replay.clients import FORTANIX, GRAMINE, INTEL_QL_WRAPPER, INTEL_QUOTE_EX, OPEN_ENCLAVE

CLIENTS_PER_NODE = (
    (INTEL_QUOTE_EX, INTEL_QL_WRAPPER, OPEN_ENCLAVE, GRAMINE),
    (FORTANIX, GRAMINE, OPEN_ENCLAVE, INTEL_QUOTE_EX),
)
"""Clients of the nodes: eight in all, of five kinds. Gramine, which keeps target info, is on both nodes."""

TAIL_BYTES = 64 * 1024
"""Bytes to read from the end of results; the longest line (two 4.6 kB quotes in base64) is shorter."""

START_SECONDS = 120.0
"""Seconds for Pods to start on a busy machine."""


@dataclass(frozen=True, slots=True)
class LoadPod:
    """The Pod of one client; its results are in a folder on the node, at the same path as here."""

    name: str
    client: str
    node: str
    epc_mib: int
    folder: Path

    def attestations(self) -> Iterator[Attestation]:
        with (self.folder / RESULTS).open("rb") as lines:
            yield from (Attestation.parse(line) for line in lines if line.endswith(b"\n"))

    @property
    def latest(self) -> float:
        """When the client's newest attestation began; -inf before the first attestation."""
        path = self.folder / RESULTS
        if not path.exists():
            return float("-inf")
        with path.open("rb") as lines:
            lines.seek(max(0, lines.seek(0, os.SEEK_END) - TAIL_BYTES))
            complete = lines.read().split(b"\n")[:-1]
        return Attestation.parse(complete[-1]).began if complete else float("-inf")

    def manifest(self, rate: float) -> Manifest:
        command = ("-m", "e2e.load.client", self.client, str(rate), CLIENT_RESULTS)
        return client_pod(self.name, command, "e2e", self.folder, node=self.node, epc_mib=self.epc_mib)


@dataclass(frozen=True, slots=True)
class Load:
    """Pods that attest, each Pod at this rate per second."""

    cluster: Cluster
    namespace: str
    rate: float
    pods: tuple[LoadPod, ...]

    @classmethod
    def start(
        cls, cluster: Cluster, namespace: str, nodes: Sequence[Node], *, offered_mib: int, rate: float, folder: Path
    ) -> Load:
        """Start a Pod per client; a node's Pods together hold `offered_mib`. Return when all clients attest."""
        pods = []
        for number, (node, clients) in enumerate(zip(nodes, CLIENTS_PER_NODE, strict=True), start=1):
            for place, client in enumerate(clients):
                name = f"client-{number}-{place + 1}"
                share = offered_mib // len(clients) + (place < offered_mib % len(clients))
                pods.append(LoadPod(name, client.name, node.name, share, folder / name))
        return cls.run(cluster, namespace, pods, rate=rate)

    @classmethod
    def run(cls, cluster: Cluster, namespace: str, pods: Sequence[LoadPod], *, rate: float) -> Load:
        """Start these Pods, whose folders must not exist yet; return when all clients attest."""
        for pod in pods:
            pod.folder.mkdir()
            pod.folder.chmod(0o777)  # the image runs as another user
        items = [pod.manifest(rate) for pod in pods]
        manifests = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        cluster.kubectl("create", f"--namespace={namespace}", "--filename=-", input=manifests)
        load = cls(cluster, namespace, rate, tuple(pods))
        load.wait_past(float("-inf"))
        return load

    def wait_past(self, moment: float) -> None:
        def behind() -> list[str]:
            return [pod.name for pod in self.pods if pod.latest <= moment]

        until(lambda: not behind(), f"every client attests ({self.namespace})", seconds=START_SECONDS)

    def states(self) -> Mapping[str, tuple[str, str, int]]:
        """UID, phase and number of restarts of each Pod."""
        found = self.cluster.kubectl_json("get", "pods", f"--namespace={self.namespace}")["items"]
        return {
            pod["metadata"]["name"]: (
                pod["metadata"]["uid"],
                pod["status"]["phase"],
                sum(one["restartCount"] for one in pod["status"].get("containerStatuses", [])),
            )
            for pod in found
        }

    def stop(self) -> None:
        """Make every client end after its present attestation; return when all Pods have ended themselves."""
        for pod in self.pods:
            (pod.folder / STOP).touch()
        succeeded = "--for=jsonpath={.status.phase}=Succeeded"
        here = f"--namespace={self.namespace}"
        self.cluster.kubectl("wait", here, succeeded, "pods", "--all", f"--timeout={START_SECONDS:.0f}s", timeout=150)
