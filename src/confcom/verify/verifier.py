"""The verifier: `verify`, the entry point for relying parties, runs every check on a quote, in order.

Bad quotes, roots and collateral do not make it raise, and it neither waits nor fetches anything. An invalid time is the
caller's mistake and raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from confcom.errors import MalformedError
from confcom.sgx.collateral.bundle import Collateral
from confcom.sgx.marks import Mark
from confcom.sgx.pck.chain import PckChain
from confcom.sgx.quote import Quote
from confcom.verify.argument_types import WrongTypeError, require_instant
from confcom.verify.checks import authenticity, authorisation, collateral_checks, dcap_qvl_appraisal
from confcom.verify.checks.authenticity import MAX_QUOTE_SIZE
from confcom.verify.checks.dcap_qvl_appraisal import Appraisal, Finding, Rejection
from confcom.verify.checks.marks import present_collateral_marks, present_marks, root_is_marked
from confcom.verify.files import intel_root
from confcom.verify.policy import Policy
from confcom.verify.trust import Platform, TrustedRoot, platform_of
from confcom.verify.verdict import (
    Check,
    CheckStatus,
    Claims,
    Verdict,
    VerdictKind,
    failed,
    kind_of,
    not_checked,
    passed,
    unusable,
)

_FORMAT = "an SGX quote of version 3 with the PCK certificate chain in it"
_APPRAISAL = "dcap-qvl accepts the quote with certificates, revocation lists, TCB info and QE identity"


class KnownRoot(Enum):
    """A root that comes with this package."""

    INTEL = "intel"
    """Intel's SGX Root CA, the root of all SGX hardware."""


INTEL: Final = KnownRoot.INTEL


def verify(
    quote: bytes | bytearray | memoryview,
    policy: Policy,
    collateral: Collateral | None,
    root: TrustedRoot | KnownRoot = INTEL,
    now: datetime | None = None,
) -> Verdict:
    """Decide whether to rely on a quote. Nothing is fetched, and a bad quote does not raise.

    Args:
        quote: one quote and nothing else, at most 64 KiB.
        policy: your demands on the quote.
        collateral: TCB info, QE identity and revocation lists of the quote's platform (`read_collateral`). With None
            the verdict is never better than unusable.
        root: the root certificate that you trust: INTEL, or a simulated platform's (`read_root`).
        now: the instant at which everything must be valid, with its time zone; None means the present.

    Returns:
        The verdict. `verdict.require_ok()` returns the claims, or raises.

    Raises:
        WrongTypeError: an argument has the wrong type.
        SettingsError: `now` has no time zone, is before 1970, or is after the year 9999.
        UnavailableError: the package dcap-qvl is not installed.
    """
    if isinstance(quote, (bytearray, memoryview)):
        quote = bytes(quote)
    for name, value, kinds, expected in (
        ("the quote", quote, bytes, "bytes"),
        ("the policy", policy, Policy, "a Policy"),
        ("the collateral", collateral, (Collateral, type(None)), "a Collateral (read_collateral makes one), or None"),
        ("the root", root, (TrustedRoot, KnownRoot), "INTEL or a TrustedRoot (read_root makes one)"),
        ("the time", now, (datetime, type(None)), "a datetime with a time zone, or None"),
    ):
        if not isinstance(value, kinds):
            raise WrongTypeError(name, expected, value)
    dcap_qvl_appraisal.load_dcap_qvl()
    trusted = intel_root() if isinstance(root, KnownRoot) else root
    return verify_quote(quote, trusted, collateral, policy, datetime.now(UTC) if now is None else now)


def verify_quote(
    quote: bytes, root: TrustedRoot, collateral: Collateral | None, policy: Policy, now: datetime
) -> Verdict:
    """Decide as `verify` does, by arguments of the right types.

    Every check that is possible is made and reported, so that one run shows all that is wrong. URLs in a quote, a
    certificate or collateral are not followed, and nothing in the quote can replace the trust anchor.
    """
    now = require_instant(now)
    try:
        parsed, chain = _read(quote)
    except MalformedError as error:
        return unusable(_FORMAT, error, code="format")

    root_result = authenticity.root_check(chain, root)
    signatures = authenticity.signatures_check(parsed, chain, root, now)
    platform = Platform.UNKNOWN
    if root_result.status is signatures.status is CheckStatus.PASSED:
        platform = platform_of(root.key_id, root_is_marked=root_is_marked(root.certificate))
    claims = Claims.of(parsed.body)
    checks = [
        passed(_FORMAT, f"version {parsed.header.version}, {parsed.size} bytes", code="format"),
        authenticity.trailing_bytes_check(parsed),
        root_result,
        authenticity.root_validity_check(root, now),
        signatures,
        authenticity.marks_check(parsed, chain, platform),
        authorisation.debug_check(claims, platform, policy),
        collateral_checks.currency_check(collateral, now),
    ]
    marks = present_marks(parsed, chain)
    appraisal = None
    if collateral is None or checks[-1].status is CheckStatus.FAILED:
        checks.append(not_checked(_APPRAISAL, "it needs collateral that is current", code="appraisal"))
    else:
        marks |= present_collateral_marks(collateral)
        checks += [
            collateral_checks.platform_match_check(collateral, chain.leaf),
            collateral_checks.evaluation_check(collateral),
            collateral_checks.signer_check(collateral, root.certificate),
            collateral_checks.marks_check(collateral, platform),
        ]
        # Some forged input makes dcap-qvl end the whole process: it gets no quote that our checks found not authentic.
        if kind_of(checks) is VerdictKind.NOT_AUTHENTIC:
            why = "confcom's own checks show that this is not authentic"
            checks.append(not_checked(_APPRAISAL, why, code="appraisal"))
        else:
            result = dcap_qvl_appraisal.appraise(quote, root.der, collateral, now)
            checks.append(_appraisal_check(result, claims, root))
            appraisal = result if isinstance(result, Appraisal) else None
    if kind_of(checks) in {VerdictKind.NOT_AUTHENTIC, VerdictKind.UNUSABLE}:
        why = "the content of a quote means nothing before its authenticity is proven"
        checks.append(not_checked("platform, TCB status, advisories, identity, report data", why, code="policy"))
        return _verdict(platform, checks, marks=marks)
    checks += _policy_checks(platform, claims, appraisal, policy)
    return _verdict(platform, checks, claims=claims, appraisal=appraisal, marks=marks)


def _read(data: bytes) -> tuple[Quote, PckChain]:
    if len(data) > MAX_QUOTE_SIZE:
        raise MalformedError(
            f"the input has {len(data)} bytes, more than the limit of {MAX_QUOTE_SIZE}",
            error_code="too-long",
            why="no SGX quote is that long",
            remedy="pass the quote alone",
        )
    quote = Quote.parse(data)
    return quote, PckChain.from_quote(quote)


def _appraisal_check(result: Appraisal | Rejection, claims: Claims, root: TrustedRoot) -> Check:
    if isinstance(result, Rejection):
        if result.finding is Finding.DEBUG and claims.debug:
            return not_checked(_APPRAISAL, authorisation.DEBUG_CAVEAT, code="appraisal")
        return failed(_APPRAISAL, result.text, result.finding.value, result.finding.consequence, code="appraisal")
    if (result.claims, result.root_key_id) != (claims, root.key_id):
        why = "dcap-qvl and confcom interpret the same bytes differently"
        return failed(_APPRAISAL, "two interpretations of one quote", why, VerdictKind.NOT_AUTHENTIC, code="appraisal")
    return passed(_APPRAISAL, "accepted", code="appraisal")


def _policy_checks(platform: Platform, claims: Claims, appraisal: Appraisal | None, policy: Policy) -> Iterator[Check]:
    yield authorisation.platform_check(platform, policy)
    if appraisal is None:
        yield from authorisation.debug_enclave_tcb_checks(policy)
    else:
        yield authorisation.tcb_check(appraisal.tcb_status, policy)
        yield authorisation.advisories_check(appraisal.advisory_ids, policy)
    yield from authorisation.identity_checks(claims, policy)
    yield from authorisation.report_data_checks(claims, policy)


def _verdict(
    platform: Platform,
    checks: list[Check],
    *,
    claims: Claims | None = None,
    appraisal: Appraisal | None = None,
    marks: frozenset[Mark],
) -> Verdict:
    return Verdict(
        kind=kind_of(checks),
        platform=platform,
        checks=tuple(checks),
        claims=claims,
        tcb_status=appraisal.tcb_status.value if appraisal else None,
        advisory_ids=appraisal.advisory_ids if appraisal else (),
        marks=tuple(sorted(mark.value for mark in marks)),
    )
