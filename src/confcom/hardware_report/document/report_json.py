"""A report's JSON, found in a log and checked: it may be that of another version of confcom. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from confcom.hardware_report.document.report import FORMAT

Document = Mapping[str, Any]
"""What `HardwareReport.to_json` returns."""


def find_document(log: str) -> Document | None:
    """Return the report in a log whose last lines have it as one line of JSON; None if there is none."""
    for line in reversed(log.splitlines()):
        if line.startswith("{") and (found := _parsed(line)) is not None:
            return found
    return None


def _parsed(line: str) -> Document | None:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return None
    sections, findings = document.get("sections"), document.get("findings")
    if not isinstance(sections, dict) or not isinstance(findings, list):
        return None
    fields = [section.values() if isinstance(section, dict) else [None] for section in sections.values()]
    if not all(_is_field(field) for section in fields for field in section):
        return None
    return document if all(map(_is_finding, findings)) else None


def _is_field(field: object) -> bool:
    return isinstance(field, dict) and "value" in field and isinstance(field.get("meaning"), str)


def _is_finding(finding: object) -> bool:
    return isinstance(finding, dict) and all(
        isinstance(finding.get(key), str) for key in ("code", "section", "what", "do")
    )
