"""The snapshot of the cluster by which status and rollouts are evaluated. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from confcom.addon.daemons.daemon_log import Reason
from confcom.addon.daemons.root_comparison import RootObservation
from confcom.addon.model.epc_accounting import EpcSeen
from confcom.addon.release.drift import ReleaseSeen
from confcom.addon.workloads.refused_pods import RefusalObservation
from confcom.kubernetes.objects import KubernetesObject


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The objects of the cluster, as read at about the same time."""

    namespace: str
    nodes: tuple[KubernetesObject, ...] = ()
    pods: tuple[KubernetesObject, ...] = ()
    daemon_sets: tuple[KubernetesObject, ...] = ()
    deployments: tuple[KubernetesObject, ...] = ()
    """Those of the add-on's namespace; none if they were not read."""
    jobs: tuple[KubernetesObject, ...] = ()
    revisions: tuple[KubernetesObject, ...] = ()
    events: tuple[KubernetesObject, ...] = ()
    """Events of the add-on's namespace."""
    policies: tuple[KubernetesObject, ...] | None = None
    """The add-on's admission policies and their bindings; None if they were not read."""
    release: ReleaseSeen | None = None
    """None if it was not read."""
    said: Mapping[str, Reason] = field(default_factory=dict)
    """By pod name: the reason from its log, for daemons that run and are not ready."""
    refusals: RefusalObservation | None = None
    """The controllers of workloads that cannot create Pods; None if they were not read."""
    epc: EpcSeen = field(default_factory=EpcSeen)
    """What the device plugins told of their nodes' EPC."""
    api_server: str = ""
    """The API server's version; empty if it was not read."""
    root: RootObservation | None = None
    """The published simulated root, and the helpers that use another one; None if it was not read."""
