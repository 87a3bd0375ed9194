"""The collateral of a simulated platform, with which a verifier compares a quote's TCB and certificates.

The documents have the format of Intel's Provisioning Certification Service version 4 (TCB info version 3, QE identity
version 2). The simulated TCB signer signs the documents; the marks of simulation are part of the signed data.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.sgx import simulation_marks as marks
from confcom.sgx.collateral_bundle import CollateralBundle
from confcom.sgx.pck.extension import TCB_COMPONENT_COUNT, PckExtension
from confcom.sgx.signed_json import SignedJson
from confcom.sgx.tcb_documents import (
    EVALUATION_NUMBERS_NAME,
    EVALUATION_NUMBERS_VERSION,
    QE_IDENTITY_NAME,
    QE_IDENTITY_VERSION,
    TCB_INFO_NAME,
    TCB_INFO_VERSION,
    TcbStatus,
)
from confcom.sgx.td_report import SEAM_ATTRIBUTES_SIZE
from confcom.sgx.tee_type import TeeType
from confcom.simulation.collateral_staging import FIRST_NUMBER, Staging
from confcom.simulation.keys import sign
from confcom.simulation.pki import BACKDATE, PCE_ID, PCE_SVN, TCB_COMPONENTS, CertifiedKey, Pki
from confcom.simulation.quoting_enclave import DEFAULT_IDENTITIES
from confcom.simulation.trust_domain import LAUNCH_MODULE_SVN, MODULE_SVN, MR_SIGNER_SEAM, TDX_COMPONENTS

VALIDITY = timedelta(days=30)
"""Time from issue date to next update, as in Intel's collateral."""

RENEWAL_INTERVAL = VALIDITY / 2
"""Collateral is signed again after half its validity, so every copy is valid for at least two more weeks."""

STANDARD_AGE = timedelta(days=366)
"""Time from the first set's TCB recovery to the root's start. Some clients take as Intel's standard set the
newest set whose recovery is twelve months old. A staged recovery has the date of the present period."""

_QE_ATTRIBUTES = "11000000000000000000000000000000"
_QE_ATTRIBUTES_MASK = "FBFFFFFFFFFFFFFF0000000000000000"
"""Like Intel, we require INITTED and PROVISION_KEY set and DEBUG clear, and ignore MODE64BIT and XFRM."""

_SIMULATION = {"genuine": False, "comment": marks.NS_COMMENT}

_STAGED_STATUS = {
    Staging.OUT_OF_DATE: TcbStatus.OUT_OF_DATE,
    Staging.CONFIGURATION_NEEDED: TcbStatus.CONFIGURATION_NEEDED,
    Staging.SW_HARDENING_NEEDED: TcbStatus.SW_HARDENING_NEEDED,
    Staging.REVOKED: TcbStatus.REVOKED,
    Staging.RELAUNCH_ADVISED: TcbStatus.TD_RELAUNCH_ADVISED,
    Staging.EARLY: TcbStatus.OUT_OF_DATE,
}
"""The platform's status in the set that has the staged TCB recovery, keyed by the staging."""

_SUPERSEDED = frozenset({TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED})
"""Statuses that an update of the platform ends. TCB info then also has a newer, higher level."""

_RELAUNCH_ADVISED = {
    TcbStatus.TD_RELAUNCH_ADVISED: TcbStatus.UP_TO_DATE,
    TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED: TcbStatus.CONFIGURATION_NEEDED,
}
"""The status of the platform's level that gives a TD a status of TDX alone, keyed by the TD's status. The SVN that
collateral demands of the TDX module is then above the TD's launch SVN, and not above the running module's SVN."""

Document = Mapping[str, object]

_SGX_KINDS: tuple[Document, ...] = (
    {"category": "BIOS", "type": "Early Microcode Update"},
    {"category": "OS/VMM", "type": "SGX Late Microcode Update"},
    {"category": "OS/VMM", "type": "TXT SINIT"},
    {"category": "BIOS"},
    {"category": "BIOS"},
    {"category": "BIOS"},
    {},
    {"category": "OS/VMM", "type": "SEAMLDR ACM"},
    *({},) * 8,
)
_TDX_KINDS: tuple[Document, ...] = (
    {"category": "OS/VMM", "type": "TDX Module"},
    {"category": "OS/VMM", "type": "TDX Module"},
    {"category": "OS/VMM", "type": "TDX Late Microcode Update"},
    *({},) * 13,
)
"""Who installs what raises a component, as in Intel's TCB info of set 18 and later."""

_RAISED_SGX = (TCB_COMPONENTS[0] + 1, TCB_COMPONENTS[1] + 1, *TCB_COMPONENTS[2:])
_RAISED_MODULE_SVN = MODULE_SVN + 1
_RAISED_TDX = (_RAISED_MODULE_SVN, *TDX_COMPONENTS[1:])
"""SVNs that a staged recovery demands. Different people install what raises them: firmware, the operating system, and
the TDX module."""

_NO_SVNS = (0,) * TCB_COMPONENT_COUNT

_MODULE_VERSIONS = (3, 1)
"""Versions of the TDX module that Intel's TCB info has identities for."""


@dataclass(frozen=True, slots=True)
class Validity:
    """Validity period of collateral; its times have whole seconds and a time zone."""

    issue_date: datetime
    next_update: datetime

    @classmethod
    def around(cls, origin: datetime, now: datetime) -> Self:
        """Return the validity period of collateral made at `now`.

        Issue dates start at `origin` and are one renewal interval apart. The same dates give the same bytes, so several
        helpers and exports of one platform agree without communication.
        """
        start = origin + (now - BACKDATE - origin) // RENEWAL_INTERVAL * RENEWAL_INTERVAL
        return cls(start, start + VALIDITY)


def create_collateral(
    pki: Pki,
    now: datetime,
    staging: Staging = Staging.NONE,
    *,
    early: bool = False,
    tee: TeeType = TeeType.SGX,
    number: int | None = None,
    status: TcbStatus | None = None,
    advisories: Iterable[str] = (),
    revoked: bool = False,
) -> CollateralBundle:
    """Create all collateral that a verifier needs. `now` (with a time zone) only selects the validity period.

    `number` and `status` replace the staging's. With `revoked`, the platform's PCK certificate is revoked.
    """
    validity = _staged_validity(pki, now, staging)
    staged = staging.number(early=early)
    status = status or (TcbStatus.UP_TO_DATE if staged == FIRST_NUMBER else _STAGED_STATUS[staging])
    number = staged if number is None else number
    revoked_serials = (pki.pck.certificate.serial_number,) if revoked else ()
    signer_chain = pki.tcb_signer.pem + pki.root.pem
    key = pki.tcb_signer.private_key
    tcb_date = pki.root.certificate.not_valid_before_utc
    fmspc = PckExtension.from_certificate(pki.pck.certificate).fmspc
    info = _tcb_info(validity, tcb_date, number, status, tee=tee, fmspc=fmspc, advisories=advisories)
    return CollateralBundle(
        tcb_info=sign_document(TCB_INFO_NAME, info, key),
        tcb_info_issuer_chain=signer_chain,
        qe_identity=sign_document(QE_IDENTITY_NAME, _qe_identity(validity, tcb_date, number, tee), key),
        qe_identity_issuer_chain=signer_chain,
        pck_crl=create_crl(pki.pck_ca, validity, revoked_serials).public_bytes(Encoding.DER),
        pck_crl_issuer_chain=pki.pck_ca.pem + pki.root.pem,
        root_ca_crl=create_crl(pki.root, validity).public_bytes(Encoding.DER),
    )


def _staged_validity(pki: Pki, now: datetime, staging: Staging) -> Validity:
    """Return the validity of collateral signed at `now`; with EXPIRED, it ended at least a day earlier."""
    age = VALIDITY if staging is Staging.EXPIRED else timedelta(0)
    return Validity.around(pki.root.certificate.not_valid_before_utc, now - age)


def create_evaluation_numbers(pki: Pki, now: datetime, staging: Staging, tee: TeeType = TeeType.SGX) -> bytes:
    """Create the signed list of the sets' TCB evaluation data numbers, the newest first (PCS API v4)."""
    validity = _staged_validity(pki, now, staging)
    first = pki.root.certificate.not_valid_before_utc - STANDARD_AGE
    dates = [format_time(first if number == FIRST_NUMBER else validity.issue_date) for number in staging.numbers]
    sets = [
        {"tcbEvaluationDataNumber": number, "tcbRecoveryEventDate": date, "tcbDate": date}
        for number, date in zip(staging.numbers, dates, strict=True)
    ]
    document = _document(tee.name, EVALUATION_NUMBERS_VERSION, validity, tcbEvalNumbers=sets)
    return sign_document(EVALUATION_NUMBERS_NAME, document, pki.tcb_signer.private_key)


def create_crl(
    issuer: CertifiedKey, validity: Validity, revoked: tuple[int, ...] = ()
) -> x509.CertificateRevocationList:
    """Create a CA's CRL with revoked serial numbers; its CRL number, the issue date, never decreases."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(validity.issue_date)
        .next_update(validity.next_update)
        .add_extension(x509.CRLNumber(int(validity.issue_date.timestamp())), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.private_key.public_key()), critical=False
        )
    )
    for serial_number in revoked:
        entry = x509.RevokedCertificateBuilder(serial_number, validity.issue_date)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.private_key, hashes.SHA256(), ecdsa_deterministic=True)


def _tcb_info(
    validity: Validity,
    tcb_date: datetime,
    number: int,
    status: TcbStatus,
    *,
    tee: TeeType,
    fmspc: bytes,
    advisories: Iterable[str],
) -> Document:
    """Return TCB info with the platform's own level, which has `status`, and a lowest level, which is out of date.

    If `status` is OutOfDate or Revoked, there is also a newer level, which is up to date. The statuses that advise to
    launch a TD again come from the levels of the TDX module; SGX platforms do not get them.
    """
    current, lowest = _tcb(tee, TCB_COMPONENTS, TDX_COMPONENTS, PCE_SVN), _tcb(tee, _NO_SVNS, _NO_SVNS, 0)
    own = _RELAUNCH_ADVISED.get(status, status)
    levels = [_level(current, tcb_date, own, advisories), _level(lowest, tcb_date, TcbStatus.OUT_OF_DATE)]
    module_svn, module_date = LAUNCH_MODULE_SVN, tcb_date
    if status in _RELAUNCH_ADVISED:
        module_svn, module_date = MODULE_SVN, validity.issue_date
    if status in _SUPERSEDED:
        newer = _tcb(tee, _RAISED_SGX, _RAISED_TDX, PCE_SVN)
        levels.insert(0, _level(newer, validity.issue_date, TcbStatus.UP_TO_DATE))
        module_svn, module_date = _RAISED_MODULE_SVN, validity.issue_date
    return _document(
        tee.name,
        TCB_INFO_VERSION,
        validity,
        fmspc=fmspc.hex().upper(),
        pceId=PCE_ID.hex(),
        tcbType=0,
        tcbEvaluationDataNumber=number,
        **(_tdx_modules(module_svn, module_date, tcb_date) if tee is TeeType.TDX else {}),
        tcbLevels=levels,
    )


def _tcb(tee: TeeType, sgx: Iterable[int], tdx: Iterable[int], pce_svn: int) -> Document:
    tcb = {"sgxtcbcomponents": _components(sgx, _SGX_KINDS), "pcesvn": pce_svn}
    return tcb | {"tdxtcbcomponents": _components(tdx, _TDX_KINDS)} if tee is TeeType.TDX else tcb


def _components(svns: Iterable[int], kinds: Iterable[Document]) -> list[Document]:
    return [{"svn": svn, **kind} for svn, kind in zip(svns, kinds, strict=True)]


def _tdx_modules(svn: int, date: datetime, lowest_date: datetime) -> Document:
    """Return who signs the TDX modules, and their levels: `svn` is up to date, lower SVNs are out of date."""
    module = {
        "mrsigner": MR_SIGNER_SEAM.hex().upper(),
        "attributes": "00" * SEAM_ATTRIBUTES_SIZE,
        "attributesMask": "FF" * SEAM_ATTRIBUTES_SIZE,
    }
    levels = [
        _level({"isvsvn": svn}, date, TcbStatus.UP_TO_DATE),
        _level({"isvsvn": 0}, lowest_date, TcbStatus.OUT_OF_DATE),
    ]
    identities = [{"id": f"TDX_{version:02X}", **module, "tcbLevels": levels} for version in _MODULE_VERSIONS]
    return {"tdxModule": module, "tdxModuleIdentities": identities}


def _qe_identity(validity: Validity, tcb_date: datetime, number: int, tee: TeeType) -> Document:
    """Return the trusted quoting enclave's QE identity: its SVN is up to date, lower SVNs are out of date."""
    identity = DEFAULT_IDENTITIES[tee]
    statuses = {identity.isv_svn: TcbStatus.UP_TO_DATE, 0: TcbStatus.OUT_OF_DATE}
    levels = [_level({"isvsvn": svn}, tcb_date, status) for svn, status in statuses.items()]
    return _document(
        tee.qe_identity_id,
        QE_IDENTITY_VERSION,
        validity,
        tcbEvaluationDataNumber=number,
        miscselect="00000000",
        miscselectMask="FFFFFFFF",
        attributes=_QE_ATTRIBUTES,
        attributesMask=_QE_ATTRIBUTES_MASK,
        mrsigner=identity.mr_signer.hex().upper(),
        isvprodid=identity.isv_prod_id,
        tcbLevels=levels,
    )


def _document(kind: str, version: int, validity: Validity, **content: object) -> Document:
    dates = {"issueDate": format_time(validity.issue_date), "nextUpdate": format_time(validity.next_update)}
    return {"id": kind, "version": version, **dates, **content, marks.SIMULATION_MEMBER: _SIMULATION}


def sign_document(member: str, document: Document, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Serialize a document without white space, as Intel's service does, and sign these bytes."""
    inner = json.dumps(document, separators=(",", ":")).encode("ascii")
    return SignedJson(member, inner, sign(key, inner)).encode()


def format_time(time: datetime) -> str:
    """Format an aware UTC time as `YYYY-MM-DDTHH:MM:SSZ`, the only form that verifiers read."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _level(tcb: Document, date: datetime, status: TcbStatus, advisories: Iterable[str] = ()) -> Document:
    ids = [marks.ADVISORY_ID, *advisories]
    return {"tcb": tcb, "tcbDate": format_time(date), "tcbStatus": status.value, "advisoryIDs": ids}
