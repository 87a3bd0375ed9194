"""The add-on in the test cluster, installed with its Helm chart as users install it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from confcom.addon.chart_objects import REMOVAL_ANNOTATION
from e2e.cluster import Cluster, Node
from e2e.cluster.addresses import DEVICE_PLUGINS, NODE_NAME
from e2e.images import CHART_REGISTRY, REGISTRY
from e2e.waiting import until

ROOT = Path(__file__).parent.parent
RELEASE = "confcom"
SYSTEM = "confcom-system"
HERE = f"--namespace={SYSTEM}"
EPC = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
EPC_MIB = "162"
"""MiB of EPC that a node offers: the chart simulates 168 MiB, 6 of which are set aside for quote helpers."""
NO_EPC = frozenset({"", "0"})
"""Amounts of EPC in the status of a node that never had a plugin, and of a node that lost its plugin."""
RESOURCE_PREFIXES = ("kubernetes.azure.com/sgx_", "sgx.intel.com/", "confcom.internal/", "simulated.confcom.internal/")
"""Prefixes of the names of all resources of the add-on."""
ROOT_SECRET = "confcom-simulated-root"  # noqa: S105  (its name)
CREATE_ROOT = """seed=$(openssl rand -hex 32) created=$(date +%s)
kubectl create secret generic $1 --namespace=$2 --from-literal=seed=$seed --from-literal=created=$created \
    --from-literal=check=$(printf %s "$seed:$created" | sha256sum | cut -d" " -f1)"""
"""Shell commands that create the simulated root, as in docs/how-to/install-on-a-cluster.md."""
SIMULATED_LABEL = "confcom.internal/simulated-sgx"
CONTROLLER = "confcom-controller"
"""Name of the controller's Deployment, of its ServiceAccount, and of its field manager for nodes."""
COMPONENT = "app.kubernetes.io/component"
PLUGIN, HELPER = DAEMONS = ("device-plugin", "quote-helper")
PROGRAMS = {PLUGIN: "confcom.device_plugin", HELPER: "confcom.quote_helper", "controller": "confcom.controller"}
"""Part of the command line of each component's process, keyed by component."""
PROBES_PORT = 8080
CONSENT = ("simulated.enabled=true",)
CHECKPOINT = "kubelet_internal_checkpoint"
"""The kubelet's file in its directory of device plugins: registered devices, and their owners."""
MARK_SECONDS = 2.0
"""Seconds for the kubelets to write a Pod's annotation into the Pod's volume, on a busy machine."""
UPGRADE_SECONDS = 120.0
"""Seconds for all nodes' daemons to be replaced, one node at a time; two nodes usually take 15 s."""


def install(cluster: Cluster, nodes: Sequence[str] = (NODE_NAME,), settings: Sequence[str] = ()) -> None:
    """Install or upgrade the chart with these settings, and wait until these nodes, and no other nodes, serve."""
    others = [node.name for node in cluster.nodes if node.name not in nodes]
    cluster.kubectl("label", "node", *nodes, f"{SIMULATED_LABEL}=true", "--overwrite")
    if others:
        mark_removal(cluster, *others)
        cluster.kubectl("label", "node", *others, f"{SIMULATED_LABEL}-")
    cluster.kubectl("create", "namespace", SYSTEM, check=False)
    create_root(cluster)
    chart = ["upgrade", RELEASE, str(ROOT / "charts" / "confcom"), "--install", HERE]
    chosen = [f"--set={setting}" for setting in (*CONSENT, CHART_REGISTRY, *settings)]
    cluster.run(["helm", *chart, *chosen, "--wait", f"--timeout={UPGRADE_SECONDS:.0f}s"], timeout=UPGRADE_SECONDS + 30)
    until(lambda: serves(cluster, nodes), f"{', '.join(nodes)} offer EPC and have daemons", seconds=UPGRADE_SECONDS)


def create_root(cluster: Cluster) -> None:
    cluster.run(["sh", "-c", CREATE_ROOT, "sh", ROOT_SECRET, SYSTEM], check=False)


def is_installed(cluster: Cluster, nodes: Sequence[str]) -> bool:
    """Whether the chart is installed without further settings, and these nodes serve (see `serves`)."""
    listed = json.loads(cluster.helm("list", HERE, "--output=json").stdout)
    if not any(one["name"] == RELEASE and one["status"] == "deployed" for one in listed):
        return False
    values = json.loads(cluster.helm("get", "values", RELEASE, HERE, "--output=json").stdout)
    wanted = {"simulated": {"enabled": True}, "image": {"registry": REGISTRY}}
    return values == wanted and serves(cluster, nodes)


def changes_pods(cluster: Cluster) -> bool:
    """Whether the API server supports the chart's policies for Intel's name of EPC (1.36 or later)."""
    listed = cluster.kubectl("api-resources", "--api-group=admissionregistration.k8s.io", "--output=name").stdout
    return "mutatingadmissionpolicies" in listed


def serves(cluster: Cluster, nodes: Sequence[str]) -> bool:
    """Whether these nodes offer all their EPC and have both daemons ready, and other nodes have neither.

    After a plugin's end the API shows its EPC for up to 10 s; a Pod that is bound in this time is rejected.
    """
    wanted = sorted((daemon, node) for daemon in DAEMONS for node in nodes)
    pods = daemons(cluster)
    found = sorted((pod["metadata"]["labels"][COMPONENT], pod["spec"].get("nodeName", "")) for pod in pods)
    if found != wanted or not all(is_ready(pod) for pod in pods):
        return False
    offered = {node.name: allocatable(cluster, node.name) for node in cluster.nodes}
    return all(epc == EPC_MIB if node in nodes else epc in NO_EPC for node, epc in offered.items())


def daemons(cluster: Cluster, *components: str) -> list[dict[str, Any]]:
    """Pods of these components (default: both DaemonSets) on all nodes, including terminating Pods."""
    chosen = f"--selector={COMPONENT} in ({', '.join(components or DAEMONS)})"
    pods: list[dict[str, Any]] = cluster.kubectl_json("get", "pods", HERE, chosen)["items"]
    return pods


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a Pod is ready, as its kubelet last reported, and is not terminating."""
    conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def uninstall(cluster: Cluster) -> None:
    """Uninstall the chart, and wait until its Pods are gone and no node offers EPC in the API.

    Otherwise helpers of the next installation could be bound to nodes without a plugin and be rejected.
    """
    mark_removal(cluster)
    cluster.run(["helm", "uninstall", RELEASE, HERE, "--ignore-not-found", "--wait"], timeout=150)
    until(lambda: not names(cluster, "pods", SYSTEM), "the daemons have gone")
    for node in cluster.kubectl_json("get", "nodes", "--show-managed-fields")["items"]:
        if any(one["manager"] == CONTROLLER for one in node["metadata"]["managedFields"]):
            remove_names(cluster, node["metadata"]["name"])
    until(lambda: all(allocatable(cluster, node.name) in NO_EPC for node in cluster.nodes), "no node offers EPC")


def mark_removal(cluster: Cluster, *nodes: str) -> None:
    """Make helpers of these nodes (default: all) end soon on SIGTERM; no successor will take their path."""
    mark = f"{REMOVAL_ANNOTATION}={time.time():.0f}"
    for chosen in [f"--field-selector=spec.nodeName={node}" for node in nodes] or [f"--selector={COMPONENT}"]:
        done = cluster.kubectl("annotate", "pods", HERE, "--overwrite", chosen, mark, check=False)
        if done.stdout:
            time.sleep(MARK_SECONDS)


def allocatable(cluster: Cluster, node: str = NODE_NAME) -> str:
    return str(cluster.kubectl_json("get", "node", node)["status"]["allocatable"].get(EPC, ""))


def is_remembered(cluster: Cluster, node: str) -> bool:
    """Whether a node's status names any of the add-on's resources, even with the amount 0."""
    capacity = cluster.kubectl_json("get", "node", node)["status"]["capacity"]
    return any(name.startswith(RESOURCE_PREFIXES) for name in capacity)


def forget(cluster: Cluster, node: Node) -> None:
    """Make a node look as if it never had our daemons. A kubelet would forget a plugin only after 5 min."""
    node.stop("kubelet")
    node.run(["rm", "--recursive", "--force", str(DEVICE_PLUGINS / CHECKPOINT), "/run/aesmd"])
    node.start("kubelet")
    until(cluster.ready, "the nodes are Ready")
    remove_names(cluster, node.name)


def remove_names(cluster: Cluster, node: str) -> None:
    """Remove our resources at 0 from a node's status: a kubelet forgot them, but left their names there."""
    status = cluster.kubectl_json("get", "node", node)["status"]
    parts = {
        part: {name: None for name in status[part] if name.startswith(RESOURCE_PREFIXES)}
        for part in ("capacity", "allocatable")
    }
    patch = json.dumps({"status": parts})
    cluster.kubectl("patch", "node", node, "--subresource=status", "--type=merge", f"--patch={patch}")


def names(cluster: Cluster, kind: str, namespace: str) -> list[str]:
    return [one["metadata"]["name"] for one in cluster.kubectl_json("get", kind, f"--namespace={namespace}")["items"]]


def processes_of(node: Node, component: str) -> list[str]:
    """Processes of a component on a node; none if the component does not run there now."""
    return node.run(["pgrep", "--full", PROGRAMS[component]], check=False).stdout.split()


def kill(node: Node, component: str) -> bool:
    found = processes_of(node, component)
    for pid in found:
        node.run(["kill", "-KILL", pid], check=False)
    return bool(found)
