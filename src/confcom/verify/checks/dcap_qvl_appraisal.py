"""The adapter to dcap-qvl, and the only module that imports it; it maps dcap-qvl's error texts to `Finding`."""

from __future__ import annotations

import functools
import importlib
import json
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from types import ModuleType
from typing import Any, Final

from confcom.errors import UnavailableError
from confcom.sgx.collateral_bundle import CollateralBundle, CollateralDocuments
from confcom.sgx.tcb_documents import TcbStatus
from confcom.verify.verdict import VerdictKind


class Finding(Enum):
    """Why dcap-qvl rejects a quote. dcap-qvl's errors have one type, so their texts are matched (version 0.7)."""

    DEBUG = "dcap-qvl refuses debug enclaves"
    NOT_CURRENT = "part of the collateral is not current"
    OTHER_PLATFORM = "the collateral is for another platform"
    UNREADABLE = "dcap-qvl cannot read the quote"
    CERTIFICATES = "a certificate or revocation list does not hold, or a certificate is revoked"
    SIGNATURE = "a signature or hash does not hold"
    QUOTING_ENCLAVE = "the quoting enclave is not one that the QE identity allows"
    TCB = "the platform's or the quoting enclave's TCB is revoked, or below every known level"
    OTHER = "dcap-qvl rejects"

    @property
    def consequence(self) -> VerdictKind:
        unusable = {Finding.NOT_CURRENT, Finding.OTHER_PLATFORM, Finding.UNREADABLE}
        return VerdictKind.UNUSABLE if self in unusable else VerdictKind.NOT_AUTHENTIC


_TEXTS = (
    ("Debug mode is enabled", Finding.DEBUG),
    ("expired", Finding.NOT_CURRENT),
    ("CrlExpired", Finding.NOT_CURRENT),
    ("issue date is in the future", Finding.NOT_CURRENT),
    ("Fmspc mismatch", Finding.OTHER_PLATFORM),
    ("Failed to decode quote", Finding.UNREADABLE),
    ("Unsupported", Finding.UNREADABLE),
    ("certificate", Finding.CERTIFICATES),
    ("CertRevoked", Finding.CERTIFICATES),
    ("CRL", Finding.CERTIFICATES),
    ("Intel extension", Finding.CERTIFICATES),
    ("ignature is invalid", Finding.SIGNATURE),
    ("hash mismatch", Finding.SIGNATURE),
    ("QE ", Finding.QUOTING_ENCLAVE),
    ("TCB", Finding.TCB),
)
"""Substrings of dcap-qvl's error texts; the first match counts. Unknown texts mean OTHER (not authentic)."""


_REPORT_FIELDS = (
    *("cpu_svn", "misc_select", "reserved1", "attributes", "mr_enclave", "reserved2", "mr_signer", "reserved3"),
    *("isv_prod_id", "isv_svn", "reserved4", "report_data"),
)
"""The report body's fields in dcap-qvl, whose reserved fields include those of Key Separation and Sharing."""
_INTEGER_SIZES = {"misc_select": 4, "isv_prod_id": 2, "isv_svn": 2}
"""Sizes in bytes of the fields that dcap-qvl returns as numbers, while others are hexadecimal text."""
_DECODER: Final = json.JSONDecoder()
_REPORT: Final = '"SgxEnclave":'
"""Text before the report in dcap-qvl's claims; no JSON string contains it, because of its quotation marks."""
MAX_KNOWN_CLAIMS: Final = 256
"""Limit of cached entries of parsed claims without report. A platform has one entry, under 4 KiB of text."""


@dataclass(frozen=True, slots=True)
class Rating:
    """A TCB level's status and its tcbDate; the level's TCB was up to date until this date or longer."""

    status: TcbStatus
    date: datetime


@dataclass(frozen=True, slots=True)
class Appraisal:
    """The result if dcap-qvl accepts a quote; it accepts out-of-date platforms, but our policy checks `tcb_status`."""

    report_body: bytes
    """The enclave's report body, 384 bytes, put together from the fields that dcap-qvl read."""
    root_key_id: bytes
    tcb_status: TcbStatus
    """The combined status of platform and quoting enclave."""
    platform: Rating
    quoting_enclave: Rating
    advisory_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rejection:
    finding: Finding
    text: str


def load_dcap_qvl() -> ModuleType:
    """Import dcap-qvl at the first appraisal, because the quote helper's image does not have it.

    Raises:
        UnavailableError: dcap-qvl is not installed.
    """
    try:
        return importlib.import_module("dcap_qvl")
    except ModuleNotFoundError as missing:
        raise UnavailableError(
            "quotes cannot be verified",
            error_code="dcap-qvl-missing",
            why="the package dcap-qvl is not installed",
            remedy="install it; the daemons' images leave it out, since no daemon verifies quotes",
        ) from missing


class Appraiser:
    """Verifies quotes with dcap-qvl, one set of collateral and one root."""

    def __init__(self, root_der: bytes, collateral: CollateralBundle, documents: CollateralDocuments) -> None:
        self._root_der = root_der
        self._collateral = collateral
        self._signed = documents.tcb_info.signed, documents.qe_identity.signed
        self._prepared: tuple[Any, Any] | None = None
        """dcap-qvl's objects for verifier and collateral; None before the first appraisal."""
        self._known_claims = functools.lru_cache(MAX_KNOWN_CLAIMS)(_claims)

    def appraise(self, quote: bytes, now: datetime) -> Appraisal | Rejection:
        """Verify a quote at `now`, a time that `require_instant` returned."""
        dcap_qvl = load_dcap_qvl()
        seconds = int(now.timestamp())
        try:
            verifier, collateral = self._prepared = self._prepared or self._prepare(dcap_qvl)
            # claims_only turns every check of dcap-qvl's own policy off, so that only our policy decides.
            policy = dcap_qvl.QuotePolicy.claims_only(seconds)
            text = verifier.verify_with_policy(quote, collateral, seconds, policy).to_json()
            # A platform's quotes differ only in the report, so the rest of the claims is cached.
            begin = text.index(_REPORT) + len(_REPORT)
            report, end = _DECODER.raw_decode(text, begin)
            return Appraisal(_report_body(report), *self._known_claims(f"{text[:begin]}null{text[end:]}"))
        except (ValueError, KeyError) as error:
            text = str(error).removeprefix("Verification failed: ")
            return Rejection(next((finding for part, finding in _TEXTS if part in text), Finding.OTHER), text)

    def _prepare(self, dcap_qvl: ModuleType) -> tuple[Any, Any]:
        collateral, (tcb_info, qe_identity) = self._collateral, self._signed
        return dcap_qvl.QuoteVerifier(self._root_der), dcap_qvl.QuoteCollateralV3(
            pck_crl_issuer_chain=collateral.pck_crl_issuer_chain.decode(),
            root_ca_crl=collateral.root_ca_crl,
            pck_crl=collateral.pck_crl,
            tcb_info_issuer_chain=collateral.tcb_info_issuer_chain.decode(),
            tcb_info=tcb_info.body.decode(),
            tcb_info_signature=tcb_info.signature,
            qe_identity_issuer_chain=collateral.qe_identity_issuer_chain.decode(),
            qe_identity=qe_identity.body.decode(),
            qe_identity_signature=qe_identity.signature,
        )


def _report_body(report: dict[str, Any]) -> bytes:
    for name, size in _INTEGER_SIZES.items():
        report[name] = report[name].to_bytes(size, "little").hex()
    return bytes.fromhex("".join([report[name] for name in _REPORT_FIELDS]))


def _claims(text: str) -> tuple[bytes, TcbStatus, Rating, Rating, tuple[str, ...]]:
    """Return the fields of an Appraisal that follow the report body."""
    claims = json.loads(text)
    return (
        bytes(claims["platform"]["root_key_id"]),
        TcbStatus(claims["tcb"]["status"]),
        _rating(claims["platform"]["tcb_level"]),
        _rating(claims["qe"]["tcb_level"]),
        tuple(claims["tcb"]["advisory_ids"]),
    )


def _rating(level: dict[str, str]) -> Rating:
    return Rating(TcbStatus(level["tcbStatus"]), datetime.fromisoformat(level["tcbDate"]))
