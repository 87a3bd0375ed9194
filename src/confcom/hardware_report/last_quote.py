"""The section of the last quote that a quote helper got for a client, asked of its probes."""

from __future__ import annotations

import http.client
import socket

from confcom.daemon.probes import ProbeAddress
from confcom.hardware_report.document.meanings import SECTIONS
from confcom.hardware_report.document.report import Finding, Section
from confcom.hardware_report.document.report_json import find_document

PAGE = "/last-quote"
SECONDS = 5.0
"""For connecting, and for each part of the answer: the helper answers within some milliseconds."""
MAX_PAGE_BYTES = 256 * 1024
"""A page has about 10 KiB; the fields of a quote of 64 KiB fit."""


def last_quote_section(address: ProbeAddress) -> Section:
    """Ask a quote helper for its last quote; whatever keeps it from answering is a finding."""
    connection = _Connection(address)
    try:
        connection.request("GET", PAGE)
        response = connection.getresponse()
        body = response.read(MAX_PAGE_BYTES).decode("utf-8", errors="replace")
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        return _missing(f"the quote helper's probes do not answer at {address}: {why}", code="quote-helper-unreachable")
    finally:
        connection.close()
    if response.status != http.client.OK:
        what = f"the quote helper has no quote to tell of: {body.strip()[:200]} ({response.status})"
        return _missing(what, code="quote-none-yet")
    document = find_document(body)
    fields = {} if document is None else document["sections"].get("quote", {})
    if document is None or not fields:
        return _missing("what the quote helper tells of its last quote is not understood", code="quote-page-unreadable")
    known = SECTIONS["quote"].fields
    findings = (one for one in document["findings"] if one["section"] == "quote")
    return Section(
        "quote",
        {key: field["value"] for key, field in fields.items() if key in known},
        tuple(Finding(code=one["code"], what=one["what"], do=one["do"]) for one in findings),
    )


def no_quote_section() -> Section:
    """Return the section where nobody said where a quote is."""
    return _missing("the report has no quote that an enclave on this node got", code="quote-not-named")


def _missing(what: str, *, code: str) -> Section:
    do = (
        "get a quote (docs/how-to/get-a-quote.md), and name its file by --quote, or by --probe-address the probes of "
        "the quote helper that relayed it"
    )
    return Section("quote", {}, (Finding(code=code, what=what, do=do),))


class _Connection(http.client.HTTPConnection):
    """A connection to a TCP address or a unix socket."""

    def __init__(self, address: ProbeAddress) -> None:
        super().__init__(address.host or "localhost", address.port or None, timeout=SECONDS)
        self._path = address.path

    def connect(self) -> None:
        """Connect."""
        if self._path is None:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(SECONDS)
        self.sock.connect(str(self._path))
