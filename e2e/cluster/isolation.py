"""What the node's first process does before anything else: make a machine of its own out of new namespaces.

The machine's file system stays visible, as programs, the checkout and results are on it, but everything that a node
writes has a place of its own: /run, /dev, /var, /sys and /proc. The kubelet's and kube-proxy's changes to the kernel
never reach the machine: of /proc/sys only the network's part, which is the namespace's own, can be written.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

from confcom.errors import ConfcomError
from e2e.cluster.addresses import NODE_ADDRESS, NODE_NAME, Places
from e2e.cluster.cgroups import Hierarchy

DEVICES = {
    "null": (1, 3, 0o666),
    "zero": (1, 5, 0o666),
    "full": (1, 7, 0o666),
    "random": (1, 8, 0o666),
    "urandom": (1, 9, 0o666),
    "kmsg": (1, 11, 0o644),
    "tty": (5, 0, 0o666),
}
"""Major and minor number and mode (Linux, Documentation/admin-guide/devices.txt); the kubelet exits without kmsg."""

KERNEL_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What the kubelet wants the whole machine's settings to be (setupKernelTunables): it is shown that they are."""

LEFT_READ_ONLY = ("/usr", "/etc", "/opt")
"""Folders of the machine's system, which the node only reads."""


def isolate(places: Places, hierarchies: Sequence[Hierarchy], kept: Sequence[Path]) -> None:
    """Build the node's file system and network; this process is the first of its namespaces.

    Args:
        places: the cluster's.
        hierarchies: of control groups; those of this process become the node's whole world.
        kept: folders that must stay visible, wherever they are.

    Raises:
        ConfcomError: the kernel refuses something.
    """
    _mount("-t", "proc", "proc", "/proc")
    _kernel_settings(places)
    _var(places, kept)
    _mount("-t", "tmpfs", "-o", "mode=755,nosuid,nodev", "tmpfs", "/run")
    Path("/run/lock").mkdir(mode=0o1777)
    _devices(places)
    _sys(hierarchies)
    for folder in LEFT_READ_ONLY:
        if Path(folder).is_dir() and not Path(folder).is_symlink():
            _mount("--bind", folder, folder)
            _mount("-o", "remount,bind,ro", folder)
    _mount("--make-rshared", "/")  # as on a node with systemd; mount propagation of pods needs it
    _network()


def _kernel_settings(places: Places) -> None:
    shown = places.folder / "kernel"
    for name, value in KERNEL_SETTINGS.items():
        path = shown / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    _mount("--bind", "/proc/sys", "/proc/sys")
    for name in KERNEL_SETTINGS:
        _mount("--bind", str(shown / name), f"/proc/sys/{name}")
    _mount("--bind", "/proc/sys/net", "/proc/sys/net")
    _mount("-o", "remount,bind,ro", "/proc/sys")


def _var(places: Places, kept: Sequence[Path]) -> None:
    for name in ("lib/kubelet", "lib/containerd", "log/pods", "log/containers", "tmp"):
        (places.var / name).mkdir(parents=True)
    (places.var / "run").symlink_to("/run")
    for path in (Path("/var/tmp"), *kept):  # noqa: S108  (the machine's own, not a file in it)
        if path.is_relative_to("/var") and path.is_dir():
            below = places.var / path.relative_to("/var")
            below.mkdir(parents=True, exist_ok=True)
            _mount("--rbind", str(path), str(below))
    _mount("--rbind", str(places.var), "/var")


def _devices(places: Places) -> None:
    new = places.folder / "dev"
    new.mkdir()
    _mount("-t", "tmpfs", "-o", "mode=755,nosuid", "tmpfs", str(new))
    for name, (major, minor, mode) in DEVICES.items():
        os.mknod(new / name, stat.S_IFCHR | mode, os.makedev(major, minor))
        (new / name).chmod(mode)
    for name in ("pts", "shm", "mqueue"):
        (new / name).mkdir()
    _mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=0620,gid=5", "devpts", str(new / "pts"))
    _mount("-t", "tmpfs", "-o", "mode=1777,nosuid,nodev", "tmpfs", str(new / "shm"))
    _mount("-t", "mqueue", "mqueue", str(new / "mqueue"))
    (new / "ptmx").symlink_to("pts/ptmx")
    for name, target in {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}.items():
        (new / name).symlink_to(f"/proc/self/fd{target}")
    _mount("--move", str(new), "/dev")


def _sys(hierarchies: Sequence[Hierarchy]) -> None:
    _mount("-t", "sysfs", "-o", "ro", "sysfs", "/sys")
    if not any(hierarchy.mountpoint == Path("/sys/fs/cgroup") for hierarchy in hierarchies):
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/sys/fs/cgroup")
    for hierarchy in hierarchies:
        hierarchy.mountpoint.mkdir(exist_ok=True)
        _mount("-t", hierarchy.type, "-o", hierarchy.options, "cgroup", str(hierarchy.mountpoint))
        hierarchy.open_to_groups()


def _network() -> None:
    for command in (
        "link set lo up",
        "link add node0 type bridge",
        f"address add {NODE_ADDRESS}/24 dev node0",
        "link set node0 up",
        "route add default dev node0",  # a service's address needs some route before it is translated
    ):
        _run("ip", *command.split())
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    _run("hostname", NODE_NAME)


def _mount(*arguments: str) -> None:
    _run("mount", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfcomError(
            "the node's namespaces cannot be set up",
            why=f"`{' '.join(command)}` says: {done.stderr.strip()}",
            remedy="run as root on a machine whose kernel allows it (CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_MKNOD)",
        )
