"""Device plugins as processes of the machine, and pods that ask for what they offer."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.cluster import Cluster, Node
from e2e.cluster.addresses import DEVICE_PLUGINS
from e2e.images_workshop import references
from e2e.kubelet_log import KubeletLog

EPC_MIB = 168
OFFERED_MIB = 162
"""Without what is set aside for quote helpers."""

END_SECONDS = 20.0
"""From SIGTERM to a plugin's end; it takes under one."""

IMAGE = references("sample-workload")[0]


@dataclass(slots=True)
class Plugins:
    """Plugins that serve in a node's directory (the first one's if none), under names that no other case has."""

    cluster: Cluster
    folder: Path
    node: Node | None = None
    unique: str = field(default_factory=lambda: secrets.token_hex(3))
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def epc(self) -> str:
        """The resource of memory."""
        return f"example.com/{self.unique}-epc"

    @property
    def names(self) -> list[str]:
        """All resources."""
        return [f"example.com/{self.unique}-{kind}" for kind in ("epc", "enclave", "provision", "helper")]

    def start(self, epc_mib: int = EPC_MIB, settings: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start another instance, which finds so much EPC."""
        directory = (self.node or self.cluster.node).inside(DEVICE_PLUGINS)
        command = [sys.executable, "-m", "confcom.device_plugin", "--simulated", f"--simulated-epc-mib={epc_mib}"]
        command += [f"--host-root={self.folder}", f"--device-plugin-dir={directory}", *settings]
        command += [f"--installation={self.unique}", f"--probe-address=unix:{self.folder}/p{len(self.running)}"]
        for kind, name in zip(("epc", "enclave", "provision", "helper"), self.names, strict=True):
            command.append(f"--{kind}-resource={name}")
        with (self.folder / f"plugin{len(self.running)}.log").open("wb") as log:
            self.running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log))
        return self.running[-1]

    def end(self, plugin: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
        """End one by a signal; returns when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(plugin.pid, number)
        plugin.wait(END_SECONDS)


def registered(log: KubeletLog, plugins: Plugins, times: int = 1) -> bool:
    """Whether the kubelet has processed this many lists of each resource since the log's mark."""
    return all(len(log.lists(name)) >= times for name in plugins.names)


def waiting_container(resource: str, count: int = 1) -> dict[str, Any]:
    """A container that holds so many devices until it is told to end."""
    return {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"],
        "resources": {"limits": {resource: count}},
    }


def replica_set(name: str, resource: str, replicas: int) -> str:
    """Pods that hold a device each; whichever is rejected, the controller makes another."""
    labels = {"app": name}
    container = waiting_container(resource)
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    return json.dumps({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name}, "spec": spec})
