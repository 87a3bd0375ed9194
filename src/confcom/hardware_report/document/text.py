"""The report as text: each field with one line that says what it means. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from confcom.errors import printable
from confcom.hardware_report.document.meanings import REDACTED, SECTIONS
from confcom.hardware_report.document.redaction import Value
from confcom.hardware_report.document.report import HardwareReport
from confcom.hardware_report.document.report_json import Document

HEADER = f"SGX hardware report. Left out of it: {REDACTED}."


def report_lines(report: HardwareReport) -> Iterator[str]:
    """Yield the lines of a report."""
    yield HEADER
    yield from document_lines(report.to_json())


def document_lines(document: Document) -> Iterator[str]:
    """Yield the lines of a report's JSON, which may be that of another version; findings are the last part."""
    for key, fields in document["sections"].items():
        if not fields:
            continue
        yield ""
        yield SECTIONS[key].title if key in SECTIONS else printable(key)
        for name, field in fields.items():
            yield from _field(printable(name), field["value"], printable(field["meaning"]))
    yield ""
    findings = document["findings"]
    yield f"Findings: {len(findings) or 'none'}"
    for finding in findings:
        yield f"  {printable(finding['code'])} ({printable(finding['section'])}): {printable(finding['what'])}"
        if finding["do"]:
            yield f"    do: {printable(finding['do'])}"


def _field(key: str, value: Value, meaning: str) -> Iterator[str]:
    rows = [*_rows(value)]
    yield f"  {key}: {rows[0]}" if len(rows) == 1 else f"  {key}:"
    yield f"      # {meaning}"
    if len(rows) > 1:
        yield from (f"    - {row}" for row in rows)


def _rows(value: Value) -> Iterator[str]:
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        yield from map(_inline, value)
    elif isinstance(value, dict) and any(isinstance(one, dict) for one in value.values()):
        yield from (f"{printable(key)}: {_inline(one)}" for key, one in value.items())
    else:
        yield _inline(value)


def _inline(value: Value) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_inline, value)) or "none"
    if isinstance(value, dict):
        return "  ".join(f"{printable(key)}={_inline(one)}" for key, one in value.items()) or "none"
    return printable(str(value))
