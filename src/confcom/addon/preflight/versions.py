"""Supported versions of helm and Kubernetes. Pure."""

from __future__ import annotations

import re

from confcom.addon.preflight.findings import Check, Finding
from confcom.errors import ConfcomError

HELM_MAJORS = (3, 4)
"""Helm 4; also helm 3, whose support ended in November 2026, because many clusters' pipelines still use it."""
_MERGING_HELM = 3
OLDEST_HELM = (3, 13)
"""The first version with --dry-run=server, which renders the chart before anything is changed."""
OLDEST_KUBERNETES = (1, 30)
"""The first version that serves ValidatingAdmissionPolicy as v1, which the chart contains."""
TESTED_KUBERNETES = ((1, 34), (1, 37))
"""The oldest and the newest tested version: the chart is checked against their schemas."""

_VERSION = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})")


def major_minor(version: str) -> tuple[int, int] | None:
    """Return the first two numbers of a version such as `v4.3.1+gabc`; None if it has none."""
    match = _VERSION.match(version)
    return (int(match[1]), int(match[2])) if match else None


def is_helm_3(version: str) -> bool:
    """Return whether this is helm 3, which uses a three-way merge instead of server-side apply."""
    found = major_minor(version)
    return found is not None and found[0] == _MERGING_HELM


def check_helm(version: str | ConfcomError) -> Finding:
    """Check that helm is installed, and that its version can install the chart."""
    if isinstance(version, ConfcomError):
        return Finding.of(Check.HELM, version)
    found = major_minor(version)
    if found is None or found[0] not in HELM_MAJORS:
        return Finding.failed(
            Check.HELM,
            f"helm {version or 'of no version'} is not supported",
            why="the chart is tested with helm 4 and 3",
            remedy="install helm 4",
            code="helm-not-supported",
        )
    if found < OLDEST_HELM:
        oldest = ".".join(map(str, OLDEST_HELM))
        return Finding.failed(
            Check.HELM,
            f"helm {version} is too old",
            why=f"--dry-run=server, which checks the chart before a change, needs helm {oldest}",
            remedy=f"install helm 4, or {oldest} or newer of helm 3",
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
