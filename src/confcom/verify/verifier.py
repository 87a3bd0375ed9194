"""The verifier: `verify`, the entry point for relying parties, runs every check on a quote, in order.

`verify` raises no error for a bad quote or bad collateral, does not block, and fetches nothing; it raises an
error for an invalid time, which is the caller's mistake.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from confcom.errors import MalformedError, WrongTypeError, WrongValueError
from confcom.sgx.pck.extension import PckExtension
from confcom.sgx.quote import SGX_QUOTE_VERSION, Quote, QuoteFrame, tee_of
from confcom.sgx.report import ReportBody
from confcom.sgx.tcb_documents import TcbStatus
from confcom.sgx.tee_type import TeeType
from confcom.verify.argument_types import require_instant
from confcom.verify.checks import authenticity, authorisation
from confcom.verify.checks.authenticity import MAX_QUOTE_SIZE, KeyCertification
from confcom.verify.checks.collateral import currency_check, nearest_valid
from confcom.verify.checks.dcap_qvl_appraisal import Appraisal
from confcom.verify.checks.marks import present_marks, quote_marks_check
from confcom.verify.checks.tcb_level import PlatformTcb, TdxModuleReport
from confcom.verify.checks.trust_domain import Flaw, flaws_of, soundness_checks, td_checks
from confcom.verify.files import MAX_QUOTE_TEXT_SIZE, decoded, read_quote
from confcom.verify.policy import Policy, require_policy
from confcom.verify.prepared_collateral import Collateral, PreparedCollateral
from confcom.verify.sgx_policy import SgxPolicy
from confcom.verify.tdx_policy import TdxPolicy
from confcom.verify.trust import INTEL, KnownRoot, Platform, TrustedRoot, trusted_root
from confcom.verify.verdict import (
    Check,
    CheckStatus,
    SgxClaims,
    TdxClaims,
    TeeClaimsT_co,
    Verdict,
    VerdictKind,
    failed,
    kind_of,
    not_checked,
    passed,
    unusable,
)

_FORMAT = "a quote of SGX (version 3) or TDX (version 4 or 5) with the PCK certificate chain in it"
UNDECIDABLE: Final = frozenset({VerdictKind.NOT_AUTHENTIC, VerdictKind.UNUSABLE})
_APPRAISAL = "dcap-qvl accepts the quote with certificates, revocation lists, TCB info and QE identity"

QuoteInput = bytes | str | os.PathLike[str]
"""A quote: bytes, hexadecimal or base64 text (either alphabet), or the path of a file with any of these forms."""


def verify(
    quote: QuoteInput,
    policy: Policy[TeeClaimsT_co],
    collateral: Collateral | PreparedCollateral | None,
    root: TrustedRoot | KnownRoot | None = None,
    now: datetime | None = None,
) -> Verdict[TeeClaimsT_co]:
    """Decide whether to rely on a quote. Nothing is fetched, and no content of a quote raises an error.

    Threads may call `verify` concurrently. A call with prepared collateral takes about a millisecond, nearly all of it
    under the GIL; the first quote of an attestation key, or collateral that is not prepared, takes about 4 ms. A
    service that verifies many quotes should use several processes, which also confine a crash of dcap-qvl.

    Args:
        quote: one quote and nothing else, at most 64 KiB: bytes, hexadecimal or base64 text (a `str`), or a path
            (`pathlib.Path`) of a file.
        policy: your demands on the quote: an SgxPolicy for quotes of enclaves, or a TdxPolicy for quotes of TDs. A
            quote of the other TEE fails the check `tee`, and the verdict has no claims.
        collateral: TCB info, QE identity and revocation lists of the quote's platform, or what `Collateral.prepared`
            returned. Without collateral, no quote is verified: the verdict is unusable or not authentic.
        root: the root certificate that you trust: INTEL, or a simulated platform's (`read_root`). None means
            the root for which the collateral was prepared, or else INTEL.
        now: the instant, with time zone, at which all dates must be valid; None means the present. The policy's
            `clock_leeway` tolerates an instant that is slightly wrong.

    Returns:
        The verdict: a `Verdict[SgxClaims]` for an SgxPolicy, a `Verdict[TdxClaims]` for a TdxPolicy.
        `verdict.require_ok()` returns the claims or raises NotVerifiedError.

    Raises:
        WrongTypeError: an argument has the wrong type.
        SettingsError: `now` has no time zone or is before 1970, or the collateral was prepared for a root other than
            `root`.
        UnreadableInputError: the quote is a path whose file cannot be read.
    """
    require_policy(policy)
    if not isinstance(collateral, Collateral | PreparedCollateral | None):
        raise WrongTypeError(
            "the collateral", "a Collateral (read_collateral makes one), prepared or not, or None", collateral
        )
    data = bytes_of(quote)
    trusted = trusted_root(INTEL if root is None else root)
    if isinstance(collateral, PreparedCollateral):
        if root is not None and trusted != collateral.root:
            raise WrongValueError(
                "the collateral was prepared for another root",
                why=f"it was prepared for the key {collateral.root.key_id.hex()[:16]}",
                remedy="leave `root` out, or prepare the collateral for this root",
            )
        trusted = collateral.root
    return verify_quote(data, trusted, collateral, policy, datetime.now(UTC) if now is None else now)


def refusal_without_collateral(quote: bytes, policy: Policy, root: TrustedRoot, now: datetime) -> Verdict[Any] | None:
    """Return the verdict on a quote that no collateral can make verified; None if the quote's own signatures hold.

    Collateral is fetched only after None, so that nobody causes a fetch by a forged quote.
    """
    verdict = verify_quote(quote, root, None, policy, now)
    undecidable = {check.code for check in verdict.failures if check.consequence in UNDECIDABLE}
    return None if undecidable == {"collateral"} else verdict


def tee_of_quote(quote: QuoteInput) -> TeeType:
    """Return the TEE that a quote says it is of, to choose a policy by it: TDX, or SGX for all other input.

    This function verifies nothing: `verify` with a policy of this TEE decides whether the input is a genuine quote.

    Args:
        quote: as for `verify`.

    Raises:
        WrongTypeError: the quote has the wrong type.
        UnreadableInputError: the quote is a path whose file cannot be read.
    """
    try:
        return tee_of(QuoteFrame.parse(bytes_of(quote)).body)
    except MalformedError:
        return TeeType.SGX


def bytes_of(quote: QuoteInput) -> bytes:
    """Return the bytes of a quote in any form of QuoteInput; other text is only encoded."""
    if isinstance(quote, bytes):
        return quote
    if isinstance(quote, str):
        # Text that is neither hexadecimal nor base64 stays as it is. Text over the limit is not decoded.
        text = quote[: MAX_QUOTE_TEXT_SIZE + 1].encode(errors="replace")
        return text if len(quote) > MAX_QUOTE_TEXT_SIZE else decoded(text)
    if isinstance(quote, os.PathLike):
        return read_quote(quote)
    raise WrongTypeError("the quote", "bytes, hexadecimal or base64 text, or a Path", quote)


def verify_quote(
    quote: bytes,
    root: TrustedRoot,
    collateral: Collateral | PreparedCollateral | None,
    policy: Policy,
    now: datetime,
) -> Verdict[Any]:
    """Decide as `verify` does, but check no argument's type; prepared collateral must be for `root`.

    Every possible check is made and reported, so that one run shows all failures. URLs in a quote, a
    certificate or collateral are not followed, and nothing in the quote can replace the trust anchor.
    """
    now = require_instant(now)
    prepared: PreparedCollateral | MalformedError | None
    try:
        prepared = (
            collateral if isinstance(collateral, PreparedCollateral | None) else PreparedCollateral(collateral, root)
        )
    except MalformedError as error:
        prepared = error
    usable = prepared if isinstance(prepared, PreparedCollateral) else None
    try:
        frame = _parsed(quote)
        if isinstance(frame, Verdict):
            return frame
        certification = (
            usable.certification(quote, frame) if usable else KeyCertification.of(Quote.parse(quote), root, None)
        )
    except MalformedError as error:
        return unusable(_FORMAT, error, code="format")

    at = _judged_at(now, root, certification, usable, policy.clock_leeway)
    root_result = certification.root_check
    signatures = authenticity.signatures_check(frame.signed_part, frame.isv_signature, certification, at)
    platform = Platform.UNKNOWN
    if root_result.status is signatures.status is CheckStatus.PASSED:
        platform = root.platform
    body = frame.body
    claims = SgxClaims.of(body) if isinstance(body, ReportBody) else TdxClaims.of(body)
    tee, flaws, module = tee_of(body), flaws_of(body), TdxModuleReport.of(body)
    marks = present_marks(frame, certification.marks)
    checks = [
        passed(_FORMAT, f"version {frame.header.version}, {frame.size} bytes", code="format"),
        authenticity.trailing_bytes_check(frame),
        authenticity.vendor_check(frame),
        root_result,
        authenticity.root_validity_check(root, at),
        signatures,
        quote_marks_check(frame, certification.marks, marks, platform),
        authorisation.tee_check(tee, policy),
        authorisation.debug_check(claims, platform, policy),
        *(() if isinstance(claims, SgxClaims) else soundness_checks(claims, flaws)),
        currency_check(prepared.documents if isinstance(prepared, PreparedCollateral) else prepared, at),
    ]
    tcb = None
    if usable is None or checks[-1].status is CheckStatus.FAILED:
        checks.append(not_checked(_APPRAISAL, "it needs collateral that is current", code="appraisal"))
    else:
        marks |= usable.present_marks
        remember = module is None or signatures.status is CheckStatus.PASSED
        tcb_checks, tcb = (certification.judge_known if remember else certification.judge)(module)
        checks += [*usable.checks, *certification.collateral_checks, *tcb_checks]
        # Some forged input makes dcap-qvl abort the process, so a quote that failed our own checks is not passed to it.
        if kind_of(checks) in UNDECIDABLE or tcb is None:
            checks.append(not_checked(_APPRAISAL, "an own check of confcom failed", code="appraisal"))
        else:
            result = usable.appraiser.appraise(quote, at)
            checks.append(_appraisal_check(result, tcb, flaws))
    names = tuple(sorted(map(str, marks)))
    if (kind := kind_of(checks)) in UNDECIDABLE:
        why = "the content of a quote means nothing before its authenticity is proven"
        failures = {check.code for check in checks if check.status is CheckStatus.FAILED}
        status = TcbStatus.REVOKED if failures == {"tcb-revoked"} else None
        checks.append(not_checked("platform, TCB status, advisories, identity, report data", why, code="policy"))
        return Verdict(kind, platform, tuple(checks), tcb_status=status, marks=names)
    assert usable is not None
    assert tcb is not None
    assert isinstance(certification.extension, PckExtension)  # else collateral-platform failed
    checks += authorisation.recency_checks(usable.documents, policy, now)
    checks += authorisation.platform_id_check(certification.extension, policy)
    checks += _policy_checks(platform, claims, tcb, policy, now)
    claimed = claims if tee is policy.tee else None
    return Verdict(kind_of(checks), platform, tuple(checks), claimed, tcb.status, tcb.advisory_ids, names)


def _parsed(quote: bytes) -> QuoteFrame | Verdict[Any]:
    """Parse a quote except for its signature data; return a verdict for SGX quotes of version 4 and 5."""
    if len(quote) > MAX_QUOTE_SIZE:
        raise MalformedError(
            f"the input has {len(quote)} bytes, more than the limit of {MAX_QUOTE_SIZE}",
            error_code="too-long",
            why="no quote is that long",
            remedy="pass the quote alone",
        )
    frame = QuoteFrame.parse(quote)
    version = frame.header.version
    if isinstance(frame.body, ReportBody) and version != SGX_QUOTE_VERSION:
        Quote.parse(quote)
        why = "dcap-qvl verifies no SGX quote of this version, so that no second judgement could confirm ours"
        check = failed("version 3", f"version {version}", why, VerdictKind.UNUSABLE, code="unsupported-quote-version")
        return Verdict(VerdictKind.UNUSABLE, Platform.UNKNOWN, (authenticity.trailing_bytes_check(frame), check))
    return frame


def _judged_at(
    now: datetime,
    root: TrustedRoot,
    certification: KeyCertification,
    usable: PreparedCollateral | None,
    leeway: timedelta,
) -> datetime:
    """Return the instant at which validity is judged: `now`, or within the leeway the nearest at which all is valid."""
    if not leeway:
        return now
    periods = [(root.not_before, root.not_after), certification.period]
    if usable:
        periods += [(begin, end) for _, begin, end in usable.documents.validity_periods]
    return nearest_valid(now, periods, leeway)


def _appraisal_check(result: Appraisal | str, tcb: PlatformTcb, flaws: frozenset[Flaw]) -> Check:
    why = "dcap-qvl and confcom judge the same bytes differently; report this quote and its collateral to confcom"
    if isinstance(result, str):
        if result in {flaw.value for flaw in flaws}:
            return not_checked(_APPRAISAL, authorisation.DEBUG_CAVEAT, code="appraisal")
        return failed(
            _APPRAISAL, f"dcap-qvl refuses: {result}", why, VerdictKind.NOT_AUTHENTIC, code="verifiers-differ"
        )
    if (result.status, result.advisory_ids) == (tcb.status, tcb.advisory_ids):
        return passed(_APPRAISAL, "accepted", code="appraisal")
    found = f"dcap-qvl: {_shown(result)}, confcom: {_shown(tcb)}"
    return failed(_APPRAISAL, found, why, VerdictKind.NOT_AUTHENTIC, code="verifiers-differ")


def _policy_checks(
    platform: Platform, claims: SgxClaims | TdxClaims, tcb: PlatformTcb, policy: Policy, now: datetime
) -> Iterator[Check]:
    yield authorisation.platform_check(platform, policy)
    yield authorisation.tcb_check(tcb, policy, now)
    yield authorisation.advisories_check(tcb.advisory_ids, policy)
    if isinstance(claims, SgxClaims) and isinstance(policy, SgxPolicy):
        yield from authorisation.enclave_checks(claims, policy)
    elif isinstance(claims, TdxClaims) and isinstance(policy, TdxPolicy):
        yield from td_checks(claims, policy)
    else:
        yield not_checked("identity, report data", "the policy is one of another TEE", code="policy")
        return
    yield from authorisation.report_data_checks(claims, policy)


def _shown(one: Appraisal | PlatformTcb) -> str:
    return ", ".join((one.status, *one.advisory_ids))
