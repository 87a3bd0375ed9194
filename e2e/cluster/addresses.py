"""Names, addresses and places of the one node; all of them private to its namespaces, so they may be fixed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NODE_NAME = "confcom-node"
NODE_ADDRESS = "172.31.255.1"
"""Of a bridge that exists in the node's network namespace only."""

POD_NETWORK = "10.244.0.0/16"
NODE_POD_NETWORK = "10.244.0.0/24"
"""The first /24 of POD_NETWORK: what the controller manager gives to the first node, and the plugins' own range."""

SERVICE_NETWORK = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
"""The API server's place in SERVICE_NETWORK: always the first."""

API_PORT = 6443
ETCD_URL = "http://127.0.0.1:2379"
CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")
PAUSE_IMAGE = "localhost/confcom/pause:latest"
"""localhost: a registry that is nobody's, so nothing can ever pull something else under this name."""


@dataclass(frozen=True, slots=True)
class Places:
    """Everything that one cluster keeps, below one folder.

    Args:
        folder: on the machine's own file system, the same path inside and outside of the namespaces.
    """

    folder: Path

    @property
    def certificates(self) -> Path:
        """Keys, certificates and kubeconfigs."""
        return self.folder / "certificates"

    @property
    def settings(self) -> Path:
        """Configuration files of the components."""
        return self.folder / "settings"

    @property
    def logs(self) -> Path:
        """One file per component."""
        return self.folder / "logs"

    @property
    def var(self) -> Path:
        """The node's /var."""
        return self.folder / "var"

    @property
    def home(self) -> Path:
        """What kubectl and helm keep for their user."""
        return self.folder / "home"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's way into the cluster."""
        return self.certificates / "admin.kubeconfig"

    @property
    def control(self) -> Path:
        """The socket on which the node's first process takes orders."""
        return self.folder / "control.sock"

    @property
    def alive(self) -> Path:
        """A file that the node's first process keeps locked; holds its pid, as the machine counts."""
        return self.folder / "alive"
