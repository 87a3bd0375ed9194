"""Which Pods of a node may serve the AESM socket in the quote helper's place. Pure.

A Pod's spec tells who mounts the socket's directory from the node, and who may write there. It does not tell which
program made the socket: what is said is a suspicion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from confcom.addon.node_checks import shown
from confcom.addon.objects import TERMINAL, KubernetesObject, listing, name_of, namespace_of, text
from confcom.addon.plan import component_of

FOREIGN_SOCKET = ("without --replace-foreign-socket it stays", "no quote was made here yet")
"""How a quote helper's reason ends that waits for another program's live socket
(confcom.quote_helper.takeover.takeover_policy)."""
_ABOVE_THE_SOCKET = frozenset({"/", "/run", "/run/aesmd", "/var", "/var/run", "/var/run/aesmd"})
"""The socket's directory, and those that it is in; /var/run is a link to /run on most nodes."""

_SERVICE = "aesm"
"""In the names of everybody's images and Pods of Intel's service."""


def suspects_of(reason: str, neighbours: Sequence[KubernetesObject]) -> str:
    """Who perhaps serves the socket, for a helper that waits for a foreign one; empty if it waits for something else.

    Args:
        reason: why the helper is not ready.
        neighbours: the Pods of its node.
    """
    if not any(words in reason for words in FOREIGN_SOCKET):
        return ""
    pods = sorted(filter(may_serve, neighbours), key=_lacks_aesm_name)
    found = [f"{namespace_of(pod)}/{name_of(pod)}" for pod in pods]
    if not found:
        return "no Pod of this node mounts its directory to write there: perhaps a program of the node itself serves it"
    who, mount = ("Pods", "mount") if len(found) > 1 else ("Pod", "mounts")
    return f"perhaps the {who} {shown(found)}, which {mount} its directory to write there"


def _lacks_aesm_name(pod: KubernetesObject) -> bool:
    """Whether neither its name nor its images speak of AESM: clients that mount the directory so come last."""
    images = (text(one, "image") for one in listing(pod, "spec", "containers"))
    return not any(_SERVICE in name for name in (name_of(pod), *images))


def may_serve(pod: KubernetesObject) -> bool:
    """Whether it is none of ours, runs, and may make a socket there; whoever mounts it read-only is a client."""
    if component_of(pod) is not None or text(pod, "status", "phase") in TERMINAL:
        return False
    writable = set(_writable(pod))
    return any(text(one, "name") in writable for one in listing(pod, "spec", "volumes") if _contains_socket(one))


def _writable(pod: KubernetesObject) -> Iterator[str]:
    """The volumes that a container may write."""
    for container in [*listing(pod, "spec", "containers"), *listing(pod, "spec", "initContainers")]:
        for mount in listing(container, "volumeMounts"):
            if not mount.get("readOnly"):
                yield text(mount, "name")


def _contains_socket(volume: KubernetesObject) -> bool:
    """Whether a volume is the socket's directory, or one above it. The socket file alone is a client's."""
    path = text(volume, "hostPath", "path")
    return path.startswith("/") and f"/{'/'.join(filter(None, path.split('/')))}" in _ABOVE_THE_SOCKET
