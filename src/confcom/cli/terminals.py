"""Detection of plain terminals, which get no colours and no cursor movement."""

from __future__ import annotations

from collections.abc import Mapping

PLAIN_TERMINALS = frozenset({"dumb", "unknown"})
"""Values of TERM for terminals without control sequences, such as an editor's or a build log."""


def is_plain(environ: Mapping[str, str]) -> bool:
    """Return whether output must be plain, by TERM, or by NO_COLOR if it is not empty (https://no-color.org)."""
    return environ.get("TERM") in PLAIN_TERMINALS or bool(environ.get("NO_COLOR"))
