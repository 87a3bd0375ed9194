"""Open Enclave's header in front of a quote (oe_report_header_t in its internal/report.h).

A remote report is a header of 16 bytes and a quote: u32 version 1, u32 type (1 local, 2 remote), u64 size of the rest.
"""

from __future__ import annotations

from enum import IntEnum

from confcom.errors import MalformedError

OPEN_ENCLAVE_HEADER_SIZE = 16
_VERSION = (1).to_bytes(4, "little")


class OpenEnclaveReportType(IntEnum):
    """report_type of the header."""

    LOCAL = 1
    """A report for another enclave of the same platform follows."""
    REMOTE = 2
    """A quote follows."""


def has_open_enclave_header(data: bytes) -> bool:
    """Return whether these bytes begin with Open Enclave's report header; no report has a size of 4 GiB or more."""
    return (
        len(data) >= OPEN_ENCLAVE_HEADER_SIZE
        and data[:4] == _VERSION
        and int.from_bytes(data[4:8], "little") in tuple(OpenEnclaveReportType)
        and data[12:16] == bytes(4)
    )


def strip_open_enclave_header(data: bytes) -> bytes:
    """Return the quote of an Open Enclave remote report.

    Raises:
        MalformedError: no such header, a local report, or a size that differs from the declared one.
    """
    if not has_open_enclave_header(data):
        raise MalformedError(
            "these bytes do not begin with Open Enclave's report header", error_code="no-open-enclave-header"
        )
    kind = int.from_bytes(data[4:8], "little")
    if kind != OpenEnclaveReportType.REMOTE:
        raise MalformedError(
            "this is a local report of Open Enclave, which holds no quote",
            error_code="open-enclave-local-report",
            remedy="ask the enclave for evidence for remote attestation",
        )
    declared = int.from_bytes(data[8:16], "little")
    quote = data[OPEN_ENCLAVE_HEADER_SIZE:]
    if declared != len(quote):
        raise MalformedError(
            "an Open Enclave report was cut or added to",
            error_code="open-enclave-size-mismatch",
            why=f"its header declares {declared} bytes and {len(quote)} follow",
        )
    return quote
