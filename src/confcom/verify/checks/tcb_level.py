"""confcom's own judgement of QE identity, TDX module and TCB levels, with which dcap-qvl's must agree. No I/O.

Rules: PCS API v4, "Get TCB Info" and "Get Quoting Enclave Identity"; convergence of levels, and the advice to launch a
TD again, as in Intel's QVL.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from confcom.sgx.pck.extension import MAX_COMPONENT_SVN
from confcom.sgx.quote import QuoteBody
from confcom.sgx.report import ReportBody
from confcom.sgx.tcb_documents import OUT_OF_DATE, QeIdentity, TcbInfo, TcbLevel, TcbStatus
from confcom.sgx.td_report import SEAM_ATTRIBUTES_SIZE, TdReport15
from confcom.verify.verdict import Check, VerdictKind, failed, judged


class TdxModuleReport(NamedTuple):
    svns: tuple[bytes, ...]
    """TEE_TCB_SVN, of the module that launched the TD; then in TDX 1.5 TEE_TCB_SVN2, of the module that runs now."""
    mr_signer: bytes
    attributes: int

    @classmethod
    def of(cls, body: QuoteBody) -> Self | None:
        """Return None for an enclave's report, since no TDX module made it."""
        if isinstance(body, ReportBody):
            return None
        current = (body.tee_tcb_svn2,) if isinstance(body, TdReport15) else ()
        return cls((body.tee_tcb_svn, *current), body.mr_signer_seam, body.seam_attributes)


@dataclass(frozen=True, slots=True)
class PlatformTcb:
    levels: tuple[TcbLevel, ...]
    """The platform's level; in TDX, those with the module that launched the TD, and with the one that runs if known."""
    quoting_enclave: TcbLevel
    status: TcbStatus
    """The status of platform and quoting enclave together."""
    advisory_ids: tuple[str, ...]
    """Advisories of both levels, the platform's first, each once."""
    without_module: tuple[TcbStatus, ...]
    """The statuses of `levels` without the TDX module."""


def converged(platform: TcbStatus, component: TcbStatus) -> TcbStatus:
    """Return the status of a platform together with a component: its quoting enclave or its TDX module."""
    if component is TcbStatus.OUT_OF_DATE:
        return OUT_OF_DATE.get(platform, platform)
    return TcbStatus.REVOKED if component is TcbStatus.REVOKED else platform


def quote_status(platform: tuple[TcbStatus, ...], quoting_enclave: TcbStatus) -> TcbStatus:
    """Return the status of quotes, by the platform's status at the launch and perhaps now, and its quoting enclave's.

    If only the launch was out of date, the TD should be launched again. Revoked in either is revoked.
    """
    launch, *rest = (converged(status, quoting_enclave) for status in platform)
    if launch is TcbStatus.REVOKED or TcbStatus.REVOKED in rest:
        return TcbStatus.REVOKED
    if not rest or launch not in _OUTDATED or rest[0] not in OUT_OF_DATE:
        return launch
    if TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED in {launch, OUT_OF_DATE[rest[0]]}:
        return TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
    return TcbStatus.TD_RELAUNCH_ADVISED


_OUTDATED = frozenset(OUT_OF_DATE.values())


def platform_tcb(
    tcb_info: TcbInfo, qe_identity: QeIdentity, own: tuple[int, ...], qe_isv_svn: int, modules: tuple[bytes, ...]
) -> PlatformTcb | None:
    """Return the highest levels that platform and quoting enclave reach; None if one of them reaches none.

    `own` has the SVNs of the platform's 16 components and its PCE. `modules` is as in `TdxModuleReport.svns`.
    """
    platform = [_platform_level(tcb_info, own, svns) for svns in modules or (b"",)]
    quoting_enclave = _reached(qe_identity.levels, (qe_isv_svn,))
    found = [pair for pair in platform if pair is not None]
    if quoting_enclave is None or len(found) < len(platform):
        return None
    levels, without_module = zip(*found, strict=True)
    status = quote_status(tuple(level.status for level in levels), quoting_enclave.status)
    advisory_ids = tuple(dict.fromkeys((*levels[0].advisory_ids, *quoting_enclave.advisory_ids)))
    return PlatformTcb(levels, quoting_enclave, status, advisory_ids, without_module)


def _platform_level(tcb_info: TcbInfo, own: tuple[int, ...], svns: bytes) -> tuple[TcbLevel, TcbStatus] | None:
    """Return the level of a platform with its TDX module (`svns`; empty in SGX), and the status without the module."""
    version = svns[1] if svns else 0
    level = _reached(tcb_info.levels, platform_svns(own, svns))
    if level is None or not version:
        return (level, level.status) if level else None
    known = tcb_info.tdx_modules.get(version)
    module = _reached(known.levels, (svns[0],)) if known else None
    if module is None:
        return None
    together = replace(
        level,
        date=min(level.date, module.date),
        status=converged(level.status, module.status),
        advisory_ids=tuple(dict.fromkeys((*level.advisory_ids, *module.advisory_ids))),
    )
    return together, level.status


def platform_svns(own: tuple[int, ...], svns: bytes) -> tuple[int, ...]:
    """Return what is compared with a platform's levels: its own SVNs, and in TDX those of the module's components."""
    # A module with a version has an identity of its own, whose levels judge its SVNs 0 and 1.
    return (*own, *((MAX_COMPONENT_SVN, MAX_COMPONENT_SVN, *svns[2:]) if svns and svns[1] else svns))


def _reached(levels: tuple[TcbLevel, ...], svns: tuple[int, ...]) -> TcbLevel | None:
    # QVL and dcap-qvl do not rely on the order of levels in the document either.
    descending = sorted(levels, key=lambda level: level.svns, reverse=True)
    reached = (level for level in descending if all(own >= svn for own, svn in zip(svns, level.svns, strict=True)))
    return next(reached, None)


def qe_identity_check(qe: ReportBody, identity: QeIdentity) -> Check:
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


def tdx_module_check(module: TdxModuleReport, tcb_info: TcbInfo) -> Check:
    required = "a TDX module that the TCB info describes"
    why = "another program than the vendor's TDX module could have made the TD report"
    for version in (svns[1] for svns in module.svns):
        if version not in tcb_info.tdx_modules:
            found = f"a module of version {version}, which it does not list"
            return failed(required, found, why, VerdictKind.NOT_AUTHENTIC, code="tdx-module")
    version = module.svns[0][1]
    known = tcb_info.tdx_modules[version]
    attributes = module.attributes.to_bytes(SEAM_ATTRIBUTES_SIZE, "little")
    unknown_bits = any(own & ~mask for own, mask in zip(attributes, known.attributes_mask, strict=True))
    differs = {
        "MRSIGNERSEAM": module.mr_signer != known.mr_signer,
        "SEAMATTRIBUTES": unknown_bits or _differ(attributes, known.attributes, known.attributes_mask),
    }
    other = ", ".join(name for name, differing in differs.items() if differing)
    found = f"another {other}" if other else f"version {version}, MRSIGNERSEAM {module.mr_signer.hex()}"
    return judged(required, found, why, VerdictKind.NOT_AUTHENTIC, code="tdx-module", holds=not other)


def _differ(found: bytes, expected: bytes, mask: bytes) -> bool:
    return any((own ^ other) & bits for own, other, bits in zip(found, expected, mask, strict=True))


def tcb_level_check(tcb: PlatformTcb | None) -> Check:
    required = "a TCB level of the collateral that is not revoked"
    if tcb is None:
        why = "platform, TDX module or quoting enclave is below every level that the collateral lists"
        return failed(required, "no level", why, VerdictKind.NOT_AUTHENTIC, code="tcb-not-listed")
    why = "keys of a revoked TCB are known to be compromised"
    holds = tcb.status is not TcbStatus.REVOKED
    return judged(required, tcb.status, why, VerdictKind.NOT_AUTHENTIC, code="tcb-revoked", holds=holds)
