"""The release: helm's record of it, how the cluster differs from that, and objects that are in no record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from confcom.addon import drift
from confcom.addon.chart_objects import workloads_in
from confcom.addon.helm import Helm, Revision
from confcom.addon.owned_objects import is_helms, owned_objects
from confcom.addon.problems import OptionalReads
from confcom.kubernetes.objects import KubernetesObject, name_of


@dataclass(frozen=True, slots=True)
class Release:
    history: tuple[Revision, ...] = ()
    drift: drift.Comparison = field(default_factory=drift.Comparison)
    left: tuple[str, ...] = ()
    """Kind and name of the add-on's objects that are in no record of helm."""


def read_release(helm: Helm, reads: OptionalReads) -> Release:
    api, namespace = helm.cluster.api, helm.cluster.namespace
    history: tuple[Revision, ...] | None = reads.read("the release", helm.history, default=None)
    # An unfinished change is undone before another one. A failed one is repeated, as helm has recorded it.
    if history is None or (history and history[-1].status not in {"deployed", "failed"}):
        return Release(history or ())
    read: Callable[[], tuple[KubernetesObject, ...]] = helm.manifests if history else tuple
    manifests = reads.read("the release's objects", read, default=None)
    if manifests is None:
        return Release(history)
    compare = partial(drift.compare, api, manifests, namespace)
    comparison = reads.read("the release's objects", compare, default=drift.Comparison())
    none: tuple[KubernetesObject, ...] = ()
    owned = reads.read("objects without a record of helm", lambda: tuple(owned_objects(helm.cluster)), default=none)
    recorded = {f"{one['kind']} {name_of(one)}" for one in manifests}
    # What helm did not install belongs to people, who may need no helm.
    if recorded or any(workload.kind == "DaemonSet" for workload in workloads_in(owned)):
        owned = tuple(filter(is_helms, owned))
    left = (f"{one['kind']} {name_of(one)}" for one in owned)
    return Release(history, comparison, tuple(name for name in left if name not in recorded))
