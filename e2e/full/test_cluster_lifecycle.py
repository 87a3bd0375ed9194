"""Nothing of a cluster stays, however it ends. These cases have clusters of their own, beside the session's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from confcom.errors import SettingsError
from e2e.cluster import Cluster, Shape, lifecycle
from e2e.cluster.addresses import Places, node_identities
from e2e.waiting import until

NODES = 2
CASE_SECONDS = 300

pytestmark = pytest.mark.timeout(CASE_SECONDS, func_only=True)


def links() -> set[str]:
    listed = subprocess.run(["ip", "-json", "link"], capture_output=True, text=True, check=True).stdout
    return {link["ifname"] for link in json.loads(listed)}


def groups(folder: Path) -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob(f"**/{lifecycle.group_name(Places(folder))}"))


def processes(folder: Path) -> list[int]:
    """Everything that runs in the cluster's control groups."""
    listed = {tasks.read_text() for group in groups(folder) for tasks in group.glob("**/cgroup.procs")}
    return sorted({int(pid) for text in listed for pid in text.split()})


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
def arguments(folder: Path, request: pytest.FixtureRequest) -> list[str]:
    options = request.config.option
    up = ["up", f"--nodes={NODES}", f"--kubernetes={options.kubernetes}", f"--kubelet={options.kubelet}"]
    return [sys.executable, "-m", "e2e.cluster", f"--folder={folder}", *up]


@pytest.fixture
def two(folder: Path, request: pytest.FixtureRequest) -> Cluster:
    options = request.config.option
    return Cluster.up(folder, Shape(NODES, options.kubernetes, options.kubelet))


def test_down_leaves_nothing(two: Cluster, folder: Path) -> None:
    assert len(processes(folder)) > 2 * NODES
    assert Cluster.down(folder)
    assert not left(folder)
    assert not Cluster.down(folder)


def test_a_second_up_finds_the_first(two: Cluster, folder: Path, arguments: list[str]) -> None:
    pids = [node.pid for node in two.nodes]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "runs already" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == [node.name for node in two.nodes]
    assert [node.pid for node in two.nodes] == pids


def test_a_cluster_that_is_too_small_is_neither_taken_nor_replaced(two: Cluster, folder: Path) -> None:
    with pytest.raises(SettingsError, match="not the one that is asked for"):
        Cluster.up(folder, Shape(NODES + 1))
    assert two.ready()


def test_all_ends_with_the_first_process(two: Cluster, folder: Path) -> None:
    two.nodes[1].power_off()
    two.nodes[1].power_on()
    os.kill(two.pid, signal.SIGKILL)
    until(lambda: not processes(folder), "every process of every node has ended")
    assert not Cluster.runs(folder)
    assert Cluster.down(folder)


def test_what_a_crash_left_is_replaced(two: Cluster, folder: Path, arguments: list[str]) -> None:
    os.kill(two.pid, signal.SIGKILL)
    until(lambda: not Cluster.runs(folder), "it has ended")
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "replacing what is left" in done.stderr
    assert Cluster.find(folder).ready()


def test_a_component_that_ends_unasked_ends_all(two: Cluster, folder: Path) -> None:
    """A kubelet, on the second node, whose end no order asked for."""
    kubelets = [pid for pid in processes(folder) if b"--hostname-override=confcom-node-2" in cmdline(pid, "kubelet")]
    (kubelet,) = kubelets
    os.kill(kubelet, signal.SIGKILL)
    until(lambda: not Cluster.runs(folder), "all has ended")
    assert "kubelet ended by itself" in (folder / "logs" / "confcom-node-2.log").read_text()
    assert "confcom-node-2 ended by itself" in (folder / "logs" / "host.log").read_text()


def cmdline(pid: int, program: str) -> bytes:
    """Of a process of this program."""
    read = Path(f"/proc/{pid}/cmdline").read_bytes()
    return read if Path(os.fsdecode(read.split(b"\0")[0])).name == program else b""


@pytest.mark.parametrize("stage", ["etcd", *(node.name for node in node_identities(NODES))])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interrupted_up_leaves_nothing(folder: Path, arguments: list[str], stage: str, number: int) -> None:
    """Interrupted when this component is starting; what kill -9 leaves, `down` removes."""
    logs = folder / "logs" / f"{stage}.log"
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        until(logs.exists, f"{stage} is being started")
        process.send_signal(number)
        said = process.communicate()[1]
    if number == signal.SIGKILL:
        Cluster.down(folder)
    else:
        assert "nothing is left" in said
    assert not left(folder)
