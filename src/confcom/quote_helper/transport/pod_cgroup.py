"""Parsing of /proc/PID/cgroup: the pod and container that a process belongs to.

The kubelet gives every pod a cgroup with the pod's UID in its name, and the container runtime puts each container into
a cgroup below it, with the container's ID in its name (kubelet: pkg/kubelet/cm/cgroup_manager_linux.go; OCI runtime
specification: cgroupsPath). The two cgroup drivers write them as follows:

* cgroupfs: `/kubepods/burstable/pod8c1f4f3e-0e0e-4c1c-9a3d-6f5e4d3c2b1a/<id>`
* systemd: `/kubepods.slice/.../kubepods-pod8c1f4f3e_0e0e_4c1c_9a3d_6f5e4d3c2b1a.slice/cri-containerd-<id>.scope`

A reader in a cgroup namespace of its own, such as a container on cgroup v2, sees cgroups outside of it as relative
paths, for example `/../../pod<uid>/<id>`, which need not contain `kubepods`.

The outermost pod counts. A container that may make cgroups makes them below its own, so it cannot take another pod's
name. A user of the host with a delegated subtree can, but is not a container.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_CGROUP_SIZE: Final = 16_384
"""Bytes of /proc/PID/cgroup that are read: a line for each of the fourteen hierarchies that cgroup v1 can have, with
1,170 bytes each. Real lines have at most 300, also in nested clusters. The rest is ignored, including a line that was
cut."""

_UUID: Final = r"[0-9a-f]{8}(?P<dash>[-_])[0-9a-f]{4}(?P=dash)[0-9a-f]{4}(?P=dash)[0-9a-f]{4}(?P=dash)[0-9a-f]{12}"
"""systemd takes `-` in a slice's name as a level of the tree, so the systemd driver writes `_`."""
_STATIC: Final = r"[0-9a-f]{32}"
"""The UID of a static pod is a hash of its manifest."""
_POD: Final = re.compile(rf"(?:(?:.*-)?kubepods(?:-burstable|-besteffort)?-)?pod(?P<uid>{_UUID}|{_STATIC})(?:\.slice)?")
"""`--cgroup-root` comes before `kubepods`: `kubelet-` in kind's nodes."""
_CONTAINER: Final = re.compile(r"(?:[a-z]+-)*(?P<id>[0-9a-f]{64})(?:\.scope)?")
"""The prefix names the runtime: `cri-containerd-`, `crio-`, `docker-`."""
_SEPARATOR: Final = re.compile("[/:]")
"""A runtime that is set to the other driver joins with colons: `kubepods-pod<uid>.slice:cri-containerd:<id>`."""


@dataclass(frozen=True, slots=True)
class PodCgroup:
    """The pod and container of a process; a value that is not known is empty."""

    pod: str = ""
    """The pod's UID, with dashes, as the API server shows it."""
    container: str = ""
    """The container's ID, as the runtime shows it. Empty: the process is in the pod but in no container."""
    perhaps_exiting: bool = False
    """Whether the main thread may have ended: the process is in the root of each cgroup v1 hierarchy, where the kernel
    shows such a process, wherever it was. On v2 its cgroup is shown until the end (kernel: proc_cgroup_show)."""


UNKNOWN: Final = PodCgroup()
"""In no pod, or not readable."""
_PERHAPS_EXITING: Final = PodCgroup(perhaps_exiting=True)
_V2: Final = "0::"
"""Start of the line of the v2 hierarchy (cgroups(7)), which may be present beside those of v1."""


def parse_pod_cgroup(text: str) -> PodCgroup:
    """Parse /proc/PID/cgroup of cgroup v1, v2 or both at once; never raise.

    The result is the first cgroup that names a container, else the first that names a pod, else one without a pod.
    Everything beyond `MAX_CGROUP_SIZE` characters is ignored.
    """
    lines = text[:MAX_CGROUP_SIZE].split("\n")
    if len(text) >= MAX_CGROUP_SIZE:
        lines.pop()
    found = UNKNOWN
    for line in lines:
        _, _, path = line.partition(":/")
        cgroup = _parse_path(path)
        if cgroup.container:
            return cgroup
        if not found.pod:
            found = cgroup
    return found if found.pod or not _all_in_root(lines) else _PERHAPS_EXITING


def _all_in_root(lines: list[str]) -> bool:
    v1 = [line for line in lines if line and not line.startswith(_V2)]
    return bool(v1) and all(line.endswith(":/") for line in v1)


def _parse_path(path: str) -> PodCgroup:
    names = iter(_SEPARATOR.split(path))
    for name in names:
        pod = _POD.fullmatch(name)
        if pod is not None:
            return PodCgroup(pod["uid"].replace("_", "-"), _container(names))
    return UNKNOWN


def _container(names: Iterator[str]) -> str:
    for name in names:
        container = _CONTAINER.fullmatch(name)
        if container is not None:
            return container["id"]
    return ""
