"""Which pod and container a process belongs to, by the text of its /proc/PID/cgroup.

The kubelet gives every pod a cgroup with the pod's UID in its name, and the container runtime puts each container into
one below it, with the container's ID in its name (kubelet: pkg/kubelet/cm/cgroup_manager_linux.go; OCI runtime
specification: cgroupsPath). Its two drivers write them so:

* cgroupfs: `/kubepods/burstable/pod8c1f4f3e-0e0e-4c1c-9a3d-6f5e4d3c2b1a/<id>`
* systemd: `/kubepods.slice/.../kubepods-pod8c1f4f3e_0e0e_4c1c_9a3d_6f5e4d3c2b1a.slice/cri-containerd-<id>.scope`

Whoever reads from a cgroup namespace of its own, as containers on cgroup v2 do, sees what is outside of it relative to
itself, as in `/../../pod<uid>/<id>`: `kubepods` need not be there.

The outermost pod counts. A container that may make cgroups makes them below its own, so it cannot name itself after
another pod; a user of the host to whom a part of the tree was delegated can, and is not a container.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_CGROUP_SIZE: Final = 16_384
"""Bytes of /proc/PID/cgroup that are looked at: a line for each of the fourteen hierarchies that cgroup v1 can have,
with 1,170 bytes each. Real lines have at most 300, also in nested clusters. The rest is cut off, with the line it
cuts."""

_UUID: Final = r"[0-9a-f]{8}(?P<dash>[-_])[0-9a-f]{4}(?P=dash)[0-9a-f]{4}(?P=dash)[0-9a-f]{4}(?P=dash)[0-9a-f]{12}"
"""systemd reads `-` in a slice's name as a level of the tree, so its driver writes `_`."""
_STATIC: Final = r"[0-9a-f]{32}"
"""The UID of a static pod is a hash of its manifest."""
_POD: Final = re.compile(rf"(?:(?:.*-)?kubepods(?:-burstable|-besteffort)?-)?pod(?P<uid>{_UUID}|{_STATIC})(?:\.slice)?")
"""Before `kubepods` stands what `--cgroup-root` is: `kubelet-` in kind's nodes."""
_CONTAINER: Final = re.compile(r"(?:[a-z]+-)*(?P<id>[0-9a-f]{64})(?:\.scope)?")
"""The prefix names the runtime: `cri-containerd-`, `crio-`, `docker-`."""
_SEPARATOR: Final = re.compile("[/:]")
"""A runtime that was left on the other driver joins with colons: `kubepods-pod<uid>.slice:cri-containerd:<id>`."""


@dataclass(frozen=True, slots=True)
class PodCgroup:
    """A process' place in a node; an empty text is what is not known."""

    pod: str = ""
    """The pod's UID, with dashes, as the API server shows it."""
    container: str = ""
    """The container's ID, as the runtime shows it. Without it, the process is one beside the containers."""
    perhaps_exiting: bool = False
    """Whether a process whose main thread has ended is shown so, wherever it is: in the root of each hierarchy of
    cgroup v1. Those of v2 are shown until the end (kernel: proc_cgroup_show)."""


UNKNOWN: Final = PodCgroup()
"""In no pod, or nothing that can be read."""
_PERHAPS_EXITING: Final = PodCgroup(perhaps_exiting=True)
_V2: Final = "0::"
"""How the line of the one hierarchy of v2 starts (cgroups(7)); it may be there beside those of v1."""


def parse_pod_cgroup(text: str) -> PodCgroup:
    """Read /proc/PID/cgroup, of cgroup v1, v2 or both at once.

    Args:
        text: what the file holds, whoever wrote it; everything beyond `MAX_CGROUP_SIZE` characters is ignored.

    Returns:
        The first place that names a container, else the first that names a pod, else one without; never an exception.
    """
    lines = text[:MAX_CGROUP_SIZE].split("\n")
    if len(text) >= MAX_CGROUP_SIZE:
        lines.pop()
    found = UNKNOWN
    for line in lines:
        _, _, path = line.partition(":/")
        place = _place(path)
        if place.container:
            return place
        if not found.pod:
            found = place
    return found if found.pod or not _all_in_root(lines) else _PERHAPS_EXITING


def _all_in_root(lines: list[str]) -> bool:
    v1 = [line for line in lines if line and not line.startswith(_V2)]
    return bool(v1) and all(line.endswith(":/") for line in v1)


def _place(path: str) -> PodCgroup:
    names = iter(_SEPARATOR.split(path))
    for name in names:
        pod = _POD.fullmatch(name)
        if pod is not None:
            return PodCgroup(_dashed(pod["uid"]), _container(names))
    return UNKNOWN


def _container(names: Iterator[str]) -> str:
    for name in names:
        container = _CONTAINER.fullmatch(name)
        if container is not None:
            return container["id"]
    return ""


def _dashed(uid: str) -> str:
    return uid.replace("_", "-")
