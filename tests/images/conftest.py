"""Dockerfiles taken apart."""

import importlib
import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from string import Template

import pytest

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Stage:
    base: str
    name: str
    instructions: list  # of (keyword, arguments as one line)

    def all(self, keyword):
        return [arguments for found, arguments in self.instructions if found == keyword]


def stages_of(path):
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    stages, defaults = [], {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        keyword, _, arguments = line.strip().partition(" ")
        if keyword == "FROM":
            base, _, name = arguments.partition(" AS ")
            stages.append(Stage(Template(base).substitute(defaults), name or str(len(stages)), []))
        elif keyword == "ARG" and not stages:
            variable, _, defaults[variable] = arguments.partition("=")
        elif keyword:
            stages[-1].instructions.append((keyword, " ".join(arguments.split())))
    return {stage.name: stage for stage in stages}


@pytest.fixture
def stages():
    """The stages of confcom's own images, by name."""
    return stages_of(ROOT / "images" / "Dockerfile")


@pytest.fixture
def example():
    """The stages of the example with Intel's libraries."""
    return stages_of(ROOT / "images" / "example-intel" / "Dockerfile")


@pytest.fixture
def aesmd():
    """The stages of the image with Intel's aesmd."""
    return stages_of(ROOT / "images" / "aesmd" / "Dockerfile")


@pytest.fixture
def dcap():
    """The stages of the helper's image with Intel's DCAP libraries."""
    return stages_of(ROOT / "images" / "dcap" / "Dockerfile")


@pytest.fixture(params=["stages", "example", "aesmd"])
def any_stages(request):
    """Each that has a base from outside; dcap's is an image that its reader has built."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def copied(stages):
    """Paths of the checkout that the images are made from."""
    sources = [
        shlex.split(line)[:-1] for stage in stages.values() for line in stage.all("COPY") if "--from=" not in line
    ]
    return {path for paths in sources for path in paths}


@pytest.fixture
def builder(monkeypatch):
    """Imports a module of the end-to-end tests, which are no part of the package."""
    monkeypatch.syspath_prepend(ROOT)
    return lambda name: importlib.import_module(f"e2e.{name}")


@pytest.fixture
def in_namespace():
    """Runs a script as root with mounts of its own, which nobody else sees."""
    if os.getuid() != 0:
        pytest.skip("needs root to mount")
    unshare = ["unshare", "--mount", "--propagation", "private"]
    if subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", "/opt"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount")

    def run(script):
        return subprocess.run([*unshare, "sh", "-c", script], capture_output=True, text=True, check=False, timeout=60)

    return run
