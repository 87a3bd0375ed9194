"""confcom's own judgement of QE identity and TCB levels, with which dcap-qvl's judgement must agree. No I/O.

Rules: PCS API v4, "Get TCB Info" and "Get Quoting Enclave Identity"; convergence of both levels as in Intel's QVL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from confcom.sgx.pck.extension import PckExtension
from confcom.sgx.report import ReportBody
from confcom.sgx.tcb_documents import OUT_OF_DATE, QeIdentity, TcbInfo, TcbLevel, TcbStatus
from confcom.verify.verdict import Check, VerdictKind, failed, judged


@dataclass(frozen=True, slots=True)
class PlatformTcb:
    """The TCB levels of a platform and its quoting enclave, and the status and advisories of their quotes."""

    platform: TcbLevel
    quoting_enclave: TcbLevel
    status: TcbStatus
    """The status of platform and quoting enclave together."""
    advisory_ids: tuple[str, ...]
    """Advisories of both levels, the platform's first, each once."""

    @classmethod
    def of(cls, platform: TcbLevel, quoting_enclave: TcbLevel) -> Self:
        advisories = dict.fromkeys((*platform.advisory_ids, *quoting_enclave.advisory_ids))
        return cls(platform, quoting_enclave, converged(platform.status, quoting_enclave.status), tuple(advisories))


def converged(platform: TcbStatus, quoting_enclave: TcbStatus) -> TcbStatus:
    """Return the status of quotes, which depends on the status of the platform and of its quoting enclave."""
    if quoting_enclave is TcbStatus.OUT_OF_DATE:
        return OUT_OF_DATE.get(platform, platform)
    return TcbStatus.REVOKED if quoting_enclave is TcbStatus.REVOKED else platform


def platform_tcb(tcb_info: TcbInfo, qe_identity: QeIdentity, pck: PckExtension, qe: ReportBody) -> PlatformTcb | None:
    """Return the highest levels that platform and quoting enclave reach; None if one of them reaches none."""
    platform = _reached(tcb_info.levels, (*pck.tcb.components, pck.tcb.pce_svn))
    quoting_enclave = _reached(qe_identity.levels, (qe.isv_svn,))
    return PlatformTcb.of(platform, quoting_enclave) if platform and quoting_enclave else None


def _reached(levels: tuple[TcbLevel, ...], svns: tuple[int, ...]) -> TcbLevel | None:
    # QVL and dcap-qvl do not rely on the order of levels in the document either.
    descending = sorted(levels, key=lambda level: level.svns, reverse=True)
    reached = (level for level in descending if all(own >= svn for own, svn in zip(svns, level.svns, strict=True)))
    return next(reached, None)


def qe_identity_check(qe: ReportBody, identity: QeIdentity) -> Check:
    """Check that the quoting enclave is one that the QE identity describes, and not a debug enclave."""
    attributes = qe.flags.to_bytes(8, "little") + qe.xfrm.to_bytes(8, "little")
    misc_select = qe.misc_select.to_bytes(4, "little")
    differs = {
        "MRSIGNER": qe.mr_signer != identity.mr_signer,
        "ISVPRODID": qe.isv_prod_id != identity.isv_prod_id,
        "MISCSELECT": _differ(misc_select, identity.misc_select, identity.misc_select_mask),
        "ATTRIBUTES": _differ(attributes, identity.attributes, identity.attributes_mask) or qe.debug,
    }
    other = ", ".join(name for name, differing in differs.items() if differing)
    required = "a quoting enclave that the QE identity describes"
    found = f"another {other}" if other else f"MRSIGNER {qe.mr_signer.hex()}, ISVPRODID {qe.isv_prod_id}"
    why = "another enclave than the vendor's quoting enclave made the quote's attestation key"
    return judged(required, found, why, VerdictKind.NOT_AUTHENTIC, code="qe-identity", holds=not other)


def _differ(found: bytes, expected: bytes, mask: bytes) -> bool:
    return any((own ^ other) & bits for own, other, bits in zip(found, expected, mask, strict=True))


def tcb_level_check(tcb: PlatformTcb | None) -> Check:
    """Check that platform and quoting enclave reach a level of the collateral, and that neither level is revoked."""
    required = "a TCB level of the collateral that is not revoked"
    if tcb is None:
        why = "platform or quoting enclave is below every level that the collateral lists"
        return failed(required, "no level", why, VerdictKind.NOT_AUTHENTIC, code="tcb-not-listed")
    why = "keys of a revoked TCB are known to be compromised"
    holds = tcb.status is not TcbStatus.REVOKED
    return judged(required, tcb.status, why, VerdictKind.NOT_AUTHENTIC, code="tcb-revoked", holds=holds)
