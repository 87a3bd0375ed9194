"""The redacted anatomy of a hardware quote, as in the hardware report. Imported only with a hardware provider."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from confcom.hardware_report.document.report import HardwareReport
from confcom.hardware_report.sections.quote import quote_section
from confcom.verify.files import intel_root


def anatomy_of(quote: bytes) -> bytes:
    """Return a report with the section of a quote alone, as one line of JSON; nothing if there is no quote."""
    if not quote:
        return b""
    report = HardwareReport.of([quote_section(quote, intel_root(), datetime.now(UTC))])
    return json.dumps(report.to_json()).encode() + b"\n"
