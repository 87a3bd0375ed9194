"""What one look at the cluster saw. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from confcom.addon.drift import ReleaseSeen
from confcom.addon.objects import KubernetesObject
from confcom.addon.refused_pods import RefusalObservation
from confcom.addon.root_sight import RootObservation


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The objects that status and rollouts are judged by, as they were at one moment."""

    namespace: str
    nodes: tuple[KubernetesObject, ...] = ()
    pods: tuple[KubernetesObject, ...] = ()
    daemon_sets: tuple[KubernetesObject, ...] = ()
    jobs: tuple[KubernetesObject, ...] = ()
    revisions: tuple[KubernetesObject, ...] = ()
    events: tuple[KubernetesObject, ...] = ()
    """Of the add-on's namespace."""
    policies: tuple[KubernetesObject, ...] | None = None
    """Ours of admission, and their bindings; None if they were not looked at."""
    release: ReleaseSeen | None = None
    """None if it was not looked at."""
    said: Mapping[str, str] = field(default_factory=dict)
    """By the pod's name: the last complaint in its log, for daemons that run and are not ready."""
    refusals: RefusalObservation | None = None
    """Which controllers of workloads cannot create Pods; None if nobody looked."""
    root: RootObservation | None = None
    """Which simulated root there is and who quotes by it; None if nobody looked."""
