"""The adapter to dcap-qvl, and the only module that imports it. It maps dcap-qvl's error texts to `Finding`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from types import ModuleType

from confcom.errors import UnavailableError
from confcom.sgx.collateral.bundle import Collateral
from confcom.sgx.collateral.tcb_documents import TcbStatus
from confcom.sgx.report import ReportBody
from confcom.verify.verdict import Claims, VerdictKind


class Finding(Enum):
    """Why dcap-qvl rejects a quote. All its errors have one type, so their texts are matched (version 0.7)."""

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
        """The kind of verdict: unusable for the three findings about unsuitable input, otherwise not authentic."""
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
"""Substrings of dcap-qvl's error texts; the first match counts. An unknown text is OTHER, so it is not authentic."""


_REPORT_FIELDS = (
    ("cpu_svn", 16),
    ("misc_select", 4),
    ("reserved1", 28),
    ("attributes", 16),
    ("mr_enclave", 32),
    ("reserved2", 32),
    ("mr_signer", 32),
    ("reserved3", 96),
    ("isv_prod_id", 2),
    ("isv_svn", 2),
    ("reserved4", 60),
    ("report_data", 64),
)
"""The report body's fields and sizes in dcap-qvl. Its reserved fields have what Key Separation and Sharing added."""


@dataclass(frozen=True, slots=True)
class Appraisal:
    """The result if dcap-qvl accepts. It also accepts out-of-date platforms; the policy decides by `tcb_status`."""

    claims: Claims
    root_key_id: bytes
    tcb_status: TcbStatus
    advisory_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rejection:
    """The result if dcap-qvl rejects: the finding, and dcap-qvl's error text."""

    finding: Finding
    text: str


def load_dcap_qvl() -> ModuleType:
    """Import dcap-qvl, which only an appraisal needs: the quote helper's image does without.

    Raises:
        UnavailableError: it is not installed.
    """
    try:
        import dcap_qvl  # noqa: PLC0415 # see above
    except ModuleNotFoundError as missing:
        raise UnavailableError(
            "quotes cannot be verified",
            error_code="dcap-qvl-missing",
            why="the package dcap-qvl is not installed",
            remedy="install it; the daemons' images leave it out, since no daemon verifies quotes",
        ) from missing
    module: ModuleType = dcap_qvl
    return module


def appraise(quote: bytes, root_der: bytes, collateral: Collateral, now: datetime) -> Appraisal | Rejection:
    """Verify a quote with dcap-qvl, under an explicit root and at an explicit time.

    The collateral is well-formed, and the time is one that `require_instant` returned.
    """
    dcap_qvl = load_dcap_qvl()
    tcb_info, qe_identity = collateral.read_tcb_info().signed, collateral.read_qe_identity().signed
    seconds = int(now.timestamp())
    try:
        qvl_collateral = dcap_qvl.QuoteCollateralV3(
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
        verifier = dcap_qvl.QuoteVerifier(root_der)
        # claims_only turns every check of dcap-qvl's own policy off, so that only our policy decides.
        claims = verifier.verify_with_policy(quote, qvl_collateral, seconds, dcap_qvl.QuotePolicy.claims_only(seconds))
        return _appraisal(claims.to_json())
    except (ValueError, KeyError) as error:
        text = str(error).removeprefix("Verification failed: ")
        return Rejection(_finding(text), text)


def _finding(text: str) -> Finding:
    return next((finding for part, finding in _TEXTS if part in text), Finding.OTHER)


def _field(value: str | int, size: int) -> bytes:
    return value.to_bytes(size, "little") if isinstance(value, int) else bytes.fromhex(value)


def _appraisal(text: str) -> Appraisal:
    claims = json.loads(text)
    report = claims["report"]["SgxEnclave"]
    body = b"".join(_field(report[name], size) for name, size in _REPORT_FIELDS)
    return Appraisal(
        claims=Claims.of(ReportBody.parse(body)),
        root_key_id=bytes(claims["platform"]["root_key_id"]),
        tcb_status=TcbStatus(claims["tcb"]["status"]),
        advisory_ids=tuple(claims["tcb"]["advisory_ids"]),
    )
