"""Our own authenticity checks of a quote. Most need no collateral; they reject cases that dcap-qvl accepts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Self, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from confcom.errors import MalformedError
from confcom.sgx.certificates import key_id, name_text
from confcom.sgx.collateral_bundle import CollateralDocuments
from confcom.sgx.pck.chain import (
    PckChain,
    attestation_key,
    attestation_key_is_bound,
    is_signed_by,
    qe_report_is_certified,
)
from confcom.sgx.pck.extension import PckExtension
from confcom.sgx.quote import INTEL_QE_VENDOR_ID, Quote, QuoteFrame, tee_of
from confcom.verify.checks.collateral import platform_match_check
from confcom.verify.checks.marks import CertifyingMarks
from confcom.verify.checks.revocation import pck_revocation_check
from confcom.verify.checks.tcb_level import (
    PlatformTcb,
    TdxModuleReport,
    platform_tcb,
    qe_identity_check,
    tcb_level_check,
    tdx_module_check,
)
from confcom.verify.trust import TrustedRoot
from confcom.verify.verdict import Check, VerdictKind, failed, judged, passed, utc_text

MAX_QUOTE_SIZE = 64 * 1024
"""Largest quote in bytes. Real quotes have under 5 KiB, or under 14 KiB with Intel's longest certification data."""

QE_AUTH_DATA_SIZE = 32
"""Bytes that Intel's quoting enclave writes (REF_AUTH_DATA_SIZE of its source); dcap-qvl accepts no other size."""

MAX_KNOWN_MODULES = 8
"""Number of pairs of TDX modules whose TCB is cached per attestation key. A TD's pair is the module that launched the
TD and the module that runs now; a module is updated a few times between two restarts."""

TcbJudgement: TypeAlias = tuple[tuple[Check, ...], PlatformTcb | None]
"""The checks of TDX module and TCB, and the TCB; None if a part of it reaches no level of the collateral."""


def trailing_bytes_check(quote: QuoteFrame) -> Check:
    """Check that no bytes follow the quote: no signature would cover them, and dcap-qvl would ignore them."""
    size = quote.size
    required = f"a quote of {size} bytes and nothing after it"
    found = f"{len(quote.trailing) or 'no'} bytes after it"
    why = f"nothing signs them; pass the first {size} bytes alone (AESM clients may keep a longer buffer)"
    return judged(required, found, why, VerdictKind.UNUSABLE, code="trailing-bytes", holds=not quote.trailing)


def vendor_check(quote: QuoteFrame) -> Check:
    """Check the QE vendor id in the quote's header; verifiers know Intel's only."""
    found, why = quote.header.vendor_id.hex(), "another vendor's quoting enclave made this quote"
    holds = quote.header.vendor_id == INTEL_QE_VENDOR_ID
    required = f"QE vendor id {INTEL_QE_VENDOR_ID.hex()}"
    return judged(required, found, why, VerdictKind.NOT_AUTHENTIC, code="qe-vendor", holds=holds)


def root_check(chain: PckChain, root: TrustedRoot) -> Check:
    """Check that the quote's chain ends in the trusted root's key. dcap-qvl also accepts a chain without a root."""
    required = f"a chain that ends in the trusted root {_describe(root.certificate)}"
    if chain.root is None:
        why = "a complete chain is leaf, intermediate and root; without the root it is not what a platform makes"
        return failed(required, "a chain without a root certificate", why, VerdictKind.NOT_AUTHENTIC, code="root")
    why = "another authority issued this quote's certificates"
    holds = key_id(chain.root) == root.key_id
    return judged(required, _describe(chain.root), why, VerdictKind.NOT_AUTHENTIC, code="root", holds=holds)


def root_validity_check(root: TrustedRoot, now: datetime) -> Check:
    """Check that the trusted root is valid at `now`. dcap-qvl does not check the dates of a trust anchor."""
    required = f"the root is valid at {utc_text(now)}"
    found = f"valid from {utc_text(root.not_before)} to {utc_text(root.not_after)}"
    why = "an expired or not yet valid root vouches for nothing"
    holds = root.not_before <= now <= root.not_after
    return judged(required, found, why, VerdictKind.NOT_AUTHENTIC, code="root-validity", holds=holds)


def signatures_check(signed: bytes, signature: bytes, certification: KeyCertification, now: datetime) -> Check:
    required = "report signed by the attestation key, which the QE's report names, which the PCK's chain certifies"
    begin, end = certification.period
    broken = certification.problem or (None if begin <= now <= end else certification.chain.outdated(now))
    if not broken and not is_signed_by(certification.key, signature, signed):
        broken = "the attestation key did not sign the header and report body"
    if broken is None:
        return passed(required, "all signatures hold", code="signatures")
    return failed(required, "a signature does not hold", broken, VerdictKind.NOT_AUTHENTIC, code="signatures")


@dataclass(frozen=True, slots=True)
class KeyCertification:
    """How a root certifies an attestation key; this is the same in all quotes of one running quoting enclave."""

    chain: PckChain
    period: tuple[datetime, datetime]
    """The first and the last instant at which all certificates of the chain are valid."""
    extension: PckExtension | MalformedError
    """The leaf's SGX extension, or the error that reading it raised."""
    marks: CertifyingMarks
    key: ec.EllipticCurvePublicKey | None
    problem: str | None
    """Why the root does not certify the key (dates and revocation aside); None if the root certifies it."""
    root_check: Check
    collateral_checks: tuple[Check, ...]
    """Checks of the key's platform and quoting enclave by the collateral; none without collateral."""
    judge: Callable[[TdxModuleReport | None], TcbJudgement]
    """Judges the TCB by the collateral."""
    judge_known: Callable[[TdxModuleReport | None], TcbJudgement]
    """The same, with a cache; only for reports that the attestation key signed, so that forged ones evict nothing."""

    @classmethod
    def of(cls, quote: Quote, root: TrustedRoot, collateral: CollateralDocuments | None) -> Self:
        """Check a quote's certification. MalformedError if its PCK certificate chain cannot be read."""
        chain = PckChain.from_quote(quote)
        extension = chain.extension()
        problem = chain.broken_link(root.certificate)
        if problem is None and not qe_report_is_certified(quote, chain.leaf):
            problem = "the PCK did not sign the quoting enclave's report"
        if problem is None and len(quote.signature.auth_data) != QE_AUTH_DATA_SIZE:
            problem = f"the quoting enclave's authentication data do not have {QE_AUTH_DATA_SIZE} bytes"
        if problem is None and not attestation_key_is_bound(quote):
            problem = "the quoting enclave's report names another attestation key"
        marks = CertifyingMarks.of(quote.signature, chain, extension)
        checks, judge = _judged_by(collateral, chain, extension, quote) if collateral else ((), _no_judgement)
        root_result = root_check(chain, root)
        key, judge_known = attestation_key(quote), functools.lru_cache(MAX_KNOWN_MODULES)(judge)
        return cls(chain, chain.period, extension, marks, key, problem, root_result, checks, judge, judge_known)


def _judged_by(
    collateral: CollateralDocuments, chain: PckChain, extension: PckExtension | MalformedError, quote: Quote
) -> tuple[tuple[Check, ...], Callable[[TdxModuleReport | None], TcbJudgement]]:
    qe, tee = quote.signature.qe_report_body, tee_of(quote.body)
    tcb_info, qe_identity = collateral.tcb_info, collateral.qe_identity
    checks = [platform_match_check(collateral, tee, chain, extension), pck_revocation_check(chain, collateral)]
    if tcb_info.tee is not tee:
        return tuple(checks), _no_judgement
    checks.append(qe_identity_check(qe, qe_identity))
    if isinstance(extension, MalformedError):
        return tuple(checks), _no_judgement
    own = (*extension.tcb.components, extension.tcb.pce_svn)

    def judge(module: TdxModuleReport | None) -> TcbJudgement:
        tcb = platform_tcb(tcb_info, qe_identity, own, qe.isv_svn, module.svns if module else ())
        level = tcb_level_check(tcb)
        return (level,) if module is None else (tdx_module_check(module, tcb_info), level), tcb

    return tuple(checks), judge


def _no_judgement(_: TdxModuleReport | None) -> TcbJudgement:
    return (), None


def _describe(root: x509.Certificate) -> str:
    """Return a root's fingerprint (the SHA-256 of its DER, as in `confcom simulation export`) and its name."""
    return f"{root.fingerprint(SHA256()).hex()} ({name_text(root.subject)})"
