"""Nothing of a cluster stays, however it ends. These cases have a cluster of their own, beside the session's."""

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


def links():
    listed = subprocess.run(["ip", "-json", "link"], capture_output=True, text=True, check=True).stdout
    return {link["ifname"] for link in json.loads(listed)}


def groups(folder):
    return list(Path("/sys/fs/cgroup").glob(f"**/{lifecycle.group_name(Places(folder))}"))


def processes(folder):
    """Everything that runs in the cluster's control groups."""
    return {pid for group in groups(folder) for one in group.glob("**/cgroup.procs") for pid in one.read_text().split()}


def nothing_is_left(folder):
    return not folder.exists() and not groups(folder) and f"{folder}/" not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def folder(cluster):
    """A place for another cluster; programs are built already, as the session's runs."""
    links_before = links()
    path = Path(tempfile.mkdtemp(prefix="ce2e-"))
    path.rmdir()
    yield path
    Cluster.down(path)
    assert nothing_is_left(path)
    until(lambda: links() == links_before, "the machine has the links that it had")


@pytest.fixture
def up(folder, request):
    options = request.config.option
    settings = [f"--nodes={NODES}", f"--kubernetes={options.kubernetes}", f"--kubelet={options.kubelet}"]
    return [sys.executable, "-m", "e2e.cluster", f"--folder={folder}", "up", *settings]


def test_a_killed_cluster_ends_and_is_replaced(folder, up):
    subprocess.run(up, check=True)
    assert len(processes(folder)) > 2 * NODES
    os.kill(Cluster.find(folder).pid, signal.SIGKILL)
    until(lambda: not processes(folder), "every process of every node has ended")
    done = subprocess.run(up, capture_output=True, text=True, check=True)
    assert "replacing what is left" in done.stderr
    assert Cluster.find(folder).ready()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interrupted_up_leaves_nothing(folder, up, number):
    """Interrupted when the second node is starting; what kill -9 leaves, `down` removes."""
    with subprocess.Popen(up, stderr=subprocess.PIPE, text=True) as process:
        until((folder / "logs" / "confcom-node-2.log").exists, "the second node is being started")
        process.send_signal(number)
        process.communicate()
    if number == signal.SIGKILL:
        Cluster.down(folder)
    assert nothing_is_left(folder)
