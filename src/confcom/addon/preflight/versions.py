"""Supported versions of helm and Kubernetes. Pure."""

from __future__ import annotations

import re

from confcom.addon.preflight.findings import Check, Finding
from confcom.errors import ConfcomError

OLDEST_HELM = (4, 0)
"""The first version with server-side apply, by which a change overwrites the fields of other managers."""
OLDEST_KUBERNETES = (1, 30)
"""The first version that serves ValidatingAdmissionPolicy as v1, which the chart contains."""
TESTED_KUBERNETES = ((1, 34), (1, 37))
"""The oldest and the newest tested version: the chart is checked against their schemas."""

_VERSION = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})")


def major_minor(version: str) -> tuple[int, int] | None:
    """Return the first two numbers of a version such as `v4.3.1+gabc`; None if it has none."""
    match = _VERSION.match(version)
    return (int(match[1]), int(match[2])) if match else None


def check_helm(version: str | ConfcomError) -> Finding:
    """Check that helm is installed, and that its version can install the chart."""
    if isinstance(version, ConfcomError):
        return Finding.of(Check.HELM, version)
    found = major_minor(version)
    if found is None or found < OLDEST_HELM:
        return Finding.failed(
            Check.HELM,
            f"helm {version or 'of no version'} is too old",
            why="the add-on's commands need server-side apply, which helm 4 introduced",
            remedy="install helm 4",
            code="helm-too-old",
        )
    return Finding.ok(Check.HELM, version, code="helm-supported")


def check_kubernetes(version: str) -> Finding:
    """Check that the cluster's version is supported."""
    found = major_minor(version)
    oldest, newest = (".".join(map(str, one)) for one in TESTED_KUBERNETES)
    if found is None or found < OLDEST_KUBERNETES:
        needed = ".".join(map(str, OLDEST_KUBERNETES))
        return Finding.failed(
            Check.KUBERNETES,
            f"Kubernetes {version or 'of no version'} is too old",
            why=f"ValidatingAdmissionPolicy needs Kubernetes {needed}",
            remedy=f"upgrade the cluster; {oldest} to {newest} are tested",
            code="kubernetes-too-old",
        )
    if not TESTED_KUBERNETES[0] <= found <= TESTED_KUBERNETES[1]:
        return Finding.warning(
            Check.KUBERNETES,
            f"{version} is not tested",
            why=f"{oldest} to {newest} are tested",
            code="kubernetes-not-tested",
        )
    return Finding.ok(Check.KUBERNETES, version, code="kubernetes-supported")
