"""Checks that collateral is current, for the quote's platform, of one TCB recovery and from the TCB signer.

dcap-qvl compares neither the PCE id nor the names of certificates, so it would accept TCB info for all
platforms even if the PCK of one platform signed the TCB info. The checks do no I/O.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from cryptography import x509

from confcom.errors import MalformedError
from confcom.sgx.certificates import common_name, name_text
from confcom.sgx.collateral_bundle import CollateralDocuments
from confcom.sgx.pck.chain import PckChain, is_issued_by, is_signed_by
from confcom.sgx.pck.extension import PckExtension
from confcom.sgx.tee_type import TeeType
from confcom.verify.checks.revocation import ISSUER_CHAIN_LENGTH, is_crl_of
from confcom.verify.verdict import Check, VerdictKind, failed, failed_by, judged, passed, utc_text

TCB_SIGNER_NAME = "SGX TCB Signing"
"""Part of the common name of the certificate that signs TCB info and QE identity (Intel's QVL requires it too)."""


def currency_check(collateral: CollateralDocuments | MalformedError | None, now: datetime) -> Check:
    required = f"TCB info, QE identity and revocation lists that are current at {utc_text(now)}"
    if collateral is None:
        why = "without it, a verifier cannot tell whether the platform is revoked or out of date"
        return failed(required, "none given", why, VerdictKind.UNUSABLE, code="collateral")
    if isinstance(collateral, MalformedError):
        return failed_by(required, collateral, code="collateral")
    for name, begin, end in collateral.validity_periods:
        if not begin <= now < end:
            found = f"{name} is valid from {utc_text(begin)} to {utc_text(end)}"
            why = "fetch or export it again; some caches serve old collateral on purpose: then ask Intel's own service"
            return failed(required, found, why, VerdictKind.UNUSABLE, code="collateral")
    return passed(required, f"current until {utc_text(collateral.expires)}", code="collateral")


def nearest_valid(now: datetime, periods: Iterable[tuple[datetime, datetime]], leeway: timedelta) -> datetime:
    """Return the instant nearest to `now` that all periods contain; `now` if it is further away than the leeway.

    All dates are whole seconds, and collateral ends before its end date; so the last instant is a second earlier.
    """
    begins, ends = zip(*periods, strict=True)
    first, end, second = max(begins), min(ends), timedelta(seconds=1)
    if end - first < second:  # also for dates in the year 1, from which nothing can be subtracted
        return now
    nearest = min(max(now, first), end - second)
    return nearest if abs(nearest - now) <= leeway else now


def platform_match_check(
    collateral: CollateralDocuments, tee: TeeType, chain: PckChain, extension: PckExtension | MalformedError
) -> Check:
    tcb_info, crl = collateral.tcb_info, collateral.pck_crl
    if isinstance(extension, MalformedError):
        return failed_by("a PCK certificate that names its platform", extension, code="collateral-platform")
    issuers = " and ".join(name_text(issuer.subject) for issuer in chain.intermediates)
    fmspc, pce_id = extension.fmspc.hex(), extension.pce_id.hex()
    required = f"TCB info for {tee.name}, FMSPC {fmspc}, PCE id {pce_id}; PCK CRL by {issuers}"
    found = f"for {tcb_info.tee.name}, FMSPC {tcb_info.fmspc.hex()}, PCE id {tcb_info.pce_id.hex()}; "
    found += f"by {name_text(crl.issuer)}"
    same = (tcb_info.tee, tcb_info.fmspc, tcb_info.pce_id) == (tee, extension.fmspc, extension.pce_id)
    holds = same and all(is_crl_of(crl, issuer) for issuer in chain.intermediates)
    why = "this collateral says nothing about this quote; get the collateral for its TEE, FMSPC and PCK CA"
    return judged(required, found, why, VerdictKind.UNUSABLE, code="collateral-platform", holds=holds)


def evaluation_check(collateral: CollateralDocuments) -> Check:
    """Check that TCB info and QE identity belong to one TCB recovery; dcap-qvl accepts a mixed pair."""
    tcb_info = collateral.tcb_info.tcb_evaluation_data_number
    qe_identity = collateral.qe_identity.tcb_evaluation_data_number
    required = "TCB info and QE identity with the same evaluation number"
    found = f"TCB info {tcb_info}, QE identity {qe_identity}"
    why = "each is judged by another TCB recovery; fetch both at once, with the same `update`"
    holds = tcb_info == qe_identity
    return judged(required, found, why, VerdictKind.UNUSABLE, code="collateral-evaluation", holds=holds)


def signers_check(collateral: CollateralDocuments, trusted_root: x509.Certificate) -> Check:
    required = f"TCB info and QE identity signed by {TCB_SIGNER_NAME}, which the trusted root issued"
    for issuers in (collateral.tcb_info_issuers, collateral.qe_identity_issuers):
        if (
            len(issuers) != ISSUER_CHAIN_LENGTH
            or TCB_SIGNER_NAME not in common_name(issuers[0].subject)
            or not all(is_issued_by(issuer, trusted_root) for issuer in issuers)
        ):
            names = " < ".join(name_text(issuer.subject) for issuer in issuers)
            why = "the collateral's signer has a certificate of another kind or of another root"
            return failed(required, names, why, VerdictKind.UNUSABLE, code="collateral-signer")
    return passed(required, name_text(collateral.tcb_info_issuers[0].subject), code="collateral-signer")


def signatures_check(collateral: CollateralDocuments) -> Check:
    required = "TCB info and QE identity as their signers signed them"
    signed = (
        ("the TCB info", collateral.tcb_info.signed, collateral.tcb_info_issuers[0]),
        ("the QE identity", collateral.qe_identity.signed, collateral.qe_identity_issuers[0]),
    )
    for name, document, signer in signed:
        if not is_signed_by(signer.public_key(), document.signature, document.body):
            why = f"{name} was altered after it was signed, or another key signed it; fetch the collateral again"
            return failed(required, f"{name} is not", why, VerdictKind.UNUSABLE, code="collateral-signature")
    return passed(required, "signed", code="collateral-signature")
