"""Whether admission would accept the daemons' Pods: the probe Pod, and how to read the API server's answer. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from confcom.kubernetes.objects import KubernetesObject, name_of

_DENIES = re.compile("denied (the )?request")
_REFUSES = re.compile(rf'"[^"]+" is (forbidden|invalid): |{_DENIES.pattern}')
"""Refusals by admission plugins and Pod Security, by webhooks and policies, and by validation. The message about a
missing permission names no object, so it does not match."""
_UNDECIDED = re.compile("error looking up service account|status unknown for quota")
"""Temporary refusals: they end when the namespace's controllers have created its ServiceAccount and quota status."""


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """The result of probing admission with a Pod; refusal and doubt are empty if the Pod would be accepted.

    Args:
        refusal: admission's message, if it refuses the Pod.
        doubt: why the result is unknown.
        invalid: whether the Pod itself is invalid, in any namespace.
    """

    refusal: str = ""
    doubt: str = ""
    invalid: bool = False

    @classmethod
    def read(cls, said: str, message: str) -> ProbeAnswer:
        """Classify kubectl's error as a refusal or as an unknown result."""
        refused = _REFUSES.search(said) and not _UNDECIDED.search(said)
        if not refused:
            return cls(doubt=message or "kubectl said nothing")
        return cls(refusal=message, invalid=" is invalid: " in said and not _DENIES.search(said))


def pod_probe(daemon: KubernetesObject, namespace: str) -> KubernetesObject:
    """Return a Pod from the DaemonSet's template; its ServiceAccount is `default`, since its own may not exist yet."""
    template = daemon["spec"]["template"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": f"{name_of(daemon)}-preflight", "namespace": namespace},
        "spec": {**template["spec"], "serviceAccountName": "default"},
    }
