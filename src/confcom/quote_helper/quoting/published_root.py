"""The choice of a quote helper's simulated platform where one root is published for the whole cluster.

The platform in a state directory may change while the helper runs, for example if it is a mounted Secret. The helper
uses it only if its root is the published one, so that no helper has a root that relying parties do not know.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confcom.daemon.readiness_log import NotReady

MAX_PUBLISHED_BYTES: Final = 128
"""Bytes read of the file, which has 64 digits and a line break."""
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to switch to the platform in the state directory.

    Args:
        take: whether to use the platform that is in the state directory now.
        problem: why the helper's platform is not the intended one; None if it is.
    """

    take: bool = False
    problem: NotReady | None = None


def decide(in_use: str, kept: str, published: str) -> Decision:
    """Decide from the fingerprints of three roots.

    Args:
        in_use: root of the platform that the helper uses; empty: it has just started.
        kept: root of the platform in the state directory.
        published: root that is published for the cluster; empty: none is.
    """
    if kept == (published or in_use or kept):
        return Decision(take=kept != in_use)
    if not published:
        problem = NotReady(
            f"the mounted simulated platform has another root ({_short(kept)}) than the platform that this helper "
            f"uses ({_short(in_use)}), and the cluster has no published root: `confcom enable` (or `helm upgrade`) "
            "publishes one",
            code="mounted-root-unpublished",
        )
    elif published == in_use:
        problem = NotReady(
            f"the mounted simulated platform has another root ({_short(kept)}) than the one published "
            f"for the cluster, which this helper keeps using ({_short(published)}): if the Secret was changed on "
            "purpose, delete the ConfigMap confcom-simulated-root, and `confcom enable` (or `helm upgrade`) publishes "
            "its root; otherwise delete the Secret, and the same command creates a new root",
            code="mounted-root-changed",
        )
    else:
        doing = f"this helper uses {_short(in_use)}" if in_use else "this helper makes no quotes"
        problem = NotReady(
            f"the cluster's simulated root is {_short(published)}, and {doing}: the mounted platform has the root "
            f"{_short(kept)} until the kubelet updates it; if that takes longer than five minutes, delete "
            "this Pod; if the ConfigMap confcom-simulated-root was edited, delete it, and `confcom enable` (or "
            "`helm upgrade`) publishes the root again",
            code="published-root-not-mounted",
        )
    return Decision(problem=problem)


def read_published(path: Path) -> str:
    """Return the published fingerprint; empty if the file is missing or does not hold one."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            text = file.read(MAX_PUBLISHED_BYTES).decode("ascii").strip()
    except (OSError, UnicodeError):
        return ""
    return text if _FINGERPRINT.fullmatch(text) else ""


def _short(fingerprint: str) -> str:
    return f"SHA-256 {fingerprint[:16]}..."
