"""The policy's checks: they compare the claims of an authentic quote with the relying party's demands. No I/O."""

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from confcom.sgx.collateral_bundle import CollateralDocuments
from confcom.sgx.pck.extension import PckExtension
from confcom.sgx.simulation_marks import ADVISORY_ID as SIMULATED_ADVISORY_ID
from confcom.sgx.tcb_documents import TcbStatus
from confcom.sgx.tee_type import TeeType
from confcom.verify.checks.tcb_level import PlatformTcb, quote_status
from confcom.verify.policy import Policy
from confcom.verify.sgx_policy import SgxPolicy
from confcom.verify.trust import Platform
from confcom.verify.verdict import Check, SgxClaims, TeeClaims, VerdictKind, judged, passed, utc_text


def enclave_checks(claims: SgxClaims, policy: SgxPolicy) -> Iterator[Check]:
    if not policy.names_identity:
        yield refused(
            "an expected mr_enclave, mr_signer or identities",
            f"none in the policy; the quote's mr_enclave is {claims.mr_enclave.hex()}",
            "without an expected identity, any enclave would be accepted, even an attacker's",
            code="identity",
        )
    if policy.identities is not None:
        fits = any(identity.fits(claims) for identity in policy.identities)
        found = f"mr_enclave {claims.mr_enclave.hex()}, mr_signer {claims.mr_signer.hex()}, "
        found += f"isv_prod_id {claims.isv_prod_id}, isv_svn {claims.isv_svn}"
        required = f"one of the policy's {len(policy.identities)} identities"
        yield compared(required, found, "none of them fits", code="identities", holds=fits)
    other = "another enclave made this quote"
    yield from equal(policy.mr_enclave, claims.mr_enclave, other, code="mr-enclave")
    yield from equal(policy.mr_signer, claims.mr_signer, other, code="mr-signer")
    unlike = "the enclave has another one; without Key Separation and Sharing it is zero"
    yield from equal(policy.config_id, claims.config_id, unlike, code="config-id")
    yield from equal(policy.isv_ext_prod_id, claims.isv_ext_prod_id, unlike, code="isv-ext-prod-id")
    yield from equal(policy.isv_family_id, claims.isv_family_id, unlike, code="isv-family-id")
    older = "the enclave's configuration is older than the policy accepts"
    yield from _at_least(policy.min_config_svn, claims.config_svn, older, code="config-svn")
    sibling = "the same signer's other product made this quote"
    yield from equal(policy.isv_prod_id, claims.isv_prod_id, sibling, code="isv-prod-id")
    outdated = "the enclave is older than the policy accepts"
    yield from _at_least(policy.min_isv_svn, claims.isv_svn, outdated, code="isv-svn")


def report_data_checks(claims: TeeClaims, policy: Policy) -> Iterator[Check]:
    if policy.report_data is None:
        yield refused(
            "the 64 bytes that the enclave or TD was asked to put into its report",
            f"none in the policy; the quote's are {claims.report_data.hex()}",
            "without an expected value, anyone who has seen a quote can replay it",
            code="report-data",
        )
    why = "the quote answers another challenge, or is replayed"
    yield from equal(policy.report_data, claims.report_data, why, code="report-data")


def platform_check(platform: Platform, policy: Policy) -> Check:
    """Accept genuine platforms always, simulated ones if the policy allows simulation, and unknown ones never."""
    required = "genuine or simulated" if policy.allow_simulated else "genuine"
    if platform is Platform.GENUINE:
        return passed(required, platform, code="platform")
    if platform is Platform.UNKNOWN:
        why = "the root is neither Intel's nor marked as a simulated platform's, so its issuer is unknown"
    elif policy.allow_simulated:
        why = "no hardware protects it: anyone can make such a quote say anything"
        return passed(required, platform, why, code="platform")
    else:
        why = "the policy does not allow simulated platforms, which protect nothing (--allow-simulated)"
    return refused(required, platform, why, code="platform")


def platform_id_check(extension: PckExtension, policy: Policy) -> Iterator[Check]:
    if policy.platforms is None:
        return
    ids = [extension.ppid, *([extension.platform_instance_id] if extension.platform_instance_id else [])]
    found = f"PPID {extension.ppid.hex()}, platform instance id {ids[1].hex() if ids[1:] else '(none)'}"
    holds = bool(policy.platforms.intersection([*ids, *(hashlib.sha256(platform_id).digest() for platform_id in ids)]))
    why = "the quote was made on another machine"
    required = f"one of the policy's {len(policy.platforms)} platforms"
    yield compared(required, found, why, code="platform-id", holds=holds)


def recency_checks(collateral: CollateralDocuments, policy: Policy, now: datetime) -> Iterator[Check]:
    evaluation = collateral.tcb_info.tcb_evaluation_data_number
    older = "it judges by an older TCB recovery; fetch the early set (update=early), or wait for the standard one"
    yield from _at_least(policy.min_tcb_evaluation_number, evaluation, older, code="tcb-evaluation")
    if policy.max_collateral_age is not None:
        name, issued = collateral.issued
        required = f"every part but the root's revocation list issued in the last {policy.max_collateral_age}"
        found, why = f"{name} was issued on {utc_text(issued)}", "fetch the collateral again"
        holds = now - issued <= policy.max_collateral_age
        yield compared(required, found, why, code="collateral-age", holds=holds)


def tcb_check(tcb: PlatformTcb, policy: Policy, now: datetime) -> Check:
    status, grace = _status_in_grace(tcb, policy, now)
    accepted = " or ".join(sorted(policy.accepted_tcb_statuses)) or "no status: the policy accepts none"
    why = "known weaknesses of this platform are not fixed"
    if status in policy.accepted_tcb_statuses:
        return passed(accepted, tcb.status, grace, code="tcb-status")
    return refused(accepted, tcb.status, f"{why}; {grace}" if grace else why, code="tcb-status")


def _status_in_grace(tcb: PlatformTcb, policy: Policy, now: datetime) -> tuple[TcbStatus, str]:
    """Return the TCB status after grace periods, and a text about which grace periods applied."""
    if not policy.platform_grace_period and not policy.qe_grace_period:
        return tcb.status, ""
    enclave, levels, spared = tcb.quoting_enclave, tcb.levels, []
    statuses, enclave_status = tuple(level.status for level in levels), enclave.status
    outdated = [level.date for level in levels if level.status in _NOT_OUT_OF_DATE]
    if outdated and _in_grace(min(outdated), policy.platform_grace_period, now):
        # A module that is out of date hides whether its platform needs hardening, but is no reason to accept that.
        statuses = tuple(_NOT_OUT_OF_DATE.get(status, status) for status in tcb.without_module)
        spared.append(f"the platform has a grace period since {utc_text(min(outdated))}")
    if enclave_status is TcbStatus.OUT_OF_DATE and _in_grace(enclave.date, policy.qe_grace_period, now):
        enclave_status = TcbStatus.UP_TO_DATE
        spared.append(f"the quoting enclave has a grace period since {utc_text(enclave.date)}")
    return quote_status(statuses, enclave_status), "; ".join(spared)


def _in_grace(date: datetime, period: timedelta, now: datetime) -> bool:
    # If the period is zero, no grace applies, even if the date is in the future.
    return bool(period) and now - date <= period


_NOT_OUT_OF_DATE = {
    TcbStatus.OUT_OF_DATE: TcbStatus.UP_TO_DATE,
    TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED: TcbStatus.CONFIGURATION_NEEDED,
}
"""The status that counts during a platform's grace period, keyed by the platform's out-of-date status."""


def _advisories(policy: Policy) -> str:
    demands = []
    if policy.accepted_advisories is not None:
        demands.append("only " + (", ".join(sorted(policy.accepted_advisories)) or "a platform without advisories"))
    if policy.rejected_advisories:
        demands.append("none of " + ", ".join(sorted(policy.rejected_advisories)))
    return "; ".join(demands) or "any: the policy rejects none"


def advisories_check(advisory_ids: tuple[str, ...], policy: Policy) -> Check:
    found, refused = set(advisory_ids), policy.rejected_advisories.intersection(advisory_ids)
    if policy.accepted_advisories is not None:
        # Whether to accept a simulated platform is the question of `allow_simulated`, see platform_check.
        refused |= found - policy.accepted_advisories - {SIMULATED_ADVISORY_ID}
    why = "the policy does not accept " + ", ".join(sorted(refused))
    return compared(_advisories(policy), ", ".join(advisory_ids) or "none", why, code="advisories", holds=not refused)


def debug_check(claims: TeeClaims, platform: Platform, policy: Policy) -> Check:
    """Reject a debug enclave or TD, unless the policy has `allow_debug` and the platform is simulated."""
    noun = "enclave" if isinstance(claims, SgxClaims) else "TD"
    required = f"not a debug {noun}"
    if not claims.debug:
        return passed(required, required, code="debug")
    found = f"a debug {noun}: its host can read and change its memory"
    if platform is not Platform.SIMULATED:
        why = "the host can forge everything that it reports; no policy accepts that"
    elif policy.allow_debug:
        return passed("debug is allowed", "debug, not checked by dcap-qvl", DEBUG_CAVEAT, code="debug")
    else:
        why = "the policy does not allow it (allow_debug, --allow-debug; simulated platforms only)"
    return refused(required, found, why, code="debug")


DEBUG_CAVEAT = "dcap-qvl refuses what this quote reports, so that confcom's own checks alone vouch for this quote"
_POLICY_OF: Final = {
    TeeType.SGX: "an SgxPolicy: --mrenclave or --mrsigner, or a policy file without `tee`",
    TeeType.TDX: 'a TdxPolicy: --mr-td, or a policy file with tee = "tdx"',
}


def tee_check(tee: TeeType, policy: Policy) -> Check:
    why = "" if tee is policy.tee else f"the policy is one of {policy.tee.name}; this quote needs {_POLICY_OF[tee]}"
    return compared(f"a quote of {policy.tee.name}", tee.name, why, code="tee", holds=not why)


def equal(expected: bytes | int | None, found: bytes | int, why: str, *, code: str) -> Iterator[Check]:
    if expected is not None:
        required = expected.hex() if isinstance(expected, bytes) else str(expected)
        shown = found.hex() if isinstance(found, bytes) else str(found)
        yield compared(required, shown, why, code=code, holds=expected == found)


def _at_least(lowest: int | None, found: int, why: str, *, code: str) -> Iterator[Check]:
    if lowest is not None:
        yield compared(f"at least {lowest}", str(found), why, code=code, holds=found >= lowest)


def compared(required: str, found: str, why: str, *, holds: bool, code: str) -> Check:
    return judged(required, found, why, VerdictKind.AUTHENTIC_NOT_AUTHORISED, holds=holds, code=code)


def refused(required: str, found: str, why: str, *, code: str) -> Check:
    return compared(required, found, why, holds=False, code=code)
