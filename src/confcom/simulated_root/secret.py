"""The Secret that holds a cluster's simulated platform: one root for all nodes. Bytes in, bytes out.

Its only key is the state file's name, so that the mounted Secret is a state directory.
"""

from __future__ import annotations

import base64
import binascii
import json

from confcom.errors import MalformedError
from confcom.quote_provider.state_directory import STATE_FILE
from confcom.simulated_root.record import PART_LABELS, SECRET_NAME
from confcom.simulation.platform import SimulatedPlatform

MAX_SECRET_BYTES = 3 * 1024 * 1024
"""Limit of the JSON. A Secret's data is at most 1 MiB (core/v1 MaxSecretSize); base64 adds a third, and labels and
annotations come on top."""


def encode_secret(platform: SimulatedPlatform, namespace: str) -> bytes:
    """Return the Secret to create, as JSON. Its content is secret: with it, anybody can impersonate the platform.

    It is not immutable: a kubelet caches an immutable Secret that was deleted, and mounts it into new Pods too, for as
    long as any Pod of its node uses it. Helpers use the root whose fingerprint is published, so editing the Secret
    changes no root.
    """
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": SECRET_NAME,
            "namespace": namespace,
            "labels": PART_LABELS,
        },
        "data": {STATE_FILE: base64.b64encode(platform.encode()).decode("ascii")},
    }
    return json.dumps(manifest).encode()


def decode_secret(document: bytes) -> SimulatedPlatform:
    """Read the platform from the Secret's JSON, as the API server returns it.

    Raises:
        MalformedError: it is not such a Secret; the message contains nothing of its content.
        PlatformStateError: the platform is damaged, or was written by another version.
    """
    return SimulatedPlatform.parse(_state(document))


def _state(document: bytes) -> bytes:
    if len(document) > MAX_SECRET_BYTES:
        raise _not_a_platform(f"it is larger than {MAX_SECRET_BYTES} bytes", error_code="secret-too-large")
    try:
        secret = json.loads(document)
    except (ValueError, RecursionError):
        # Not chained: a JSON error's text may quote the document.
        raise _not_a_platform("it is not JSON", error_code="secret-not-json") from None
    data = secret.get("data") if isinstance(secret, dict) else None
    encoded = data.get(STATE_FILE) if isinstance(data, dict) else None
    if not isinstance(encoded, str):
        raise _not_a_platform(f"it has no data under the key {STATE_FILE}", error_code="secret-without-platform")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise _not_a_platform(f"its {STATE_FILE} is not base64", error_code="secret-not-base64") from None


def _not_a_platform(why: str, *, error_code: str) -> MalformedError:
    return MalformedError(
        f"the Secret {SECRET_NAME} does not hold a simulated platform",
        error_code=error_code,
        why=why,
        remedy="find out which client wrote it; if no relying party uses its root, delete it and run `confcom enable` "
        "(or "
        "`helm upgrade`), which makes a new one",
    )
