"""A registry of images on the address of the cluster's control plane, from which the kubelets pull."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import Cluster
from e2e.cluster.addresses import CONTROL_PLANE_ADDRESS
from e2e.packages import install
from e2e.waiting import end, until

PORT = 5000
ADDRESS = f"{CONTROL_PLANE_ADDRESS}:{PORT}"
END_SECONDS = 10.0
PROGRAMS = {"docker-registry": "docker-registry", "htpasswd": "apache2-utils", "skopeo": "skopeo"}
"""Programs of the checks, and their packages."""
HOSTS = f"""server = "http://{ADDRESS}"
[host."http://{ADDRESS}"]
capabilities = ["pull", "resolve"]
"""
"""containerd's file for a registry without TLS."""


@dataclass(frozen=True, slots=True)
class Registry:
    """Files of a registry; it serves within `serving`, each time with or without a login."""

    cluster: Cluster
    folder: Path

    @classmethod
    def of(cls, cluster: Cluster, folder: Path) -> Registry:
        """A registry with empty files, which containerd of every node knows."""
        install(PROGRAMS, purpose="checking a release")
        for node in cluster.nodes:
            known = node.places.settings / "certs.d" / ADDRESS
            known.mkdir(parents=True)
            (known / "hosts.toml").write_text(HOSTS)
        return cls(cluster, folder)

    @contextlib.contextmanager
    def serving(self, user: str = "", password: str = "") -> Iterator[None]:
        settings = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "data")}},
            "http": {"addr": ADDRESS},
        }
        if user:
            made = ["htpasswd", "-Bbn", user, password]
            logins = self.folder / "htpasswd"
            logins.write_bytes(subprocess.run(made, check=True, capture_output=True).stdout)
            settings["auth"] = {"htpasswd": {"realm": "registry", "path": str(logins)}}
        file = self.folder / "registry.json"
        file.write_text(json.dumps(settings))  # JSON is YAML
        network = ["nsenter", f"--target={self.cluster.pid}", "--net"]
        with (self.folder / "registry.log").open("ab") as log:
            serving = subprocess.Popen([*network, "docker-registry", "serve", str(file)], stdout=log, stderr=log)
            try:
                until(self.answers, "the registry answers")
                yield
            finally:
                end(serving, END_SECONDS)

    def answers(self) -> bool:
        asked = ["bash", "-c", f"exec 3<>/dev/tcp/{CONTROL_PLANE_ADDRESS}/{PORT}"]
        return self.cluster.run(asked, check=False).returncode == 0

    def blob(self, digest: str) -> Path:
        """The file of a blob, such as a layer."""
        kind, value = digest.split(":")
        return self.folder / "data" / "docker" / "registry" / "v2" / "blobs" / kind / value[:2] / value / "data"
