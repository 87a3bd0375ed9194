"""Hides the values of Secrets in what is shown of other objects. Pure."""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from confcom.addon.release.drift import SECRET, Drift
from confcom.kubernetes.objects import KubernetesObject, mapping, text

SHORTEST_SECRET = 4
"""Minimum length in characters to search for a Secret's value within other values; a shorter one hides only values that
are equal to it."""


def secret_values(manifests: Iterable[KubernetesObject]) -> frozenset[str]:
    """Return the values of the Secrets among the manifests, both decoded and as encoded there."""
    found: set[str] = set()
    for one in manifests:
        if text(one, "kind") == SECRET:
            found.update(str(value) for value in mapping(one, "stringData").values())
            for value in map(str, mapping(one, "data").values()):
                found.add(value)
                with contextlib.suppress(binascii.Error, UnicodeError):  # the value is not text
                    found.add(base64.b64decode(value, validate=True).decode())
    return frozenset(found - {""})


def holds(value: object, secrets: frozenset[str]) -> bool:
    """Return whether a value equals, contains or is part of a Secret's value, as a password is of a registry login."""
    if isinstance(value, Mapping):
        return any(holds(one, secrets) for one in value.values())
    if isinstance(value, list):
        return any(holds(one, secrets) for one in value)
    if value is None or isinstance(value, bool):
        return False
    shown = str(value)
    return shown in secrets or any(
        (len(one) >= SHORTEST_SECRET and one in shown) or (len(shown) >= SHORTEST_SECRET and shown in one)
        for one in secrets
    )


def without_secrets(drifts: Iterable[Drift], manifests: Iterable[KubernetesObject]) -> tuple[Drift, ...]:
    """Return the drifts with the fields marked as hidden whose values are in a Secret of the manifests."""
    secrets = secret_values(manifests)
    return tuple(
        replace(
            drift,
            fields=tuple(
                replace(one, hidden=holds(one.wanted, secrets) or holds(one.found, secrets)) for one in drift.fields
            ),
        )
        for drift in drifts
    )
