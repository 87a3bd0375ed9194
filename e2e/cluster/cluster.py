"""The cluster as tests and people use it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from confcom.errors import ConfcomError, UnavailableError
from e2e.cluster import lifecycle, pause
from e2e.cluster.addresses import CONTAINERD_SOCKET, NODE_NAME, Places
from e2e.cluster.tools import Tools, prepare
from e2e.progress import say, timed
from e2e.waiting import until

COMMAND_SECONDS = 120.0
"""For one command in the cluster, unless told otherwise: whatever hangs is an error, not a hung test."""

NODE_READY_SECONDS = 60.0
"""From answering components to a Ready node: 3 s are usual."""


class CommandError(ConfcomError):
    """A command in the cluster failed."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster.

    Args:
        places: where it is.
        tools: what it runs.
        pid: of the node's first process, as the machine counts.
    """

    places: Places
    tools: Tools
    pid: int

    @classmethod
    def up(cls, folder: Path | None = None) -> Cluster:
        """The running cluster of this folder, or a new one in place of a broken one or none.

        Raises:
            ConfcomError: it cannot be; nothing is left behind.
        """
        places = Places(folder or lifecycle.default_folder())
        programs = prepare()
        with lifecycle.alone(places.folder, create=True):
            running = cls._find(places, programs)
            if running and running.ready():
                say(f"the cluster in {places.folder} runs already")
                return running
            if any(places.folder.iterdir()):
                say(f"replacing what is left of a cluster in {places.folder}")
                lifecycle.end(places)
                places.folder.mkdir(mode=0o700)
            try:
                with timed("node Ready"):
                    return cls._new(places, programs)
            except BaseException as error:
                with lifecycle.uninterrupted():
                    if isinstance(error, ConfcomError) and places.logs.is_dir():
                        say(f"logs: {shutil.copytree(places.logs, new_log_folder(), dirs_exist_ok=True)}")
                    lifecycle.end(places)
                raise

    @classmethod
    def find(cls, folder: Path | None = None) -> Cluster:
        """The running cluster of this folder.

        Raises:
            UnavailableError: none runs.
        """
        places = Places(folder or lifecycle.default_folder())
        running = cls._find(places, prepare())
        if running is None:
            raise UnavailableError(f"no cluster runs in {places.folder}", remedy="make e2e-up")
        return running

    @staticmethod
    def runs(folder: Path | None = None) -> bool:
        """Whether one runs in this folder."""
        return lifecycle.node_pid(Places(folder or lifecycle.default_folder())) is not None

    @classmethod
    def down(cls, folder: Path | None = None) -> bool:
        """Remove the cluster of this folder, or what is left of it; says whether there was anything."""
        places = Places(folder or lifecycle.default_folder())
        with lifecycle.alone(places.folder, create=False) as there, lifecycle.uninterrupted():
            if there:
                lifecycle.end(places)
            return there

    @classmethod
    def _find(cls, places: Places, programs: Tools) -> Cluster | None:
        pid = lifecycle.node_pid(places)
        return cls(places, programs, pid) if pid is not None else None

    @classmethod
    def _new(cls, places: Places, programs: Tools) -> Cluster:
        cluster = cls(places, programs, lifecycle.start(places, programs))
        image = places.folder / "pause.tar"
        pause.write_archive(programs.path("pause"), image)
        cluster.import_image(image)
        until(cluster.ready, "the node is Ready", seconds=NODE_READY_SECONDS)
        return cluster

    def ready(self) -> bool:
        """Whether pods can be made."""
        try:
            node = self.kubectl_json("get", "node", NODE_NAME)
            self.kubectl("get", "serviceaccount", "default")
        except CommandError:
            return False
        return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", []))

    @property
    def environment(self) -> Mapping[str, str]:
        """What makes kubectl, helm and ctr reach this cluster, for a process inside of it."""
        home = self.places.home
        folders = [*map(str, self.tools.folders), str(Path(sys.executable).parent)]
        return {
            "PATH": ":".join([*folders, os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]),
            "KUBECONFIG": str(self.places.kubeconfig),
            "KUBECACHEDIR": str(home / "kubectl"),
            "HELM_CACHE_HOME": str(home / "helm-cache"),
            "HELM_CONFIG_HOME": str(home / "helm-config"),
            "HELM_DATA_HOME": str(home / "helm-data"),
            "CONTAINERD_ADDRESS": str(CONTAINERD_SOCKET),
            "CONTAINERD_NAMESPACE": "k8s.io",
        }

    def inside(self, path: PurePath) -> Path:
        """A path on the node as the machine reaches it, unix sockets included."""
        return Path(f"/proc/{self.pid}/root") / path.relative_to("/")

    def entering(self, command: Sequence[str]) -> list[str]:
        """The command that runs this one in all of the node's namespaces, in the same working directory."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup"]
        return [*enter, f"--wd={Path.cwd()}", "--", *command]

    def run(
        self,
        command: Sequence[str],
        *,
        input: str | None = None,  # noqa: A002  (subprocess.run's name)
        check: bool = True,
        timeout: float = COMMAND_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the node.

        Args:
            command: program and arguments.
            input: for its standard input.
            check: whether a failure is an error.
            timeout: in seconds.

        Raises:
            CommandError: it failed or took too long.
        """
        environ = {**os.environ, **self.environment}
        line = " ".join(command)
        try:
            done = subprocess.run(
                self.entering(command),
                input=input if input is not None else "",
                capture_output=True,
                text=True,
                errors="replace",
                env=environ,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CommandError(f"`{line}` did not end", why=f"it had {timeout:.0f} s", remedy="see the logs") from error
        if check and done.returncode:
            said = (done.stderr.strip() or done.stdout.strip())[-4000:]
            raise CommandError(f"`{line}` ended with {done.returncode}", why=said)
        return done

    def kubectl(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002  (subprocess.run's name)
        check: bool = True,
        timeout: float = COMMAND_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator."""
        return self.run(["kubectl", *arguments], input=input, check=check, timeout=timeout)

    def kubectl_json(self, *arguments: str) -> dict[str, Any]:
        """What `kubectl … -o json` prints: an object, or a list's."""
        found: dict[str, Any] = json.loads(self.kubectl(*arguments, "--output=json").stdout)
        return found

    def helm(
        self, *arguments: str, check: bool = True, timeout: float = COMMAND_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run helm as the administrator."""
        return self.run(["helm", *arguments], check=check, timeout=timeout)

    def import_image(self, archive: Path) -> None:
        """Give the node an image; pods use it with imagePullPolicy Never or IfNotPresent."""
        self.run(["ctr", "images", "import", "--local", str(archive.absolute())])

    def stop(self, component: str) -> None:
        """Stop a component (containerd, etcd, apiserver, controller-manager, scheduler, proxy, kubelet)."""
        self._order("stop", component)

    def start(self, component: str) -> None:
        """Start a stopped component; returns when it answers."""
        self._order("start", component)

    def kubelet_restart(self) -> None:
        """Restart the kubelet; returns when the new one answers its health check."""
        self.stop("kubelet")
        self.start("kubelet")

    def _order(self, order: str, component: str) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(COMMAND_SECONDS)
            client.connect(str(self.places.control))
            client.sendall(json.dumps({"order": order, "component": component}).encode())
            answer = client.recv(65536)
        if not answer:
            raise ConfcomError(f"the node ended: {order} {component}", remedy=f"see {self.places.logs}")
        if error := json.loads(answer).get("error"):
            raise ConfcomError(f"{component}: {error}")

    def memory(self) -> int:
        """Bytes of memory in use by everything that runs in the cluster, file cache left out."""
        total = 0
        for status in self.run(["sh", "-c", "cat /proc/[0-9]*/smaps_rollup"], check=False).stdout.splitlines():
            if status.startswith("Pss:"):
                total += int(status.split()[1]) * 1024
        return total

    def collect_logs(self, folder: Path) -> Path:
        """Copy what explains a failure: every component's log, the pods' logs, and what the API server knows."""
        folder.mkdir(parents=True, exist_ok=True)
        for log in self.places.logs.iterdir():
            (folder / log.name).write_bytes(log.read_bytes())
        queries = {
            "objects.txt": "kubectl get nodes,all,pvc,configmaps,events --all-namespaces --output=wide",
            "describe.txt": "kubectl describe nodes,pods --all-namespaces",
            "objects.yaml": "kubectl get nodes,pods,jobs,daemonsets,deployments,events --all-namespaces --output=yaml",
            "network.txt": "ip address; ip route; iptables-save",
            "processes.txt": "ps -eo pid,ppid,stat,rss,etimes,args --forest",
            "images.txt": "ctr images list",
        }
        for name, command in queries.items():
            done = self.run(["sh", "-c", f"{{ {command}; }} 2>&1"], check=False)
            (folder / name).write_text(done.stdout)
        self.run(["cp", "--recursive", "/var/log/pods", str(folder.absolute())], check=False)
        return folder


def new_log_folder() -> Path:
    """A folder for `collect_logs` that outlives the cluster."""
    return Path(tempfile.mkdtemp(prefix="confcom-e2e-logs-"))
