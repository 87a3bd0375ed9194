"""A command that changes the add-on in the background, for tests to interrupt or kill it midway."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confcom.addon.change import LEASE_NAME
from e2e.add_on import HERE, RELEASE
from e2e.cluster import Cluster
from e2e.confcom_command import COMMAND_SECONDS, JSON, Done
from e2e.waiting import until

SLICE_SECONDS = 0.05
"""Seconds for which helm runs between two stops, until it has recorded its change; its end takes longer."""
STOP_HELM = r"""
while :; do
    for helm in $(pgrep --parent "$1" --exact helm); do
        if tr '\0' ' ' <"/proc/$helm/cmdline" | grep --quiet -- --force-conflicts; then
            kill -STOP "$helm" && echo "$helm" && exit
        fi
    done
    sleep 0.02
done"""
"""Script that stops the helm process that changes the release; other helm processes only read."""


@dataclass(frozen=True, slots=True)
class RunningChange:
    """A command in the background; the process IDs are those that the cluster sees."""

    cluster: Cluster
    pid: str
    result: Future[Done]

    def signal(self, name: str, *pids: str) -> None:
        self.cluster.run(["kill", f"-{name}", *(pids or [self.pid])])

    def runs(self, pid: str) -> bool:
        return bool(self.cluster.run(["cat", f"/proc/{pid}/cmdline"], check=False).stdout)  # empty if it has ended

    def child(self, program: str) -> str:
        return self.cluster.run(["pgrep", "--parent", self.pid, "--exact", program]).stdout.strip()

    def stop_helm(self) -> str:
        """Stop helm in the middle of its change, and return helm's process ID."""
        helm = self.cluster.run(["bash", "-c", STOP_HELM, "bash", self.pid]).stdout.strip()

        def pending() -> bool:
            if last_status(self.cluster) == "pending-upgrade":
                return True
            self.signal("CONT", helm)
            time.sleep(SLICE_SECONDS)
            self.signal("STOP", helm)
            return False

        until(pending, "helm has recorded that it has begun")
        return helm


@contextmanager
def in_background(cluster: Cluster, folder: Path, *arguments: str) -> Iterator[RunningChange]:
    """Start a command, and wait until the command holds the Lease."""
    file = folder / "pid"
    noting = ["sh", "-c", f'echo $$ >{file}; exec "$@"', "sh", sys.executable, "-m", "confcom", *arguments, JSON]
    with ThreadPoolExecutor(max_workers=1) as beside:
        result = beside.submit(cluster.run, noting, check=False, timeout=COMMAND_SECONDS)
        until(lambda: holder(cluster).startswith(arguments[0]), "the command holds the Lease")
        yield RunningChange(cluster, file.read_text().strip(), result)


def holder(cluster: Cluster) -> str:
    found = cluster.kubectl("get", "lease", LEASE_NAME, HERE, JSON, "--ignore-not-found").stdout
    return str(json.loads(found)["spec"].get("holderIdentity", "")) if found else ""


def last_status(cluster: Cluster) -> str:
    listed = cluster.helm("history", RELEASE, HERE, JSON)
    return str(json.loads(listed.stdout)[-1]["status"])
