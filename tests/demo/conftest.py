import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from confcom.demo import story
from confcom.demo.container_runtime import Image, choose_runtime
from confcom.demo.guardian import MARK_VARIABLE, marked
from confcom.demo.node import Node
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.namespaces.modes import Mode, find_tools
from testkit.conditions import until, wait_until
from testkit.kubelet_contract.plugin import Plugin

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("CONFCOM_", "SGX_", "COV_"))}
TOOLS = find_tools(os.environ["PATH"])


def mount(container_path, host_path, *, read_only=False):
    return pb.Mount(container_path=container_path, host_path=host_path, read_only=read_only)


@pytest.fixture
async def plugins():
    made = []

    async def make(directory, **settings):
        made.append(Plugin(directory, **settings))
        await made[-1].start()
        return made[-1]

    yield make
    for plugin in made:
        await plugin.stop()


@pytest.fixture(scope="session")
def obstacles(tmp_path_factory):
    """Reasons why demo modes cannot be tested on this machine, keyed by mode."""

    async def try_all():
        found = {}
        for mode in Mode:
            try:
                await choose_runtime(mode, TOOLS, {}, tmp_path_factory.mktemp("probe"))
            except story.ConfcomError as error:
                found[mode] = error.why
        return found

    return asyncio.run(try_all())


@pytest.fixture(params=list(Mode), ids=str)
def mode(request, obstacles):
    if request.param in obstacles:
        pytest.skip(f"mode {request.param} left out on this machine: {obstacles[request.param]}")
    return request.param


@pytest.fixture
async def start_node(short_dir):
    """Starts demo nodes in this process; the nodes have an image named `sh`."""
    started = []

    async def start(mode=Mode.NO_NAMESPACE, node_type=Node, **options):
        runtime = await choose_runtime(mode, TOOLS, {MARK_VARIABLE: str(short_dir)}, short_dir)
        started.append(node_type(short_dir, runtime, {"sh": Image(("/bin/sh", "-c"), {"A": "image"})}, **options))
        await started[-1].start()
        return started[-1]

    yield start
    for node in started:
        await node.stop()
    # A container that is killed while it starts may end only a moment later.
    await until(lambda: not any(marked(f"{MARK_VARIABLE}={short_dir}")))


@pytest.fixture
def play(monkeypatch):
    async def run(*, mode="auto", instead=None, images=None, after=(0, None), patience=20.0):
        number, act = after
        title, step = list(story.STEPS.items())[number - 1]

        async def step_and_act(demo, report):
            await step(demo, report)
            await act(demo)

        if act is not None:
            monkeypatch.setattr(story, "STEPS", {**story.STEPS, title: step_and_act})
        options = {"replacements": instead, "images": images, "ready_seconds": patience}
        async with story.open_demo(mode, ENVIRONMENT, **options) as demo:
            report = await story.run(demo, begin=lambda _: None, end=lambda _: None)
        assert traces_of(demo.processes.folder) == NOTHING
        return report

    return run


@pytest.fixture
def script(tmp_path):
    def write(text, name="program"):
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        return (sys.executable, str(path))

    return write


@pytest.fixture
def demo_environment():
    return ENVIRONMENT | {"PYTHONUNBUFFERED": "1"}


@pytest.fixture
def demo_process(demo_environment):
    """Starts `confcom demo` in a new session; kills every demo that still runs after the test."""
    started = []

    def start(*arguments, command=(), **options):
        process = subprocess.Popen(
            [*command, Path(sys.executable).with_name("confcom"), "demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **({"env": demo_environment} | options),
            start_new_session=True,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


SLOW_HOLDER = """
import sys, time
if "--hold" in sys.orig_argv:
    time.sleep(60)
"""


@pytest.fixture
def holding_demo(demo_process, demo_environment, tmp_path, tmp_path_factory):
    """A demo whose last step waits for a minute, so that a signal arrives in time even on a busy machine."""
    slowing = tmp_path_factory.mktemp("slowing")
    (slowing / "sitecustomize.py").write_text(SLOW_HOLDER)
    changes = {"TMPDIR": str(tmp_path), "PYTHONPATH": str(slowing)}
    return demo_process(env=demo_environment | changes)


def folder_of(process):
    """Folder of a demo that has just started: its guardian, which is its first child, has the folder's name."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(lambda: process.poll() is not None or b"confcom.demo.guardian" in command_of(children))
    return Path(os.fsdecode(command_of(children).split(b"\0")[-2]))


def command_of(children):
    first = children.read_text().partition(" ")[0]
    return Path(f"/proc/{first}/cmdline").read_bytes() if first else b""


NOTHING = {"folder": False, "processes": [], "mounts": []}


def traces_of(folder):
    """Remains of a demo on the machine: its folder, processes and mounts."""
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(folder) in line]
    return {"folder": folder.exists(), "processes": list(processes_of(folder)), "mounts": mounts}


def processes_of(folder):
    """Process IDs and commands of processes that have the folder in their command line or environment."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
                if str(folder).encode() in command + environment:
                    yield int(entry.name), command
