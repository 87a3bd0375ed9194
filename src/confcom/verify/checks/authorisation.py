"""The policy's checks: they compare the claims of an authentic quote with the relying party's demands. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from confcom.sgx.tcb import TcbStatus
from confcom.verify.policy import Policy
from confcom.verify.trust import Platform
from confcom.verify.verdict import Check, Claims, VerdictKind, failed, not_checked, passed


def identity_checks(claims: Claims, policy: Policy) -> Iterator[Check]:
    """Check that the enclave is the expected one; fail if the policy names no enclave."""
    if not policy.names_identity:
        yield _refused(
            "identity",
            "an expected mr_enclave or mr_signer",
            f"none in the policy; the quote's mr_enclave is {claims.mr_enclave.hex()}",
            "without an expected identity any enclave would do, also an attacker's",
        )
    for name, expected, found in (
        ("mr_enclave", policy.mr_enclave, claims.mr_enclave),
        ("mr_signer", policy.mr_signer, claims.mr_signer),
    ):
        if expected is not None:
            yield _compared(name, expected.hex(), found.hex(), "another enclave made this quote")
    for name, expected, found in (
        ("config_id", policy.config_id, claims.config_id),
        ("isv_ext_prod_id", policy.isv_ext_prod_id, claims.isv_ext_prod_id),
        ("isv_family_id", policy.isv_family_id, claims.isv_family_id),
    ):
        if expected is not None:
            why = "the enclave has another one; without Key Separation and Sharing it is zero"
            yield _compared(name, expected.hex(), found.hex(), why)
    if policy.min_config_svn is not None:
        yield _compared(
            "config_svn",
            f"at least {policy.min_config_svn}",
            str(claims.config_svn),
            "the enclave's configuration is older than the policy accepts",
            holds=claims.config_svn >= policy.min_config_svn,
        )
    if policy.isv_prod_id is not None:
        why = "the same signer's other product made this quote"
        yield _compared("isv_prod_id", str(policy.isv_prod_id), str(claims.isv_prod_id), why)
    if policy.min_isv_svn is not None:
        yield _compared(
            "isv_svn",
            f"at least {policy.min_isv_svn}",
            str(claims.isv_svn),
            "the enclave is older than the policy accepts",
            holds=claims.isv_svn >= policy.min_isv_svn,
        )


def report_data_check(claims: Claims, policy: Policy) -> Check:
    """Check that the quote has the expected report data; without a challenge, an old quote could be replayed."""
    found = claims.report_data.hex()
    if policy.report_data is None:
        return _refused(
            "report_data",
            "the 64 bytes that the enclave was asked to put into its report",
            f"none in the policy; the quote's are {found}",
            "without an expected value a quote can be replayed by whoever has seen it",
        )
    return _compared(
        "report_data", policy.report_data.hex(), found, "the quote answers another challenge, or is replayed"
    )


def platform_check(platform: Platform, policy: Policy) -> Check:
    """Check the kind of platform: genuine is accepted always, simulated if the policy allows it, unknown never."""
    if platform is Platform.GENUINE:
        return passed("platform", "genuine", platform.value)
    if platform is Platform.SIMULATED and policy.allow_simulated:
        why = "no hardware protects this enclave: anyone can make such a quote say anything"
        return passed("platform", "genuine or simulated", platform.value, why)
    if platform is Platform.SIMULATED:
        why = (
            "the policy does not allow simulated platforms, which protect nothing (allow_simulated, --allow-simulated)"
        )
        return _refused("platform", "genuine", platform.value, why)
    required = "genuine or simulated" if policy.allow_simulated else "genuine"
    why = "the root is neither Intel's nor marked as a simulated platform's, so nobody knows what stands behind it"
    return _refused("platform", required, platform.value, why)


def tcb_check(tcb_status: TcbStatus, policy: Policy) -> Check:
    """Check that the policy accepts the TCB status; dcap-qvl reports the status but does not reject by it."""
    return _compared(
        "tcb_status",
        _accepted_statuses(policy),
        tcb_status.value,
        "known weaknesses of this platform are not fixed",
        holds=tcb_status in policy.accepted_tcb_statuses,
    )


def debug_enclave_tcb_checks(policy: Policy) -> Iterator[Check]:
    """Return the TCB status and advisories checks of a debug enclave, for which dcap-qvl reports neither.

    `allow_debug` waives the default demand that the TCB is UpToDate. It does not waive explicit demands: a set of
    statuses without UpToDate, or rejected advisories. Those checks fail.
    """
    accepted = _accepted_statuses(policy)
    if TcbStatus.UP_TO_DATE in policy.accepted_tcb_statuses:
        yield not_checked("tcb_status", accepted, DEBUG_CAVEAT)
    else:
        yield _refused("tcb_status", accepted, _NOT_KNOWN, DEBUG_CAVEAT)
    if policy.rejected_advisories:
        yield _refused("advisories", _rejected_advisories(policy), _NOT_KNOWN, DEBUG_CAVEAT)
    else:
        yield not_checked("advisories", _NO_ADVISORY_REJECTED, DEBUG_CAVEAT)


def _accepted_statuses(policy: Policy) -> str:
    accepted = sorted(status.value for status in policy.accepted_tcb_statuses)
    return " or ".join(accepted) if accepted else "no status: the policy accepts none"


def _rejected_advisories(policy: Policy) -> str:
    return "none of " + ", ".join(sorted(policy.rejected_advisories))


def advisories_check(advisory_ids: tuple[str, ...], policy: Policy) -> Check:
    """Check that no advisory that the policy rejects applies to the platform."""
    found = ", ".join(advisory_ids) or "none"
    if not policy.rejected_advisories:
        return passed("advisories", _NO_ADVISORY_REJECTED, found)
    hits = policy.rejected_advisories & set(advisory_ids)
    return _compared(
        "advisories",
        _rejected_advisories(policy),
        found,
        "the policy rejects " + ", ".join(sorted(hits)),
        holds=not hits,
    )


def debug_check(claims: Claims, platform: Platform, policy: Policy) -> Check:
    """Check that the enclave is no debug enclave, which only `allow_debug` accepts, on simulated platforms only."""
    if not claims.debug:
        return passed("debug", "not a debug enclave", "not a debug enclave")
    found = "a debug enclave: its host can read and change its memory"
    if platform is not Platform.SIMULATED:
        return _refused(
            "debug",
            "not a debug enclave",
            found,
            "whatever a debug enclave says, its host may have put there; no policy accepts that",
        )
    if policy.allow_debug:
        return passed("debug", "a debug enclave is allowed", "debug, not checked by dcap-qvl", DEBUG_CAVEAT)
    why = "the policy does not allow it (allow_debug, --allow-debug; simulated platforms only)"
    return _refused("debug", "not a debug enclave", found, why)


DEBUG_CAVEAT = (
    "dcap-qvl refuses debug enclaves, after it has checked signatures, revocation and QE identity, and reports neither"
    " TCB status nor advisories"
)


_NO_ADVISORY_REJECTED = "any: the policy rejects none"

_NOT_KNOWN = "not known: a debug enclave"


def _compared(name: str, required: str, found: str, why: str, *, holds: bool | None = None) -> Check:
    if required == found if holds is None else holds:
        return passed(name, required, found)
    return _refused(name, required, found, why)


def _refused(name: str, required: str, found: str, why: str) -> Check:
    return failed(name, required, found, why, VerdictKind.AUTHENTIC_NOT_AUTHORISED)
