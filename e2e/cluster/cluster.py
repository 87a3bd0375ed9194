"""The cluster as tests and people use it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from confcom.errors import ConfcomError, UnavailableError
from e2e.cluster import lifecycle, pause
from e2e.cluster.addresses import CONTAINERD_SOCKET, Places
from e2e.cluster.node import CommandError, Node, RunOptions, order, run_entering, stopped
from e2e.cluster.plan import Plan, Shape
from e2e.cluster.tools import prepare
from e2e.progress import say, timed
from e2e.waiting import until

NODES_READY_SECONDS = 60.0
"""Seconds after all components answer until all nodes are Ready; usually 3."""
NODES_BACK_SECONDS = 150.0
"""Seconds until nodes are Ready after an API server outage. The nodes count as lost until their kubelets watch them
again. A kubelet tries this at growing intervals: client-go waits up to 30 to 60 s."""

ONE_NODE = Shape()


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster; `pid` is the machine's process ID of the control plane's first process."""

    places: Places
    plan: Plan
    pid: int

    @classmethod
    def up(cls, folder: Path | None = None, shape: Shape = ONE_NODE) -> Cluster:
        """The running cluster of this folder; if there is none, or it is broken, a new cluster.

        A running cluster with more nodes than needed is used as it is. A failure leaves nothing behind.
        """
        places = Places(folder or lifecycle.default_folder())
        plan = Plan(shape.nodes, prepare(shape.kubernetes))
        with lifecycle.alone(places.folder, create=True):
            running = cls._find(places)
            if running and running.ready():
                running.plan.check_serves(plan, places.folder)
                say(f"the cluster in {places.folder} runs already")
                return running
            if any(places.folder.iterdir()):
                say(f"replacing what is left of a cluster in {places.folder}")
                lifecycle.end(places)
                places.folder.mkdir(mode=0o700)
            try:
                with timed("node Ready" if plan.nodes == 1 else f"{plan.nodes} nodes Ready"):
                    return cls._new(places, plan)
            except BaseException as error:
                if isinstance(error, ConfcomError) and places.logs.is_dir():
                    say(f"logs: {shutil.copytree(places.logs, new_log_folder(), dirs_exist_ok=True)}")
                lifecycle.end(places)
                raise

    @classmethod
    def find(cls) -> Cluster:
        places = Places(lifecycle.default_folder())
        running = cls._find(places)
        if running is None:
            raise UnavailableError(f"no cluster runs in {places.folder}", remedy="make e2e-up")
        return running

    @staticmethod
    def runs() -> bool:
        return lifecycle.first_pid(Places(lifecycle.default_folder())) is not None

    @classmethod
    def down(cls, folder: Path | None = None) -> bool:
        """Remove the cluster of this folder, or its remains; return whether there was anything to remove."""
        places = Places(folder or lifecycle.default_folder())
        with lifecycle.alone(places.folder, create=False) as there:
            if there:
                lifecycle.end(places)
            return there

    @classmethod
    def _find(cls, places: Places) -> Cluster | None:
        pid = lifecycle.first_pid(places)
        return cls(places, Plan.read(places.plan), pid) if pid is not None else None

    @classmethod
    def _new(cls, places: Places, plan: Plan) -> Cluster:
        cluster = cls(places, plan, lifecycle.start(places, plan))
        image = places.folder / "pause.tar"
        pause.write_archive(plan.tools.path("pause"), image)
        cluster.import_image(image)
        until(cluster.ready, "the nodes are Ready", seconds=NODES_READY_SECONDS)
        return cluster

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(Node(identity, self.places, self.environment) for identity in self.plan.identities)

    @property
    def node(self) -> Node:
        return self.nodes[0]

    def ready(self) -> bool:
        """Whether Pods can be created on every node."""
        try:
            nodes = self.kubectl_json("get", "nodes")["items"]
            self.kubectl("get", "serviceaccount", "default")
        except CommandError:
            return False
        conditions = [condition for node in nodes for condition in node["status"].get("conditions", [])]
        ready = [one for one in conditions if one["type"] == "Ready" and one["status"] == "True"]
        return len(ready) == self.plan.nodes

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment with which kubectl, helm and ctr reach this cluster from a process inside of it."""
        folders = [*map(str, self.plan.tools.folders), str(Path(sys.executable).parent)]
        return {
            "PATH": ":".join([*folders, os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]),
            "KUBECONFIG": str(self.places.kubeconfig),
            "KUBECACHEDIR": str(self.places.home / "kubectl"),
            "CONTAINERD_ADDRESS": str(CONTAINERD_SOCKET),
            "CONTAINERD_NAMESPACE": "k8s.io",
        }

    def run(self, command: Sequence[str], **options: Unpack[RunOptions]) -> subprocess.CompletedProcess[str]:
        return self.node.run(command, **options)

    def _control(self, command: Sequence[str], **options: Unpack[RunOptions]) -> subprocess.CompletedProcess[str]:
        """Run a command in the control plane's namespaces, which exist even if the nodes are off."""
        return run_entering(self.pid, command, self.environment, **options)

    def kubectl(self, *arguments: str, **options: Unpack[RunOptions]) -> subprocess.CompletedProcess[str]:
        return self._control(["kubectl", *arguments], **options)

    def kubectl_json(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl(*arguments, "--output=json").stdout)
        return found

    def helm(self, *arguments: str, **options: Unpack[RunOptions]) -> subprocess.CompletedProcess[str]:
        return self._control(["helm", *arguments], **options)

    def objects(self) -> set[str]:
        """All objects that the API lists, except Events and Leases: `KINDS/NAMESPACE/NAME`."""
        kinds = self.kubectl("api-resources", "--verbs=list", "--output=name").stdout.split()
        columns = "--output=custom-columns=NS:.metadata.namespace,NAME:.metadata.name"
        found = set()
        for kind in kinds:
            if kind.partition(".")[0] not in {"events", "leases"}:
                listed = self.kubectl("get", kind, "--all-namespaces", columns, "--no-headers").stdout
                found |= {f"{kind}/{'/'.join(line.split())}" for line in listed.splitlines()}
        return found

    @contextlib.contextmanager
    def new_namespace(self, purpose: str) -> Iterator[str]:
        name = f"{purpose}-{secrets.token_hex(4)}"
        self.kubectl("create", "namespace", name)
        self.kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}")
        yield name
        self.kubectl("delete", "namespace", name)

    def import_image(self, archive: Path) -> None:
        with ThreadPoolExecutor(self.plan.nodes) as pool:
            list(pool.map(lambda node: node.import_image(archive), self.nodes))

    def stop(self, component: str) -> None:
        order(self.places.control_plane.control, "stop", component)

    def kill(self, component: str) -> None:
        order(self.places.control_plane.control, "kill", component)

    def start(self, component: str, program: Path | None = None) -> None:
        """Start a component; return when it answers. If `program` is given, it replaces the old program."""
        order(self.places.control_plane.control, "start", component, program=program)

    def mend(self) -> None:
        """Start everything that is stopped or off, and wait until all nodes are Ready."""
        for part in stopped(self.places.control_plane.control):
            order(self.places.control_plane.control, "start", part)
        for node in self.nodes:
            for part in stopped(node.places.control):
                node.start(part)
        until(self.ready, "the nodes are Ready", seconds=NODES_BACK_SECONDS)

    def collect_logs(self, folder: Path) -> None:
        shutil.copytree(self.places.logs, folder, dirs_exist_ok=True)
        objects = self.kubectl("describe", "nodes,pods", "--all-namespaces", check=False)
        (folder / "objects.txt").write_text(objects.stdout)
        for node in self.nodes:
            with contextlib.suppress(UnavailableError):  # the node is off
                node.run(["cp", "--recursive", "/var/log/pods", str(folder / f"pods-on-{node.name}")], check=False)


def new_log_folder() -> Path:
    """A folder for `collect_logs` that outlives the cluster."""
    return Path(tempfile.mkdtemp(prefix="confcom-e2e-logs-"))
