"""The add-on in the cluster for tests: installed by its chart, as everybody installs it."""

from __future__ import annotations

from pathlib import Path

from e2e.cluster import Cluster
from e2e.cluster.addresses import NODE_NAME
from e2e.waiting import until

ROOT = Path(__file__).parent.parent
RELEASE = "confcom"
SYSTEM = "confcom-system"
EPC = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
EPC_MIB = "162"
"""Of the 168 MiB that the chart simulates: 6 are set aside for quote helpers."""
SIMULATED_LABEL = "confcom.internal/simulated-sgx"


def install(cluster: Cluster) -> None:
    """Install the chart unless it is installed, and wait until the node has its EPC."""
    cluster.kubectl("label", "node", NODE_NAME, f"{SIMULATED_LABEL}=true", "--overwrite")
    cluster.kubectl("create", "namespace", SYSTEM, check=False)
    chart = ["upgrade", RELEASE, str(ROOT / "charts" / "confcom"), "--install", f"--namespace={SYSTEM}"]
    cluster.run(["helm", *chart, "--set=simulated.enabled=true", "--wait", "--timeout=120s"], timeout=150)
    until(lambda: allocatable(cluster) == EPC_MIB, "the node offers its EPC")


def uninstall(cluster: Cluster) -> None:
    """Remove the chart, and wait until its pods have gone."""
    cluster.run(["helm", "uninstall", RELEASE, f"--namespace={SYSTEM}", "--ignore-not-found", "--wait"], timeout=150)
    until(lambda: not names(cluster, "pods", SYSTEM), "the daemons have gone")


def allocatable(cluster: Cluster) -> str:
    """The node's allocatable EPC, as the API has it."""
    return str(cluster.kubectl_json("get", "node", NODE_NAME)["status"]["allocatable"].get(EPC, ""))


def names(cluster: Cluster, kind: str, namespace: str) -> list[str]:
    """Names of the objects of a kind in a namespace."""
    return [one["metadata"]["name"] for one in cluster.kubectl_json("get", kind, f"--namespace={namespace}")["items"]]
