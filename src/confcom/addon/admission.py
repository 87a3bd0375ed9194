"""Whether admission would take the daemons' Pods: what is tried, and what the API server's answer means. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from confcom.addon.objects import KubernetesObject, name_of

_DENIES = re.compile("denied (the )?request")
_REFUSES = re.compile(rf'"[^"]+" is (forbidden|invalid): |{_DENIES.pattern}')
"""Admission plugins and Pod Security; webhooks and policies; validation. Who lacks permission is told of no name."""
_UNDECIDED = re.compile("error looking up service account|status unknown for quota")
"""Refusals that are over when the namespace's controllers have done their work."""


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """What came of trying a Pod; both are empty if it would be taken.

    Args:
        refusal: what admission says against it.
        doubt: why it is not known what admission would say.
        invalid: whether the Pod itself is at fault, whatever the namespace allows.
    """

    refusal: str = ""
    doubt: str = ""
    invalid: bool = False

    @classmethod
    def read(cls, said: str, message: str) -> ProbeAnswer:
        """What an error means: a refusal, or that there was none to be had.

        Args:
            said: all of kubectl's words.
            message: for people.
        """
        refused = _REFUSES.search(said) and not _UNDECIDED.search(said)
        if not refused:
            return cls(doubt=message or "kubectl said nothing")
        return cls(refusal=message, invalid=" is invalid: " in said and not _DENIES.search(said))


def pod_probe(daemon: KubernetesObject, namespace: str) -> KubernetesObject:
    """A pod like the DaemonSet's, to ask whether admission would take it. Its ServiceAccount may not be there yet."""
    template = daemon["spec"]["template"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": f"{name_of(daemon)}-preflight", "namespace": namespace},
        "spec": {**template["spec"], "serviceAccountName": "default"},
    }
