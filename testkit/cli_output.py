"""Output of the commands for a cluster, read by code, state and name. The documentation fixes its wording."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from click.testing import Result

ROW = re.compile(r"  (ok|\.\.|!!)  (\S.*)")
"""A row of the progress display without a terminal: mark and subject, then the state."""


def error_of(done: Result) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(done.stdout)["error"]
    assert error["exit_code"] == done.exit_code
    return error


def commands_in(text: str) -> list[str]:
    return re.findall(r"`(confcom [^`]+)`", text)


def findings_of(document: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return outcome and code of each check; for a check with several findings, those of its last finding."""
    return {one["check"]: (one["outcome"], one["code"]) for one in document["findings"]}


def finding_of(document: dict[str, Any], check: str) -> dict[str, str]:
    (finding,) = [one for one in document["findings"] if one["check"] == check]
    return finding


def rows_of(done: Result) -> list[tuple[str, ...]]:
    """Return rows shown while the command waited: mark, parts of the subject, and state."""
    shown = filter(None, map(ROW.fullmatch, done.stderr.splitlines()))
    return [(row[1], *row[2].split("  ")) for row in shown]
