"""Collateral: everything that verification needs besides the quote and the root certificate.

The parts are the root's revocation list and the responses of Intel's PCS to requests for tcb, qe/identity and
pckcrl. Each part is kept byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from cryptography import x509

from confcom.errors import MalformedError
from confcom.sgx.certificates import load_certificate, name_text, warnings_as_errors
from confcom.sgx.certification import UNREADABLE_X509, split_pem_chain
from confcom.sgx.tcb_documents import QeIdentity, TcbInfo

_FILES = {
    "tcb_info": "tcb_info.json",
    "tcb_info_issuer_chain": "tcb_info_issuer_chain.pem",
    "qe_identity": "qe_identity.json",
    "qe_identity_issuer_chain": "qe_identity_issuer_chain.pem",
    "pck_crl": "pck_crl.der",
    "pck_crl_issuer_chain": "pck_crl_issuer_chain.pem",
    "root_ca_crl": "root_ca_crl.der",
}

COLLATERAL_FILES = tuple(_FILES.values())
"""The files of a collateral directory."""


@dataclass(frozen=True, slots=True)
class CollateralDocuments:
    tcb_info: TcbInfo
    tcb_info_issuers: tuple[x509.Certificate, ...]
    """The certificate of the TCB info's signer, then the root; the other two chains have the same order."""
    qe_identity: QeIdentity
    qe_identity_issuers: tuple[x509.Certificate, ...]
    pck_crl: x509.CertificateRevocationList
    pck_crl_issuers: tuple[x509.Certificate, ...]
    root_ca_crl: x509.CertificateRevocationList
    issuer_periods: tuple[tuple[str, datetime, datetime], ...]
    """Name and validity of each certificate in the three issuer chains."""
    periods: tuple[tuple[str, datetime, datetime], ...]
    """Name, issue date and next issue date of each part with dates; the root's revocation list is last."""

    @property
    def validity_periods(self) -> tuple[tuple[str, datetime, datetime], ...]:
        return (*self.periods, *self.issuer_periods)

    @property
    def expires(self) -> datetime:
        return min(end for _, _, end in self.periods)

    @property
    def issued(self) -> tuple[str, datetime]:
        """Name and issue date of the oldest part except the root's revocation list, which is only renewed yearly."""
        name, begin, _ = min(self.periods[:-1], key=lambda period: period[1])
        return name, begin

    def is_fresh(self, now: datetime) -> bool:
        """Return whether every part is in the first half of its validity period."""
        return all(now < begin + (end - begin) / 2 for _, begin, end in self.periods)


@dataclass(frozen=True, slots=True, repr=False)
class CollateralBundle:
    """One set of collateral."""

    tcb_info: bytes
    """`{"tcbInfo":{...},"signature":"..."}`"""
    tcb_info_issuer_chain: bytes
    """PEM certificates of the TCB info's signer and the root, in this order."""
    qe_identity: bytes
    """`{"enclaveIdentity":{...},"signature":"..."}`"""
    qe_identity_issuer_chain: bytes
    """PEM certificates of the QE identity's signer and the root, in this order."""
    pck_crl: bytes
    """Revocation list of the PCK's certificate authority, DER."""
    pck_crl_issuer_chain: bytes
    """PEM: the PCK's certificate authority, then the root. dcap-qvl and Intel's QVL do not read this chain."""
    root_ca_crl: bytes
    """The root's revocation list, DER."""

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Make collateral from a directory's file contents, keyed by file name; other names are ignored.

        Raises:
            MalformedError: a file is missing, or cannot be parsed.
        """
        missing = [name for name in COLLATERAL_FILES if name not in files]
        if missing:
            raise MalformedError(
                "the collateral is incomplete",
                error_code="collateral-incomplete",
                why=f"these files are missing: {', '.join(missing)}",
                remedy="fetch or export it again; `confcom simulation export` writes it to DIR/collateral",
            )
        collateral = cls(**{field: files[name] for field, name in _FILES.items()})
        collateral.read()
        return collateral

    def to_files(self) -> dict[str, bytes]:
        """Return the contents of a collateral directory's files, keyed by file name."""
        return {name: getattr(self, field) for field, name in _FILES.items()}

    def read(self) -> CollateralDocuments:
        """Parse every part. MalformedError if a part cannot be parsed."""
        tcb_info, qe_identity = TcbInfo.parse(self.tcb_info), QeIdentity.parse(self.qe_identity)
        if tcb_info.tee != qe_identity.tee:
            raise MalformedError(
                "the parts of the collateral are of different TEEs",
                error_code="collateral-mixed",
                why=f"the TCB info is for {tcb_info.tee.name}, and the QE identity for {qe_identity.tee.name}",
                remedy="fetch both from the service's paths for one TEE",
            )
        pck_crl, pck_crl_period = _crl("the PCK revocation list", self.pck_crl)
        root_ca_crl, root_ca_crl_period = _crl("the root's revocation list", self.root_ca_crl)
        tcb_info_issuers = self._issuers("tcb_info_issuer_chain")
        qe_identity_issuers = self._issuers("qe_identity_issuer_chain")
        pck_crl_issuers = self._issuers("pck_crl_issuer_chain")
        issuer_periods = tuple(
            (name_text(issuer.subject), issuer.not_valid_before_utc, issuer.not_valid_after_utc)
            for issuer in (*tcb_info_issuers, *qe_identity_issuers, *pck_crl_issuers)
        )
        tcb_info_period = "TCB info", tcb_info.issue_date, tcb_info.next_update
        qe_identity_period = "QE identity", qe_identity.issue_date, qe_identity.next_update
        periods = tcb_info_period, qe_identity_period, pck_crl_period, root_ca_crl_period
        signed = tcb_info, tcb_info_issuers, qe_identity, qe_identity_issuers
        return CollateralDocuments(*signed, pck_crl, pck_crl_issuers, root_ca_crl, issuer_periods, periods)

    def _issuers(self, name: str) -> tuple[x509.Certificate, ...]:
        return tuple(load_certificate(pem, f"a certificate of {name}") for pem in split_pem_chain(getattr(self, name)))


def _crl(name: str, der: bytes) -> tuple[x509.CertificateRevocationList, tuple[str, datetime, datetime]]:
    """Parse a list with the fields that cryptography decodes at first use, so that these cannot raise later."""
    try:
        with warnings_as_errors(__name__):
            crl = x509.load_der_x509_crl(der)
            _ = crl.issuer, crl.extensions, crl.signature_hash_algorithm
            _ = crl.get_revoked_certificate_by_serial_number(0)
            begin, end = crl.last_update_utc, crl.next_update_utc
        if end is None:
            raise ValueError("it has no next update, and would be valid forever")
    except (Warning, *UNREADABLE_X509) as error:
        raise MalformedError(
            f"{name} is not a certificate revocation list in DER",
            error_code="not-a-crl",
            why=str(error),
            remedy="ask the service for DER (encoding=der); PEM and hex text are not read",
        ) from error
    return crl, (name, begin, end)
