"""The ConfigMap that publishes a cluster's simulated root, so that nobody has to read its Secret. Pure.

The ConfigMap's owner is the Secret, so Kubernetes deletes it with the Secret: if the record exists, the Secret does.
Reasons: docs/adr, "One simulated root per cluster".
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from confcom.kubernetes.objects import KubernetesObject, listing, name_of, text

SECRET_NAME = "confcom-simulated-platform"  # noqa: S105 # a name, not a secret
"""Fixed: a second installation in the namespace must find the same root, and the chart mounts the Secret by this name.
"""
RECORD_NAME = "confcom-simulated-root"
"""The name of the ConfigMap; the chart mounts it into the quote helpers by this name."""
FINGERPRINT_KEY = "sha256"
"""The key of the root certificate's fingerprint: SHA-256 of its DER, as `confcom simulation export` prints it."""
PART_LABELS = {"app.kubernetes.io/name": "confcom", "app.kubernetes.io/component": "simulated-platform"}
"""Labels of the Secret and of the ConfigMap."""

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
"""A time as the API server writes it (meta/v1 Time); these strings sort chronologically."""


@dataclass(frozen=True, slots=True)
class RootRecord:
    """The published data of the simulated root.

    Args:
        fingerprint: the fingerprint of the root's certificate.
        published: when the ConfigMap was created, by the API server's clock; each root gets a new ConfigMap.
    """

    fingerprint: str
    published: str

    @classmethod
    def read(cls, config_map: KubernetesObject) -> RootRecord | None:
        """Parse the ConfigMap; None if it contains no fingerprint, for example because somebody changed it."""
        fingerprint = text(config_map, "data", FINGERPRINT_KEY)
        published = text(config_map, "metadata", "creationTimestamp")
        if not _FINGERPRINT.fullmatch(fingerprint) or not _TIME.fullmatch(published):
            return None
        return cls(fingerprint, published)


def encode_record(secret: KubernetesObject, fingerprint: str, namespace: str) -> bytes:
    """Return the ConfigMap to create, as JSON."""
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": RECORD_NAME,
            "namespace": namespace,
            "labels": PART_LABELS,
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Secret", "name": name_of(secret), "uid": text(secret, "metadata", "uid")}
            ],
        },
        "data": {FINGERPRINT_KEY: fingerprint},
    }
    return json.dumps(manifest).encode()


def is_recorded(found: bytes, wanted: bytes) -> bool:
    """Return whether a ConfigMap, as the API server returns it, has the wanted data and the same owner."""
    try:
        there = json.loads(found)
    except (ValueError, RecursionError):
        return False
    other: KubernetesObject = json.loads(wanted)
    return isinstance(there, dict) and there.get("data") == other["data"] and _owners(there) == _owners(other)


def _owners(thing: KubernetesObject) -> Sequence[str]:
    return [text(one, "uid") for one in listing(thing, "metadata", "ownerReferences")]
