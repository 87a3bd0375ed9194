"""Nothing of a cluster stays, however it ends. These cases have a cluster of their own, beside the session's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from e2e.cluster import Cluster, lifecycle
from e2e.cluster.addresses import Places
from e2e.waiting import until

NODES = 2

pytestmark = pytest.mark.timeout(300, func_only=True)


def links() -> set[str]:
    listed = subprocess.run(["ip", "-json", "link"], capture_output=True, text=True, check=True).stdout
    return {link["ifname"] for link in json.loads(listed)}


def groups(folder: Path) -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob(f"**/{lifecycle.group_name(Places(folder))}"))


def processes(folder: Path) -> set[str]:
    """Everything that runs in the cluster's control groups."""
    return {
        pid for group in groups(folder) for tasks in group.glob("**/cgroup.procs") for pid in tasks.read_text().split()
    }


def left(folder: Path) -> dict[str, object]:
    """What is still there, by kind."""
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{folder}/" in line]
    named = [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if mentions(path, folder)]
    found = {"folder": folder.exists(), "groups": groups(folder), "mounts": mounts, "processes": named}
    return {kind: what for kind, what in found.items() if what}


def mentions(cmdline: Path, folder: Path) -> bool:
    try:
        return f"{folder}/".encode() in cmdline.read_bytes()
    except OSError:  # it ended as we looked
        return False


@pytest.fixture
def folder(cluster: Cluster):
    """A place for another cluster; programs are built already, as the session's runs."""
    links_before = links()
    path = Path(tempfile.mkdtemp(prefix="ce2e-"))
    path.rmdir()
    yield path
    Cluster.down(path)
    assert not left(path)
    until(lambda: links() == links_before, "the machine has the links that it had")


@pytest.fixture
def up(folder: Path, request: pytest.FixtureRequest) -> list[str]:
    options = request.config.option
    settings = [f"--nodes={NODES}", f"--kubernetes={options.kubernetes}", f"--kubelet={options.kubelet}"]
    return [sys.executable, "-m", "e2e.cluster", f"--folder={folder}", "up", *settings]


def test_a_killed_cluster_ends_and_is_replaced(folder: Path, up: list[str]) -> None:
    subprocess.run(up, check=True)
    assert len(processes(folder)) > 2 * NODES
    os.kill(Cluster.find(folder).pid, signal.SIGKILL)
    until(lambda: not processes(folder), "every process of every node has ended")
    done = subprocess.run(up, capture_output=True, text=True, check=True)
    assert "replacing what is left" in done.stderr
    assert Cluster.find(folder).ready()
    assert Cluster.down(folder)
    assert not left(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interrupted_up_leaves_nothing(folder: Path, up: list[str], number: int) -> None:
    """Interrupted when the second node is starting; what kill -9 leaves, `down` removes."""
    with subprocess.Popen(up, stderr=subprocess.PIPE, text=True) as process:
        until((folder / "logs" / "confcom-node-2.log").exists, "the second node is being started")
        process.send_signal(number)
        process.communicate()
    if number == signal.SIGKILL:
        Cluster.down(folder)
    assert not left(folder)
