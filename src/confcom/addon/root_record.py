"""The ConfigMap by which a cluster's simulated root is known without reading its Secret. Pure.

Its owner is the Secret, so that Kubernetes removes it when the Secret is deleted: where the record is, the Secret is.
Why so: docs/adr, "One simulated root per cluster".
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from confcom.addon.objects import KubernetesObject, listing, name_of, text

SECRET_NAME = "confcom-simulated-platform"  # noqa: S105 # a name, not a secret
"""Fixed: a second installation in the namespace must meet the same root, and the chart mounts it by this name."""
RECORD_NAME = "confcom-simulated-root"
"""The ConfigMap's: the chart mounts it into the quote helpers by this name."""
FINGERPRINT_KEY = "sha256"
"""SHA-256 of the root certificate's DER, as `confcom simulation export` prints it."""
PART_LABELS = {"app.kubernetes.io/name": "confcom", "app.kubernetes.io/component": "simulated-platform"}
"""Of the Secret and of its record."""

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
"""As the API server writes times (meta/v1 Time): texts that sort as the times do."""


@dataclass(frozen=True, slots=True)
class RootRecord:
    """What is published about the simulated root.

    Args:
        fingerprint: of the root's certificate.
        published: when it was, by the API server's clock: a ConfigMap is made anew for each root.
    """

    fingerprint: str
    published: str

    @classmethod
    def read(cls, config_map: KubernetesObject) -> RootRecord | None:
        """Read the ConfigMap; None if it holds no fingerprint, as when somebody has changed it."""
        fingerprint = text(config_map, "data", FINGERPRINT_KEY)
        published = text(config_map, "metadata", "creationTimestamp")
        if not _FINGERPRINT.fullmatch(fingerprint) or not _TIME.fullmatch(published):
            return None
        return cls(fingerprint, published)


def encode_record(secret: KubernetesObject, fingerprint: str, namespace: str) -> bytes:
    """The ConfigMap to create, as JSON.

    Args:
        secret: as the API server has it, with its UID.
        fingerprint: of its root certificate.
        namespace: of both.
    """
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
    """Whether a ConfigMap, as the API server gives it, says what is wanted, of the same Secret."""
    try:
        there = json.loads(found)
    except (ValueError, RecursionError):
        return False
    other: KubernetesObject = json.loads(wanted)
    return isinstance(there, dict) and there.get("data") == other["data"] and _owners(there) == _owners(other)


def _owners(thing: KubernetesObject) -> Sequence[str]:
    return [text(one, "uid") for one in listing(thing, "metadata", "ownerReferences")]
