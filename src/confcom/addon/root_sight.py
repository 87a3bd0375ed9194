"""Whether the quote helpers quote by the simulated root that the cluster has. Pure.

A helper that starts takes the root that is there, so only those are asked that started before it was published.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from confcom.addon.objects import KubernetesObject, listing, mapping, name_of, namespace_of, node_of, text
from confcom.addon.plan import Component, component_of, pod_spec_of
from confcom.addon.problems import Problem
from confcom.addon.root_record import RECORD_NAME, SECRET_NAME, RootRecord

FOLLOW_MINUTES = 5
"""For a helper to take another root. A kubelet renews volumes every minute or so, and after failures, as while there
was no Secret, up to two minutes later; the helper looks every 10 s."""
EDITED_REMEDY = (
    f"and somebody edited the ConfigMap {RECORD_NAME}, delete it, and `confcom enable` publishes the root that is there"
)
"""First: a helper that starts while another root than the Secret's is published makes no quotes."""

_ROOT_METRIC = re.compile(
    r'^confcom_quote_helper_simulated_root_info\{sha256="([0-9a-f]{64})"\} 1(?:\.0)?$', re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class RootObservation:
    """What one look saw.

    Args:
        record: what is published; None: nothing, or it was not read.
        damaged: whether the ConfigMap is there and holds no fingerprint.
        refusal: why the ConfigMap was not read; empty: it was.
        fingerprints: by the pod's name, the fingerprint by which a helper quotes; only of those that had to be asked.
        unreachable: by the pod's name, why it could not be asked.
        nodes: by the pod's name, where it is.
    """

    record: RootRecord | None
    damaged: bool = False
    refusal: str = ""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    unreachable: Mapping[str, str] = field(default_factory=dict)
    nodes: Mapping[str, str] = field(default_factory=dict)

    @property
    def behind(self) -> tuple[str, ...]:
        """The helpers that quote by another root than the published one."""
        wanted = self.record.fingerprint if self.record else ""
        return tuple(pod for pod, fingerprint in self.fingerprints.items() if fingerprint != wanted)


def follows_root(daemon: KubernetesObject) -> bool:
    """Whether a DaemonSet's pods quote by the published root: those of older versions know of none."""
    return any(text(one, "configMap", "name") == RECORD_NAME for one in listing(pod_spec_of(daemon), "volumes"))


def older_helpers(pods: Iterable[KubernetesObject], record: RootRecord, namespace: str) -> tuple[KubernetesObject, ...]:
    """The quote helpers that run and started before the root was published.

    Args:
        pods: any.
        record: of the root.
        namespace: of the add-on.
    """
    return tuple(
        pod
        for pod in pods
        if component_of(pod) is Component.QUOTE_HELPER
        and namespace_of(pod) == namespace
        and not text(pod, "metadata", "deletionTimestamp")
        and any(
            text(one, "state", "running", "startedAt") <= record.published
            for one in listing(pod, "status", "containerStatuses")
            if mapping(one, "state", "running")
        )
    )


def root_of(metrics: str) -> str:
    """The fingerprint in a helper's metrics; empty if it tells none."""
    found = _ROOT_METRIC.search(metrics)
    return found[1] if found else ""


def root_problems(
    observation: RootObservation | None, daemons: Sequence[KubernetesObject], namespace: str
) -> Iterator[Problem]:
    """What is wrong, for `status`.

    Args:
        observation: what was seen; None: nobody looked.
        daemons: the DaemonSets.
        namespace: theirs.
    """
    if observation is None or observation.refusal or not any(map(follows_root, daemons)):
        return
    if observation.damaged:
        yield Problem(
            f"the ConfigMap {RECORD_NAME} holds no fingerprint of the simulated root: somebody has changed it: "
            "`confcom enable` makes it again"
        )
        return
    if observation.record is None:
        yield Problem(
            f"the ConfigMap {RECORD_NAME} is missing, which Kubernetes removes when the simulated root's Secret "
            f"{SECRET_NAME} is deleted: helpers that run keep the root that they have, and none can start without the "
            "Secret: `confcom enable` makes what is missing; if that is the Secret, whoever verifies quotes needs "
            "`confcom simulation export` again"
        )
        return
    for pod in observation.behind:
        yield Problem(f"{behind_text(observation, pod)}: {_remedy(pod, namespace)}", observation.nodes[pod])


def root_doubts(observation: RootObservation | None, namespace: str) -> Iterator[Problem]:
    """What is not known, for `status`, `enable` and `update`.

    Args:
        observation: what was seen; None: nobody looked.
        namespace: of the helpers.
    """
    if observation is None:
        return
    if observation.refusal:
        yield Problem(
            f"whether the quote helpers quote by the cluster's simulated root: the ConfigMap {RECORD_NAME} cannot be "
            f"read: {observation.refusal}"
        )
    for pod, why in observation.unreachable.items():
        yield Problem(
            f"the quote helper {pod} is older than the cluster's simulated root, and cannot be asked by which one it "
            f"quotes ({why}): if its quotes do not verify, kubectl delete pod -n {namespace} {pod}",
            observation.nodes[pod],
        )


def behind_text(observation: RootObservation, pod: str) -> str:
    """By which root a helper quotes, and by which it should."""
    wanted = observation.record.fingerprint if observation.record else ""
    return (
        f"the quote helper {pod} quotes by another simulated root (SHA-256 {observation.fingerprints[pod][:16]}...) "
        f"than the cluster's ({wanted[:16]}...), so its quotes do not verify by that one"
    )


def _remedy(pod: str, namespace: str) -> str:
    return (
        f"it takes the cluster's when its kubelet renews its volumes, within {FOLLOW_MINUTES} minutes; if it does not, "
        f"{EDITED_REMEDY}; else kubectl delete pod -n {namespace} {pod}"
    )


def nodes_by_pod(pods: Iterable[KubernetesObject]) -> dict[str, str]:
    """The node of each pod, by the pod's name."""
    return {name_of(pod): node_of(pod) for pod in pods}
