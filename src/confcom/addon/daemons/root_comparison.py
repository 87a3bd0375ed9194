"""Compares the simulated root that quote helpers use with the published one of the cluster. Pure.

A helper takes the current root when it starts, so only helpers that started before its publication are asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from confcom.addon.model.chart_objects import (
    HARDWARE_PLATFORM,
    PLATFORM_LABEL,
    Component,
    own_component,
    pod_spec_of,
)
from confcom.addon.model.problems import Problem
from confcom.kubernetes.objects import (
    KubernetesObject,
    labels_of,
    listing,
    mapping,
    name_of,
    node_of,
    text,
)
from confcom.simulated_root.record import RECORD_NAME, SECRET_NAME, RootRecord

FOLLOW_MINUTES = 5
"""Time for a helper to take a new root. A kubelet updates mounted volumes about every minute, and after failures (as
while there was no Secret) up to two minutes later; the helper checks every 10 s."""
EDITED_REMEDY = (
    f"and the ConfigMap {RECORD_NAME} was edited, delete it and run `confcom enable`, which publishes the Secret's root"
)
"""The first remedy to try: a helper that starts while the published root differs from the Secret's makes no quotes."""

_ROOT_METRIC = re.compile(
    r'^confcom_quote_helper_simulated_root_info\{sha256="([0-9a-f]{64})"\} 1(?:\.0)?$', re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class RootObservation:
    """The result of one read.

    Args:
        record: the published record; None if there is none or it could not be read.
        damaged: whether the ConfigMap exists and contains no fingerprint.
        refusal: why the ConfigMap could not be read; empty if it was.
        fingerprints: by pod name, the fingerprint of the root that a helper uses; only of helpers that had to be asked.
        unreachable: by pod name, why a helper could not be asked.
        nodes: by pod name, the node.
    """

    record: RootRecord | None
    damaged: bool = False
    refusal: str = ""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    unreachable: Mapping[str, str] = field(default_factory=dict)
    nodes: Mapping[str, str] = field(default_factory=dict)

    @property
    def behind(self) -> tuple[str, ...]:
        """The helpers that use another root than the published one."""
        wanted = self.record.fingerprint if self.record else ""
        return tuple(pod for pod, fingerprint in self.fingerprints.items() if fingerprint != wanted)


def follows_root(daemon: KubernetesObject) -> bool:
    """Return whether a DaemonSet's pods use the published root."""
    return any(text(one, "configMap", "name") == RECORD_NAME for one in listing(pod_spec_of(daemon), "volumes"))


def older_helpers(pods: Iterable[KubernetesObject], record: RootRecord, namespace: str) -> tuple[KubernetesObject, ...]:
    """Return the running simulated quote helpers that started before the root was published.

    Args:
        pods: pods of any kind.
        record: the root's record.
        namespace: the add-on's namespace.
    """
    return tuple(
        pod
        for pod in pods
        if own_component(pod, namespace) is Component.QUOTE_HELPER
        and labels_of(pod).get(PLATFORM_LABEL) != HARDWARE_PLATFORM
        and not text(pod, "metadata", "deletionTimestamp")
        and any(
            text(one, "state", "running", "startedAt") <= record.published
            for one in listing(pod, "status", "containerStatuses")
            if mapping(one, "state", "running")
        )
    )


def root_of(metrics: str) -> str:
    """Return the fingerprint in a helper's metrics; empty if there is none."""
    found = _ROOT_METRIC.search(metrics)
    return found[1] if found else ""


def root_problems(
    observation: RootObservation | None, daemons: Sequence[KubernetesObject], namespace: str
) -> Iterator[Problem]:
    """Yield the problems with the root, for `status`.

    Args:
        observation: the observation; None if the root was not read.
        daemons: the add-on's DaemonSets.
        namespace: their namespace.
    """
    if observation is None or observation.refusal or not any(map(follows_root, daemons)):
        return
    if observation.damaged:
        yield Problem(
            f"the ConfigMap {RECORD_NAME} was changed and contains no fingerprint of the simulated root: "
            "`confcom enable` restores it",
            code="root-record-damaged",
        )
        return
    if observation.record is None:
        yield Problem(
            f"the ConfigMap {RECORD_NAME} is missing; Kubernetes removes it when the simulated root's Secret "
            f"{SECRET_NAME} is deleted. Running helpers keep their root; no helper can start without the "
            "Secret. `confcom enable` creates what is missing; for a new Secret, relying parties need the output of "
            "`confcom simulation export` again",
            code="root-record-missing",
        )
        return
    for pod in observation.behind:
        yield Problem(
            f"{behind_text(observation, pod)}: {_remedy(pod, namespace)}",
            observation.nodes[pod],
            code="helper-root-outdated",
        )


def root_doubts(observation: RootObservation | None, namespace: str) -> Iterator[Problem]:
    """Yield what is unknown about the root, for `status`, `enable` and `update`.

    Args:
        observation: the observation; None if the root was not read.
        namespace: the helpers' namespace.
    """
    if observation is None:
        return
    if observation.refusal:
        yield Problem(
            f"which simulated root the quote helpers should use: the ConfigMap {RECORD_NAME} cannot be "
            f"read: {observation.refusal}",
            code="root-record-unreadable",
        )
    for pod, why in observation.unreachable.items():
        yield Problem(
            f"the quote helper {pod} is older than the cluster's simulated root, and does not report the root that "
            f"it uses ({why}): if its quotes do not verify, kubectl delete pod -n {namespace} {pod}",
            observation.nodes[pod],
            code="helper-not-asked",
        )


def behind_text(observation: RootObservation, pod: str) -> str:
    """Return a text with the root that a helper uses and the one that it should use."""
    wanted = observation.record.fingerprint if observation.record else ""
    return (
        f"the quote helper {pod} uses another simulated root (SHA-256 {observation.fingerprints[pod][:16]}...) "
        f"than the cluster's ({wanted[:16]}...), so its quotes do not verify against the cluster's root"
    )


def _remedy(pod: str, namespace: str) -> str:
    return (
        f"it loads the cluster's root when its kubelet updates the volumes, within {FOLLOW_MINUTES} minutes; if it "
        "does not, "
        f"{EDITED_REMEDY}; otherwise kubectl delete pod -n {namespace} {pod}"
    )


def nodes_by_pod(pods: Iterable[KubernetesObject]) -> dict[str, str]:
    """Return the node of each pod, by pod name."""
    return {name_of(pod): node_of(pod) for pod in pods}
