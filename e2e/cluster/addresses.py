"""Fixed names, addresses and paths of the cluster's hosts, which only the cluster's namespaces see."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

NODE_NAME = "confcom-node"
"""Name of the first node; the name of another node is this name and the node's number."""

CONTROL_PLANE_NAME = "confcom-control-plane"
CONTROL_PLANE_ADDRESS = "172.31.255.1"
"""Address of the bridge in the control plane's network namespace, to which every node is connected."""

HOST_PREFIX_BITS = 24
POD_NETWORK = "10.244.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
"""The API server's address in SERVICE_NETWORK: always the network's first address."""

API_PORT = 6443
ETCD_URL = "http://127.0.0.1:2379"
CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")
DEVICE_PLUGINS = PurePosixPath("/var/lib/kubelet/device-plugins")
"""The kubelet's directory of device plugins."""
PAUSE_IMAGE = "localhost/confcom/pause:latest"
"""Name of the pause image. No registry runs on localhost, so no other image can be pulled under this name."""


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    number: int

    @property
    def name(self) -> str:
        return NODE_NAME if self.number == 1 else f"{NODE_NAME}-{self.number}"

    @property
    def address(self) -> str:
        return f"172.31.255.{10 + self.number}"

    @property
    def pod_network(self) -> str:
        return f"10.244.{self.number}.0/24"


class HostPlaces:
    """Files of one host, the control plane's or a node's, at the same path inside and outside of its namespaces."""

    def __init__(self, folder: Path, logs: Path) -> None:
        self.folder = folder
        self.logs = logs
        self.settings = folder / "settings"
        self.var = folder / "var"
        self.control = folder / "control.sock"
        """The socket on which the host's first process takes orders; it answers once all components run."""

    def make(self) -> None:
        for folder in (self.folder, self.settings, self.var, self.logs):
            folder.mkdir(parents=True, exist_ok=True)


class Places:
    """Files of one cluster, below one folder, at the same path inside and outside of its namespaces."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan = folder / "plan.json"
        self.certificates = folder / "certificates"
        self.kubeconfig = self.certificates / "admin.kubeconfig"
        self.logs = folder / "logs"
        self.home = folder / "home"
        self.alive = folder / "alive"
        """A locked file of the control plane's first process, with the process's pid on the machine."""
        self.control_plane = HostPlaces(folder / "control-plane", self.logs)

    def node(self, node: NodeIdentity) -> HostPlaces:
        return HostPlaces(self.folder / "nodes" / node.name, self.logs if node.number == 1 else self.logs / node.name)
