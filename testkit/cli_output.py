"""Reads codes, states and names from the output of cluster commands; the docs' tests check the wording."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from click.testing import Result

ROW = re.compile(r"  (ok|\.\.|!!)  (\S.*)")
"""A row of the progress display on a stream that is no terminal: mark, subject and state."""


def error_of(done: Result) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(done.stdout)["error"]
    assert error["exit_code"] == done.exit_code
    return error


def commands_in(text: str) -> list[str]:
    return re.findall(r"`(confcom [^`]+)`", text)


def findings_of(document: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return outcome and code of each check; the last finding counts if a check has several findings."""
    return {one["check"]: (one["outcome"], one["code"]) for one in document["findings"]}


def finding_of(document: dict[str, Any], check: str) -> dict[str, str]:
    (finding,) = [one for one in document["findings"] if one["check"] == check]
    return finding


def rows_of(done: Result) -> list[tuple[str, ...]]:
    """Return the progress rows that the command printed; each row is mark, parts of the subject, state."""
    shown = filter(None, map(ROW.fullmatch, done.stderr.splitlines()))
    return [(row[1], *row[2].split("  ")) for row in shown]
