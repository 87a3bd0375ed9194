"""What the controller keeps of nodes, Pods and plugins: small values, since a cluster has thousands of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

PodKey = tuple[str, str]
"""Namespace and name."""


class Amount(NamedTuple):
    """One resource in a node's status, in MiB."""

    capacity: int | None = None
    """None if the node does not have the key."""
    allocatable: int | None = None
    ours: bool = False
    """Whether the controller was the last to change the capacity, as the object's managed fields say."""


NO_AMOUNT = Amount()


class NodeFacts(NamedTuple):
    """A node and, for each of the controller's resources in their order, its amount."""

    name: str
    uid: str
    amounts: tuple[Amount, ...]


class PluginPod(NamedTuple):
    """A device plugin's Pod that runs on a node."""

    address: str
    """Its IP address; empty if it has none yet, or one that is asked nothing."""
    created: str
    """When it was created, as the API server writes it; these strings sort chronologically."""
    incarnation: str
    """Changes whenever its answer may have changed: by a restart of its container, or a change of its readiness."""


class PodFacts(NamedTuple):
    """A bound Pod that has not ended, and takes EPC or is a plugin."""

    key: PodKey
    node: str
    requests: tuple[int, ...]
    """MiB, for each of the controller's resources in their order."""
    plugin: PluginPod | None
    accepted: bool
    """Whether its kubelet has taken it in: a tenant can bind a Pod by writing `spec.nodeName`, but not write this."""


class Requested(NamedTuple):
    """MiB of one resource that a node's bound Pods request."""

    bound: int = 0
    """All of them."""
    accepted: int = 0
    """Those that the node's kubelet has accepted."""


class Accounting(StrEnum):
    """How a plugin has its node's EPC counted."""

    DEVICE = "device"
    """By the kubelet, which writes the node's capacity itself."""
    CAPACITY = "capacity"
    """By the scheduler, from the capacity that the controller writes."""
    NOTHING = "nothing"
    """Not at all: the plugin waits for SGX."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a plugin says of its node's EPC."""

    accounting: Accounting
    resource: str = ""
    """Empty if it counts nothing."""
    mib: int = 0
