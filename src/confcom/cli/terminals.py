"""Whether a terminal is to be written to as to a file: no colour, and no cursor that moves."""

from __future__ import annotations

from collections.abc import Mapping

PLAIN_TERMINALS = frozenset({"dumb", "unknown"})
"""Values of TERM that stand for a terminal without control sequences, such as an editor's or a build log."""


def is_plain(environ: Mapping[str, str]) -> bool:
    """By TERM, or by NO_COLOR if it is not empty (https://no-color.org)."""
    return environ.get("TERM") in PLAIN_TERMINALS or bool(environ.get("NO_COLOR"))
