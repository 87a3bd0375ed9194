"""Isolation of a host: its first process begins by building a machine of its own from new namespaces.

The machine's file system stays visible, but everything that a host writes has its own place: /run, /dev,
/var, /sys and /proc. In /proc/sys, only the network namespace's own part can be written.
"""

from __future__ import annotations

import os
import stat
import subprocess
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from confcom.errors import ConfcomError
from e2e.cluster.addresses import CONTROL_PLANE_ADDRESS, CONTROL_PLANE_NAME, HOST_PREFIX_BITS, HostPlaces, NodeIdentity
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
"""Device nodes by number and mode (Linux, Documentation/admin-guide/devices.txt); the kubelet exits without kmsg."""

KERNEL_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""Machine-wide settings that the kubelet wants (setupKernelTunables); it sees them as already set."""

BOOT_ID = "kernel/random/boot_id"
"""A file that differs at each start of a host, so that the kubelet sees a reboot and not a restart."""

LEFT_READ_ONLY = ("/usr", "/etc", "/opt")
"""Folders of the machine's system that the host can only read."""
NAMESPACES = ("mount", "net", "pid", "uts", "ipc")
"""unshare(1) makes these namespaces after the process has entered its group and a `cgroup` namespace."""

_JOIN = 'for group in $0; do echo $$ > "$group/cgroup.procs" || exit; done; exec "$@"'
BRIDGE = "nodes"
UPLINK = "eth0"
OUTSIDE = "/proc/1/ns/net"
"""The control plane's network namespace; a node's first process uses it before it has its own /proc."""


def make_groups(name: str, hierarchies: Sequence[Hierarchy]) -> tuple[Path, ...]:
    """Make one control group of this name in each hierarchy; processes can enter these groups."""
    groups = tuple(hierarchy.create(name) for hierarchy in hierarchies)
    for leaf in _leaves(groups, hierarchies):
        leaf.mkdir(exist_ok=True)
    return groups


def separated(groups: Sequence[Path], hierarchies: Sequence[Hierarchy], program: Sequence[str]) -> list[str]:
    """The command that runs a program in existing groups, one per hierarchy, which become its root groups.

    The program's process is the only child of the command's process, which ends when this child ends.
    """
    return [
        *("sh", "-c", _JOIN, " ".join(map(str, groups)), "unshare", "--cgroup", "--propagation=private"),
        *("sh", "-c", _JOIN, " ".join(map(str, _leaves(groups, hierarchies)))),
        *("unshare", *(f"--{kind}" for kind in NAMESPACES)),
        *("--fork", "--kill-child=KILL", "--propagation=private"),
        *program,
    ]


def _leaves(groups: Sequence[Path], hierarchies: Sequence[Hierarchy]) -> list[Path]:
    return [group / hierarchy.leaf for group, hierarchy in zip(groups, hierarchies, strict=True) if hierarchy.leaf]


def isolate(
    places: HostPlaces, hierarchies: Sequence[Hierarchy], kept: Sequence[Path], set_up_network: Callable[[], None]
) -> None:
    """Build the host's file system and network; this process is the first of its namespaces.

    A host that starts again finds its old /var; everything else is new. The folders in `kept` stay visible,
    wherever they are. The network is set up first, when /proc still shows the processes outside.
    """
    set_up_network()
    mount("-t", "proc", "proc", "/proc")
    _kernel_settings(places.folder / "kernel")
    _var(places.var, kept)
    mount("-t", "tmpfs", "-o", "mode=755,nosuid,nodev", "tmpfs", "/run")
    Path("/run/lock").mkdir(mode=0o1777)
    _devices(places.folder / "dev")
    _sys(hierarchies)
    for folder in LEFT_READ_ONLY:
        if Path(folder).is_dir() and not Path(folder).is_symlink():
            mount("--bind", folder, folder)
            mount("-o", "remount,bind,ro", folder)
    mount("--make-rshared", "/")  # as systemd does on a host; mount propagation of pods needs it


def _kernel_settings(shown: Path) -> None:
    settings = {**KERNEL_SETTINGS, BOOT_ID: str(uuid.uuid4())}
    for name, value in settings.items():
        path = shown / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    mount("--bind", "/proc/sys", "/proc/sys")
    for name in settings:
        mount("--bind", str(shown / name), f"/proc/sys/{name}")
    mount("--bind", "/proc/sys/net", "/proc/sys/net")
    mount("-o", "remount,bind,ro", "/proc/sys")


def _var(var: Path, kept: Sequence[Path]) -> None:
    for name in ("lib/kubelet", "lib/containerd", "log/pods", "log/containers", "tmp"):
        (var / name).mkdir(parents=True, exist_ok=True)
    if not (var / "run").is_symlink():
        (var / "run").symlink_to("/run")
    for path in (Path("/var/tmp"), *kept):  # noqa: S108  (the folder itself, not a file in it)
        if path.is_relative_to("/var") and path.is_dir():
            below = var / path.relative_to("/var")
            below.mkdir(parents=True, exist_ok=True)
            mount("--rbind", str(path), str(below))
    mount("--rbind", str(var), "/var")


def _devices(new: Path) -> None:
    new.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", "mode=755,nosuid", "tmpfs", str(new))
    for name, (major, minor, mode) in DEVICES.items():
        os.mknod(new / name, stat.S_IFCHR | mode, os.makedev(major, minor))
        (new / name).chmod(mode)
    for name in ("pts", "shm", "mqueue"):
        (new / name).mkdir()
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=0620,gid=5", "devpts", str(new / "pts"))
    mount("-t", "tmpfs", "-o", "mode=1777,nosuid,nodev", "tmpfs", str(new / "shm"))
    mount("-t", "mqueue", "mqueue", str(new / "mqueue"))
    (new / "ptmx").symlink_to("pts/ptmx")
    for name, target in {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}.items():
        (new / name).symlink_to(f"/proc/self/fd{target}")
    mount("--move", str(new), "/dev")


def _sys(hierarchies: Sequence[Hierarchy]) -> None:
    mount("-t", "sysfs", "-o", "ro", "sysfs", "/sys")
    if not any(hierarchy.mountpoint == Path("/sys/fs/cgroup") for hierarchy in hierarchies):
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/sys/fs/cgroup")
    for hierarchy in hierarchies:
        hierarchy.mountpoint.mkdir(exist_ok=True)
        mount("-t", hierarchy.type, "-o", hierarchy.options, "cgroup", str(hierarchy.mountpoint))
        hierarchy.open_to_groups()


def mount(*arguments: str) -> None:
    run("mount", *arguments)


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfcomError(
            "the host's namespaces cannot be set up",
            why=f"`{' '.join(command)}` says: {done.stderr.strip()}",
            remedy="run as root on a machine whose kernel allows it (CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_MKNOD)",
        )


def set_up_control_plane(nodes: Sequence[NodeIdentity]) -> None:
    _ip("link set lo up")
    _ip(f"link add {BRIDGE} type bridge")
    _ip(f"address add {CONTROL_PLANE_ADDRESS}/{HOST_PREFIX_BITS} dev {BRIDGE}")
    _ip(f"link set {BRIDGE} up")
    for node in nodes:
        _ip(f"route add {node.pod_network} via {node.address}")
    _forward()
    run("hostname", CONTROL_PLANE_NAME)


def set_up_node(node: NodeIdentity) -> None:
    """Connect a node to the bridge, even while the link of its previous run still exists."""
    plug = f"node{node.number}"
    outside = ("nsenter", f"--net={OUTSIDE}", "ip", "link")
    subprocess.run([*outside, "delete", plug], capture_output=True, check=False)
    _ip("link set lo up")
    _ip(f"link add {UPLINK} type veth peer name {plug} netns {OUTSIDE}")
    run(*outside, "set", plug, "master", BRIDGE, "up")
    _ip(f"address add {node.address}/{HOST_PREFIX_BITS} dev {UPLINK}")
    _ip(f"link set {UPLINK} up")
    _ip(f"route add default via {CONTROL_PLANE_ADDRESS}")
    _forward()
    run("hostname", node.name)


def _forward() -> None:
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _ip(command: str) -> None:
    run("ip", *command.split())
