"""Make sure that hosts share nothing that tests put things into: two nodes with one /run would prove nothing."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from confcom.errors import ConfcomError

OWN_FOLDERS = ("run", "dev", "var/lib/kubelet")
"""Where daemons, devices and the kubelet meet; without the first slash."""

OWN_NAMESPACES = ("mnt", "net", "pid", "uts", "ipc", "cgroup")
REMEDY = "take the cluster down, and look why: e2e/cluster/isolation.py"


def check_apart(pids: Mapping[str, int]) -> None:
    """Look from every node (by its first process) whether a file of another one, or of the machine, is there."""
    processes = {"this machine": Path("/proc/self"), **{name: Path(f"/proc/{pid}") for name, pid in pids.items()}}
    roots = {name: process / "root" for name, process in processes.items()}
    check_folders({name: root for name, root in roots.items() if name in pids}, roots)
    owners: dict[str, str] = {}
    for name, process in processes.items():
        for kind in OWN_NAMESPACES:
            other = owners.setdefault(str((process / "ns" / kind).readlink()), name)
            if other != name:
                raise ConfcomError(f"{name} and {other} have the same {kind} namespace", remedy=REMEDY)


def check_folders(
    owners: Mapping[str, Path], observers: Mapping[str, Path], folders: Sequence[str] = OWN_FOLDERS
) -> None:
    """Make a file in each owner's folder, and look for it from all others; both are root folders by name."""
    for owner, root in owners.items():
        for folder in folders:
            name = f"confcom-self-check-{secrets.token_hex(8)}"
            probe = root / folder / name
            probe.touch(exist_ok=False)
            try:
                seen = [other for other, its in observers.items() if other != owner and (its / folder / name).exists()]
            finally:
                probe.unlink()
            if seen:
                raise ConfcomError(f"{', '.join(seen)} and {owner} share /{folder}", remedy=REMEDY)
