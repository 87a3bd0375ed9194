"""Helm flags and field ownership with which the next change overwrites what other managers wrote into the release.

Helm 4 uses server-side apply. If another field manager wrote a field, helm reports a conflict and continues with the
other objects: the change is incomplete. `--force-conflicts` takes over the fields that are in the manifests. It keeps
fields that others added, so their ownership is transferred to helm first, and the same apply then removes them. A
DaemonSet's template therefore changes once, not twice within a second. Without `--server-side=true`, helm 4 patches a
release of helm 3 on the client, and refuses `--force-conflicts`.

Helm 3 merges the old manifest, the new one and the live object: it reverts changed fields, and keeps added ones. Its
`--force` replaces each object by its manifest. It is given only if something has drifted, because it also removes the
annotation of `kubectl rollout restart`, and the Pods are then replaced once more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from confcom.addon.cluster.helm import Helm
from confcom.addon.cluster.installed_release import read_drift, read_live
from confcom.addon.cluster.kubectl import KubeApi
from confcom.addon.cluster.programs import ForbiddenError
from confcom.addon.preflight.versions import is_helm_3
from confcom.addon.release.drift import Drift, drift, identity
from confcom.addon.release.field_managers import handover_patch
from confcom.kubernetes.objects import KubernetesObject

FORCE_OF_HELM_4 = ("--server-side=true", "--force-conflicts")
FORCE_OF_HELM_3 = ("--force",)


def prepare(helm: Helm, api: KubeApi, manifests: Sequence[KubernetesObject]) -> tuple[str, ...]:
    """Return the flags for the next change of an installed release; transfer field ownership to helm 4 if needed.

    The transfer does not change the content of the objects.

    Raises:
        ClusterAccessError: an object cannot be read or patched.
        HelmError: helm cannot show what is installed.
    """
    if is_helm_3(helm.version()):
        drifts: Sequence[Drift] = ()
        with contextlib.suppress(ForbiddenError):
            drifts, _ = read_drift(api, helm.installed())
        return () if all(one.gone for one in drifts) else FORCE_OF_HELM_3
    with contextlib.suppress(ForbiddenError):  # helm accesses each object too, and reports what is forbidden
        _hand_over(api, manifests)
    return FORCE_OF_HELM_4


def _hand_over(api: KubeApi, manifests: Sequence[KubernetesObject]) -> None:
    here = api.cluster.namespace
    live = {identity(one, here): one for one in read_live(api, manifests).objects}
    for wanted in manifests:
        one = live.get(identity(wanted, here))
        if one is not None:
            added = [path for each in drift([wanted], [one], here) for path in each.added]
            if patch := handover_patch(one, added):
                api.patch(one, patch)
