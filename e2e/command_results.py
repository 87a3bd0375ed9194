"""What commands say with `--output=json`, and what helm prints of the chart's refusals, reduced to codes."""

from __future__ import annotations

import json
import re
from subprocess import CompletedProcess
from typing import Any

JSON = "--output=json"
_REFUSED_BY_CHART = re.compile(r"^\s*code: (\S+)$", re.MULTILINE)
"""The line with which the chart ends a refusal."""


def document_of(done: CompletedProcess[str]) -> dict[str, Any]:
    """Return the JSON that a command printed."""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def changes(done: CompletedProcess[str]) -> bool:
    """Return whether a command changed the release."""
    return bool(document_of(done)["changed"])


def codes_of(done: CompletedProcess[str]) -> set[str]:
    """Return the codes of the error, of findings that are not ok, of problems, and of what could not be compared."""
    found = document_of(done)
    findings = [one for one in found.get("findings", []) if one["outcome"] != "ok"]
    listed = [*findings, *found.get("problem_details", []), *found.get("not_compared_details", [])]
    return {one["code"] for one in (*listed, *filter(None, [found.get("error")]))}


def refusals_of(done: CompletedProcess[str]) -> list[str]:
    """Return the codes of the chart's refusals that helm has printed."""
    return _REFUSED_BY_CHART.findall(done.stderr)
