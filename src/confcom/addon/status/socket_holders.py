"""Finds Pods of a node that may serve the AESM socket instead of the quote helper. Pure.

A Pod's spec shows whether it mounts the socket's directory from the node, and whether it may write there. It does not
show which program created the socket: the result is a suspicion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from confcom.addon.daemons.daemon_pods import DaemonPod
from confcom.addon.model.chart_objects import own_component
from confcom.addon.model.problems import shown
from confcom.kubernetes.objects import TERMINAL, KubernetesObject, listing, name_of, namespace_of, text

FOREIGN_SOCKET_CODES = frozenset(
    {"foreign-socket", "foreign-user-socket", "socket-backlog-full", "socket-not-connectable"}
)
"""The codes that a quote helper logs while it waits for another program's live socket
(confcom.quote_helper.takeover.socket_inspection)."""
_ABOVE_THE_SOCKET = frozenset({"/", "/run", "/run/aesmd", "/var", "/var/run", "/var/run/aesmd"})
"""The socket's directory and its parents; /var/run is a symbolic link to /run on most nodes."""

_SERVICE = "aesm"
"""A part of the usual names of images and Pods with Intel's service."""


def suspects_of(helper: DaemonPod, neighbours: Sequence[KubernetesObject], namespace: str) -> str:
    """Return who may serve the socket, for a helper that waits for a foreign one; empty for any other.

    Args:
        helper: the quote helper.
        neighbours: the Pods of its node.
        namespace: the add-on's.
    """
    if helper.reason_code not in FOREIGN_SOCKET_CODES:
        return ""
    pods = sorted((pod for pod in neighbours if may_serve(pod, namespace)), key=_lacks_aesm_name)
    found = [f"{namespace_of(pod)}/{name_of(pod)}" for pod in pods]
    if not found:
        return (
            "no Pod of this node mounts its directory to write there: a program of the node itself may serve the socket"
        )
    who, mount = ("Pods", "mount") if len(found) > 1 else ("Pod", "mounts")
    return f"perhaps the {who} {shown(found)}, which {mount} its directory to write there"


def _lacks_aesm_name(pod: KubernetesObject) -> bool:
    """Return whether neither the Pod's name nor its images contain `aesm`.

    It is the sort key: clients that mount the directory writable come last.
    """
    images = (text(one, "image") for one in listing(pod, "spec", "containers"))
    return not any(_SERVICE in name for name in (name_of(pod), *images))


def may_serve(pod: KubernetesObject, namespace: str) -> bool:
    """Return whether a Pod is not ours, has not ended, and can create a socket in the directory.

    Ours are of the add-on in this namespace. A Pod that mounts the directory read-only is a client.
    """
    if own_component(pod, namespace) is not None or text(pod, "status", "phase") in TERMINAL:
        return False
    writable = set(_writable(pod))
    return any(text(one, "name") in writable for one in listing(pod, "spec", "volumes") if _contains_socket(one))


def _writable(pod: KubernetesObject) -> Iterator[str]:
    for container in [*listing(pod, "spec", "containers"), *listing(pod, "spec", "initContainers")]:
        for mount in listing(container, "volumeMounts"):
            if not mount.get("readOnly"):
                yield text(mount, "name")


def _contains_socket(volume: KubernetesObject) -> bool:
    """Return whether a volume is the socket's directory or a parent of it; only clients mount the socket file alone."""
    path = text(volume, "hostPath", "path")
    return path.startswith("/") and f"/{'/'.join(filter(None, path.split('/')))}" in _ABOVE_THE_SOCKET
