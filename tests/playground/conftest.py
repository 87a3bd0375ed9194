"""A short directory for sockets, a device plugin over real gRPC, a node in this process and one as a process."""

import asyncio
import itertools
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from confcom.playground.api.client import NodeClient
from confcom.playground.kubelet.plugin_registry import KubeletRules
from confcom.playground.kubelet.rules import BackOff
from confcom.playground.layout import Layout
from confcom.playground.node import Node, Timing
from confcom.playground.runtime.images import Image
from confcom.playground.runtime.machine import Programs
from confcom.playground.runtime.modes import Mode, choose_mode, obstacle_to, prefix
from testkit.kubelet_contract.plugin import Plugin


@pytest.fixture
def short_dir():
    path = Path(tempfile.mkdtemp(prefix="cpg-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def plugins():
    """Make plugins; all are stopped at the end."""
    made = []

    async def make(directory, **settings):
        plugin = Plugin(directory, **settings)
        made.append(plugin)
        await plugin.start()
        return plugin

    yield make
    for plugin in made:
        await plugin.stop()


@pytest.fixture(scope="session")
def obstacles():
    """By mode: why it cannot be tested on this machine; empty if it can."""
    programs = Programs.find()
    return {mode: obstacle_to(mode, prefix(mode, programs), programs.tools) for mode in Mode}


@pytest.fixture(params=list(Mode), ids=str)
def mode(request, obstacles):
    if obstacles[request.param]:
        pytest.skip(f"mode {request.param} left out on this machine: {obstacles[request.param]}")
    return request.param


IMAGES = {
    "true": Image(("/bin/true",)),
    "false": Image(("/bin/false",)),
    "sh": Image(("/bin/sh", "-c")),
    "sleep": Image(("/bin/sleep", "1000")),
}


@dataclass
class LocalNode:
    node: Node
    layout: Layout

    async def until(self, predicate, seconds=20):
        """The first state for which the predicate holds."""
        async with asyncio.timeout(seconds):
            state = self.node.state()
            while not predicate(state):
                state = await self.node.changed_since(state.revision, seconds)
        return state

    async def run(self, text, *phases, reason=""):
        """Apply the pod `one`, and give the first state in which it is in such a phase, or has this reason."""

        def reached(state):
            pod = state.pod("one")
            return pod is not None and (pod.phase in phases or (reason and pod.reason == reason))

        self.node.apply(text)
        return await self.until(reached)


@pytest.fixture
async def start_node(short_dir):
    """Start nodes inside of this process, without namespaces unless told otherwise."""
    started = []

    async def start(*, mode=Mode.NO_NAMESPACE, timing=None, images=None, rules=KubeletRules.UP_TO_1_36):
        layout = Layout(short_dir)
        layout.create()
        numbers = itertools.count()
        node = Node(
            layout,
            {**IMAGES, **(images or {})},
            choose_mode(mode),
            instance="test",
            suffix=lambda: f"{next(numbers):05}",
            rules=rules,
            timing=timing or Timing(BackOff(0.01, 0.01), BackOff(0.01, 0.01), dial_seconds=5, stop_grace_seconds=300),
        )
        await node.start()
        started.append(node)
        return LocalNode(node, layout)

    yield start
    for node in started:
        await node.stop()


COMMAND = (sys.executable, "-m", "confcom", "playground")


@dataclass
class NodeProcess:
    process: subprocess.Popen
    directory: Path
    ready_line: str
    errors: Path

    def client(self):
        return NodeClient(self.directory)

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def node_process(short_dir):
    """Start `confcom playground node` as a process of its own."""
    running = []

    def start(*arguments, directory=short_dir, command=COMMAND, **options):
        path = directory.parent / f"{directory.name}.err"
        with path.open("wb") as errors:
            process = subprocess.Popen(
                [*command, "node", "--dir", str(directory), "--image", "true=/bin/true", *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
                **options,
            )
        running.append((process, path))
        return NodeProcess(process, directory, process.stdout.readline(), path)

    yield start
    for process, errors in running:
        if process.poll() is None:
            process.kill()
        process.wait(20)
        process.stdout.close()
        errors.unlink(missing_ok=True)


def manifest(kind="Job", name="one", *, image="true", resources=None, env=(), pod=None, container=None, **job):
    """A manifest as JSON, which is YAML too."""
    spec = {
        "containers": [
            {
                "name": "main",
                "image": image,
                "env": [{"name": key, "value": value} for key, value in env],
                **({"resources": {"limits": resources}} if resources else {}),
                **(container or {}),
            }
        ],
        "restartPolicy": "Never",
        **(pod or {}),
    }
    if kind == "Pod":
        return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
    job_spec = {"template": {"spec": spec}, **job}
    return json.dumps({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": job_spec})


@pytest.fixture(name="manifest")
def manifest_fixture():
    return manifest
