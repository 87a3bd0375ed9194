"""The report as text: each field with one line that says what it means. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from confcom.errors import printable
from confcom.hardware_report.meanings import REDACTED, SECTIONS
from confcom.hardware_report.redaction import Value
from confcom.hardware_report.report import HardwareReport


def report_lines(report: HardwareReport) -> Iterator[str]:
    """Yield the lines of a report; findings are the last part."""
    yield f"SGX hardware report. Left out of it: {REDACTED}."
    for section in report.sections:
        if not section.values:
            continue
        described = SECTIONS[section.key]
        yield ""
        yield described.title
        for key, value in section.values.items():
            yield from _field(key, value, described.fields[key])
    yield ""
    yield f"Findings: {len(report.findings) or 'none'}"
    for key, finding in report.findings:
        yield f"  {finding.code} ({key}): {printable(finding.what)}"
        if finding.do:
            yield f"    do: {printable(finding.do)}"


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
