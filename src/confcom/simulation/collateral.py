"""The collateral of a simulated platform, with which a verifier compares a quote's TCB and certificates.

The documents have the format of Intel's Provisioning Certification Service version 4 (TCB info version 3, QE identity
version 2). The simulated TCB signer signs them; the marks of simulation are part of the signed data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.sgx import marks
from confcom.sgx.collateral.bundle import CollateralBundle
from confcom.sgx.collateral.signed_json import SignedJson
from confcom.sgx.collateral.tcb_documents import (
    QE_IDENTITY_NAME,
    QE_IDENTITY_VERSION,
    TCB_INFO_NAME,
    TCB_INFO_VERSION,
    TcbStatus,
)
from confcom.simulation.keys import sign
from confcom.simulation.pki import PCE_ID, PCE_SVN, TCB_COMPONENTS, CertifiedKey, Pki, Validity
from confcom.simulation.quoting_enclave import QE_ISV_PROD_ID, QuotingEnclaveIdentity

TCB_EVALUATION_DATA_NUMBER = 1
"""Constant for a simulated platform; Intel's number counts TCB recoveries."""

_QE_ATTRIBUTES = "11000000000000000000000000000000"
_QE_ATTRIBUTES_MASK = "FBFFFFFFFFFFFFFF0000000000000000"
"""As in Intel's QE identity: INITTED and PROVISION_KEY set, DEBUG clear, MODE64BIT and XFRM not compared."""

_SIMULATION = {"genuine": False, "comment": marks.NS_COMMENT}

Document = Mapping[str, object]


def create_collateral(pki: Pki, identity: QuotingEnclaveIdentity, now: datetime) -> CollateralBundle:
    """Create all that a verifier needs besides the quote and the root; `now` (aware) only selects its validity."""
    validity = Validity.around(pki.root.certificate.not_valid_before_utc, now)
    signer_chain = pki.tcb_signer.pem + pki.root.pem
    key = pki.tcb_signer.private_key
    root_crl = create_crl(pki.root, last_update=validity.issue_date, next_update=validity.next_update)
    pck_crl = create_crl(pki.pck_ca, last_update=validity.issue_date, next_update=validity.next_update)
    tcb_date = pki.root.certificate.not_valid_before_utc
    return CollateralBundle(
        tcb_info=sign_document(TCB_INFO_NAME, tcb_info(validity, tcb_date), key),
        tcb_info_issuer_chain=signer_chain,
        qe_identity=sign_document(QE_IDENTITY_NAME, qe_identity(identity, validity, tcb_date), key),
        qe_identity_issuer_chain=signer_chain,
        pck_crl=pck_crl.public_bytes(Encoding.DER),
        pck_crl_issuer_chain=pki.pck_ca.pem + pki.root.pem,
        root_ca_crl=root_crl.public_bytes(Encoding.DER),
    )


def create_crl(
    issuer: CertifiedKey, *, last_update: datetime, next_update: datetime, revoked: tuple[int, ...] = ()
) -> x509.CertificateRevocationList:
    """Create the CRL of one CA, with revoked serial numbers; its own number is `last_update`, so it never decreases."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(last_update)
        .next_update(next_update)
        .add_extension(x509.CRLNumber(int(last_update.timestamp())), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.private_key.public_key()), critical=False
        )
    )
    for serial_number in revoked:
        entry = x509.RevokedCertificateBuilder(serial_number, last_update)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.private_key, hashes.SHA256(), ecdsa_deterministic=True)


def tcb_info(validity: Validity, tcb_date: datetime) -> Document:
    """Return TCB info with two levels: the platform's own (up to date), and everything below (out of date)."""
    current = {"sgxtcbcomponents": [{"svn": svn} for svn in TCB_COMPONENTS], "pcesvn": PCE_SVN}
    lowest = {"sgxtcbcomponents": [{"svn": 0} for _ in TCB_COMPONENTS], "pcesvn": 0}
    return {
        "id": "SGX",
        "version": TCB_INFO_VERSION,
        "issueDate": format_time(validity.issue_date),
        "nextUpdate": format_time(validity.next_update),
        "fmspc": marks.FMSPC.hex().upper(),
        "pceId": PCE_ID.hex(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": TCB_EVALUATION_DATA_NUMBER,
        "tcbLevels": [
            _level(current, tcb_date, TcbStatus.UP_TO_DATE, marks.ADVISORY_ID),
            _level(lowest, tcb_date, TcbStatus.OUT_OF_DATE, marks.ADVISORY_ID),
        ],
        marks.SIMULATION_MEMBER: _SIMULATION,
    }


def qe_identity(identity: QuotingEnclaveIdentity, validity: Validity, tcb_date: datetime) -> Document:
    """Return the QE identity of the trusted quoting enclave: up to date at its own SVN, out of date below."""
    levels = [_level({"isvsvn": identity.isv_svn}, tcb_date, TcbStatus.UP_TO_DATE, marks.ADVISORY_ID)]
    if identity.isv_svn > 0:
        levels.append(_level({"isvsvn": 0}, tcb_date, TcbStatus.OUT_OF_DATE, marks.ADVISORY_ID))
    return {
        "id": "QE",
        "version": QE_IDENTITY_VERSION,
        "issueDate": format_time(validity.issue_date),
        "nextUpdate": format_time(validity.next_update),
        "tcbEvaluationDataNumber": TCB_EVALUATION_DATA_NUMBER,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": _QE_ATTRIBUTES,
        "attributesMask": _QE_ATTRIBUTES_MASK,
        "mrsigner": identity.mr_signer.hex().upper(),
        "isvprodid": QE_ISV_PROD_ID,
        "tcbLevels": levels,
        marks.SIMULATION_MEMBER: _SIMULATION,
    }


def sign_document(member: str, document: Document, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Serialize and sign a document, in the form that the certification service sends.

    The document is ASCII text only. It is serialized without white space, and the signature covers exactly these bytes.
    `member` is its name: `tcbInfo` or `enclaveIdentity`.
    """
    inner = json.dumps(document, separators=(",", ":")).encode("ascii")
    return SignedJson(member, inner, sign(key, inner)).encode()


def format_time(time: datetime) -> str:
    """Format an aware UTC time as `YYYY-MM-DDTHH:MM:SSZ`, the only form that verifiers read."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _level(tcb: Document, tcb_date: datetime, status: TcbStatus, *advisories: str) -> Document:
    return {"tcb": tcb, "tcbDate": format_time(tcb_date), "tcbStatus": status.value, "advisoryIDs": list(advisories)}
