"""The stages of each Dockerfile."""

import importlib
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from testkit.dockerfiles import stages_of

ROOT = Path(__file__).parent.parent.parent


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


@pytest.fixture(params=["stages", "example", "aesmd"])
def any_stages(request):
    """Each of them."""
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
