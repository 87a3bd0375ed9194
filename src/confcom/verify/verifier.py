"""The verifier: `verify`, the entry point for relying parties, runs every check on a quote, in order.

`verify` raises no error for a bad quote or bad collateral, does not block, and fetches nothing; it raises an
error for an invalid time, which is the caller's mistake.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from confcom.errors import MalformedError, WrongTypeError, WrongValueError
from confcom.sgx.quote import REPORT_BODY, Quote, QuoteFrame, require_sgx
from confcom.sgx.report import ReportBody
from confcom.sgx.tcb_documents import TcbStatus
from confcom.verify.argument_types import require_instant
from confcom.verify.checks import authenticity, authorisation, dcap_qvl_appraisal
from confcom.verify.checks.authenticity import MAX_QUOTE_SIZE, KeyCertification
from confcom.verify.checks.collateral import currency_check, nearest_valid
from confcom.verify.checks.dcap_qvl_appraisal import Appraisal, Rejection
from confcom.verify.checks.marks import present_marks, quote_marks_check
from confcom.verify.checks.tcb_level import PlatformTcb
from confcom.verify.files import MAX_QUOTE_TEXT_SIZE, decoded, read_quote
from confcom.verify.policy import SgxPolicy
from confcom.verify.prepared_collateral import Collateral, PreparedCollateral
from confcom.verify.trust import INTEL, KnownRoot, Platform, TrustedRoot, trusted_root
from confcom.verify.verdict import (
    Check,
    CheckStatus,
    Claims,
    Verdict,
    VerdictKind,
    failed,
    failed_by,
    kind_of,
    not_checked,
    passed,
    unusable,
)

_FORMAT = "an SGX quote of version 3 with the PCK certificate chain in it"
_TEE = "an SGX quote of version 3"
_UNDECIDABLE = frozenset({VerdictKind.NOT_AUTHENTIC, VerdictKind.UNUSABLE})
_APPRAISAL = "dcap-qvl accepts the quote with certificates, revocation lists, TCB info and QE identity"


QuoteInput = bytes | bytearray | memoryview | str | os.PathLike[str]
"""A quote: bytes, hexadecimal or base64 text (either alphabet), or the path of a file with any of these forms."""


def verify(
    quote: QuoteInput,
    policy: SgxPolicy,
    collateral: Collateral | PreparedCollateral | None,
    root: TrustedRoot | KnownRoot | None = None,
    now: datetime | None = None,
) -> Verdict:
    """Decide whether to rely on a quote. Nothing is fetched, and no content of a quote raises an error.

    Threads may call `verify` concurrently. A call with prepared collateral takes about a millisecond, nearly all of it
    under the GIL; the first quote of an attestation key, or collateral that is not prepared, takes about 4 ms. A
    service that verifies many quotes should use several processes, which also confine a crash of dcap-qvl.

    Args:
        quote: one quote and nothing else, at most 64 KiB: bytes, hexadecimal or base64 text, or a path
            (`pathlib.Path`) of a file.
        policy: your demands on the quote.
        collateral: TCB info, QE identity and revocation lists of the quote's platform, or what `Collateral.prepared`
            returned. Without collateral, no quote is verified: the verdict is unusable or not authentic.
        root: the root certificate that you trust: INTEL, or a simulated platform's (`read_root`). None means
            the root for which the collateral was prepared, or else INTEL.
        now: the instant, with time zone, at which all dates must be valid; None means the present. The policy's
            `clock_leeway` tolerates an instant that is slightly wrong.

    Returns:
        The verdict. `verdict.require_ok()` returns the claims or raises NotVerifiedError.

    Raises:
        WrongTypeError: an argument has the wrong type.
        SettingsError: `now` has no time zone or is before 1970, or the collateral was prepared for a root other than
            `root`.
        UnreadableInputError: the quote is a path whose file cannot be read.
        UnavailableError: the package dcap-qvl is not installed.
    """
    if not isinstance(policy, SgxPolicy):
        raise WrongTypeError("the policy", "an SgxPolicy", policy)
    if not isinstance(collateral, Collateral | PreparedCollateral | None):
        raise WrongTypeError(
            "the collateral", "a Collateral (read_collateral makes one), prepared or not, or None", collateral
        )
    dcap_qvl_appraisal.load_dcap_qvl()
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


def refusal_without_collateral(quote: bytes, policy: SgxPolicy, root: TrustedRoot, now: datetime) -> Verdict | None:
    """Return the verdict on a quote that no collateral can make verified; None if the quote's own signatures hold.

    Collateral is fetched only after None, so that nobody causes a fetch by a forged quote.
    """
    verdict = verify_quote(quote, root, None, policy, now)
    undecidable = {check.code for check in verdict.failures if check.consequence in _UNDECIDABLE}
    return None if undecidable == {"collateral"} else verdict


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
    if isinstance(quote, (bytearray, memoryview)):
        return bytes(quote)
    raise WrongTypeError("the quote", "bytes, hexadecimal or base64 text, or a Path", quote)


def verify_quote(
    quote: bytes,
    root: TrustedRoot,
    collateral: Collateral | PreparedCollateral | None,
    policy: SgxPolicy,
    now: datetime,
) -> Verdict:
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
        if len(quote) > MAX_QUOTE_SIZE:
            raise MalformedError(
                f"the input has {len(quote)} bytes, more than the limit of {MAX_QUOTE_SIZE}",
                error_code="too-long",
                why="no SGX quote is that long",
                remedy="pass the quote alone",
            )
        frame = QuoteFrame.parse(quote)
        try:
            body = require_sgx(frame)
        except MalformedError as error:
            Quote.parse(quote)
            return _unsupported(frame, error)
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
    claims = Claims.of(body)
    marks = present_marks(frame, certification.marks)
    checks = [
        passed(_FORMAT, f"version {frame.header.version}, {frame.size} bytes", code="format"),
        authenticity.trailing_bytes_check(frame),
        authenticity.vendor_check(frame),
        root_result,
        authenticity.root_validity_check(root, at),
        signatures,
        quote_marks_check(frame, certification.marks, marks, platform),
        authorisation.debug_check(claims, platform, policy),
        currency_check(prepared.documents if isinstance(prepared, PreparedCollateral) else prepared, at),
    ]
    if usable is None or checks[-1].status is CheckStatus.FAILED:
        checks.append(not_checked(_APPRAISAL, "it needs collateral that is current", code="appraisal"))
    else:
        marks |= usable.present_marks
        checks += [*usable.checks, *certification.collateral_checks]
        # Some forged input makes dcap-qvl abort the process, so a quote that failed our own checks is not passed to it.
        if kind_of(checks) in _UNDECIDABLE or certification.tcb is None:
            checks.append(not_checked(_APPRAISAL, "an own check of confcom failed", code="appraisal"))
        else:
            result = usable.appraiser.appraise(quote, at)
            checks.append(_appraisal_check(result, quote[REPORT_BODY], root, certification.tcb, debug=claims.debug))
    names = tuple(sorted(marks))
    if (kind := kind_of(checks)) in _UNDECIDABLE:
        why = "the content of a quote means nothing before its authenticity is proven"
        failures = {check.code for check in checks if check.status is CheckStatus.FAILED}
        status = TcbStatus.REVOKED if failures == {"tcb-revoked"} else None
        checks.append(not_checked("platform, TCB status, advisories, identity, report data", why, code="policy"))
        return Verdict(kind, platform, tuple(checks), tcb_status=status, marks=names)
    assert usable is not None
    assert certification.tcb is not None
    checks += authorisation.recency_checks(usable.documents, policy, now)
    checks += authorisation.platform_id_check(certification.extension, policy)
    checks += _policy_checks(platform, claims, certification.tcb, policy, now)
    status, advisories = certification.tcb.status, certification.tcb.advisory_ids
    return Verdict(kind_of(checks), platform, tuple(checks), claims, status, advisories, names)


def _unsupported(frame: QuoteFrame, error: MalformedError) -> Verdict:
    """Return the verdict on a well-formed quote of TDX, or of SGX in version 4 or 5."""
    if isinstance(frame.body, ReportBody):
        check = failed_by(_TEE, error, code="unsupported-quote-version")
    else:
        check = failed_by(_TEE, error, code="tee")
    return Verdict(VerdictKind.UNUSABLE, Platform.UNKNOWN, (authenticity.trailing_bytes_check(frame), check))


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


def _appraisal_check(
    result: Appraisal | Rejection, body: bytes, root: TrustedRoot, tcb: PlatformTcb, *, debug: bool
) -> Check:
    why = "dcap-qvl and confcom judge the same bytes differently; report this quote and its collateral to confcom"
    if isinstance(result, Rejection):
        if result.is_of_debug_enclave and debug:
            return not_checked(_APPRAISAL, authorisation.DEBUG_CAVEAT, code="appraisal")
        return failed(
            _APPRAISAL, f"dcap-qvl refuses: {result.text}", why, VerdictKind.NOT_AUTHENTIC, code="verifiers-differ"
        )
    if (result.report_body, result.root_key_id, result.tcb) == (body, root.key_id, tcb):
        return passed(_APPRAISAL, "accepted", code="appraisal")
    found = f"dcap-qvl: {result.tcb.status}, confcom: {tcb.status}"
    return failed(_APPRAISAL, found, why, VerdictKind.NOT_AUTHENTIC, code="verifiers-differ")


def _policy_checks(
    platform: Platform, claims: Claims, tcb: PlatformTcb, policy: SgxPolicy, now: datetime
) -> Iterator[Check]:
    yield authorisation.platform_check(platform, policy)
    yield authorisation.tcb_check(tcb, policy, now)
    yield authorisation.advisories_check(tcb.advisory_ids, policy)
    yield from authorisation.identity_checks(claims, policy)
    yield from authorisation.report_data_checks(claims, policy)
