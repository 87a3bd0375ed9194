"""Reading a release from helm, and its objects from the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from confcom.addon.cluster.helm import RELEASE, Helm, HelmError
from confcom.addon.cluster.kubectl import KubeApi
from confcom.addon.cluster.programs import ClusterAccessError, access_error, call
from confcom.addon.cluster.unexpected_output import Form, read_objects
from confcom.addon.model.chart_objects import group_of
from confcom.addon.preflight.permissions import plural
from confcom.addon.release.drift import SECRET, Drift, ReleaseSeen, drift
from confcom.addon.release.revision_history import DEPLOYED, can_roll_back
from confcom.addon.release.secret_values import without_secrets
from confcom.errors import ConfcomError
from confcom.kubernetes.objects import KubernetesObject, name_of, text

_FAILURE = "the installed objects cannot be read"


@dataclass(frozen=True, slots=True)
class LiveObjects:
    """The live objects of some manifests. A manifest that is in neither tuple has no object any more.

    Args:
        objects: the objects, with their managed fields.
        refused: the manifests of the objects that this user may not read.
    """

    objects: tuple[KubernetesObject, ...] = ()
    refused: tuple[KubernetesObject, ...] = ()


def read_live(api: KubeApi, manifests: Sequence[KubernetesObject]) -> LiveObjects:
    """Read the live objects of some manifests. Secrets count as refused: their content is not needed.

    Raises:
        ClusterAccessError: none of them can be read.
    """
    command = api.cluster.kubectl("get", "--filename=-", "--output=json", "--show-managed-fields", "--ignore-not-found")
    refused = [one for one in manifests if text(one, "kind") == SECRET]
    while asked := [one for one in manifests if one not in refused]:
        done = call(api.run, command, _FAILURE, stdin=api.named(asked))
        if not done.returncode:
            return LiveObjects(read_objects(done, _FAILURE, Form.RESOURCES), tuple(refused))
        # kubectl prints no object at all if the API server refuses one of them.
        denied = [one for one in asked if _is_denied(one, done.stderr)]
        refused += denied
        if not denied or len(refused) == len(manifests):
            raise access_error(done, _FAILURE)
    return LiveObjects((), tuple(refused))


def read_drift(api: KubeApi, manifests: Sequence[KubernetesObject]) -> tuple[tuple[Drift, ...], LiveObjects]:
    """Compare manifests with their live objects as far as this user may read them."""
    live = read_live(api, manifests)
    readable = [one for one in manifests if one not in live.refused]
    return without_secrets(drift(readable, live.objects, api.cluster.namespace), manifests), live


def look_at_release(helm: Helm, api: KubeApi) -> ReleaseSeen:
    """Compare the release that helm stores with the cluster; a failed look-up is described in the result's `doubt`."""
    try:
        history = helm.history()
        if not history:
            return ReleaseSeen(doubt=f"helm has no release {RELEASE} in {api.cluster.namespace}")
        last = history[-1]
        if last.status != DEPLOYED:
            return ReleaseSeen(last, can_roll_back=can_roll_back(history))
        drifts, live = read_drift(api, helm.installed())
    except (ClusterAccessError, HelmError) as error:
        return ReleaseSeen(doubt=told(error))
    hidden = [f"{text(one, 'kind')} {name_of(one)}" for one in live.refused if text(one, "kind") != SECRET]
    return ReleaseSeen(last, drifts, f"this user may not read {', '.join(hidden)}" if hidden else "")


def told(error: ConfcomError) -> str:
    """Return what happened and why, on one line."""
    return f"{error.what}: {error.why}" if error.why else error.what


def _is_denied(thing: KubernetesObject, stderr: bytes) -> bool:
    resource = f"{plural(text(thing, 'kind'))}.{group_of(thing)}".rstrip(".")
    return f'{resource} "{name_of(thing)}" is forbidden'.encode() in stderr
