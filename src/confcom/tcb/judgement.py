"""The judgement of a machine's SVNs by one set of collateral, and which of its SVNs are short. No I/O."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from confcom.errors import ConfcomError, printable
from confcom.sgx.collateral_bundle import CollateralDocuments
from confcom.sgx.collateral_json import PlatformKind
from confcom.sgx.pck.extension import TCB_COMPONENT_COUNT
from confcom.sgx.pck.platform_page import CertifiedTcb, SgxKind
from confcom.sgx.tcb_documents import MAX_ISV_SVN, ComponentKind, TcbLevel, TcbStatus
from confcom.sgx.tee_type import TeeType
from confcom.verify.checks.tcb_level import platform_svns, platform_tcb

END_OF_SERVICING = frozenset({"INTEL-DOC-10000", "INTEL-DOC-10001"})
"""Intel's documents that collateral names among advisories once the processor's servicing has ended."""
_UNNAMED = ComponentKind("", "")
_PCE = ComponentKind("Intel's SGX software", "PCE")
_QE = ComponentKind("Intel's SGX software", "quoting enclave")
_MODULE = ComponentKind("OS/VMM", "TDX Module")


@dataclass(frozen=True, slots=True)
class Svns:
    """All SVNs that decide on a machine's status, and which collateral they are compared with."""

    sgx: SgxKind
    kind: PlatformKind
    pce_id: bytes
    components: tuple[int, ...]
    pce_svn: int
    modules: tuple[bytes, ...] = ()
    """TEE_TCB_SVN of a TD's launch, then in TDX 1.5 TEE_TCB_SVN2; none in SGX."""
    quoting_enclave: int | None = None
    """ISVSVN; None if only the platform is known. Then the quoting enclave counts as the newest."""

    @classmethod
    def of_node(cls, sgx: SgxKind, tcb: CertifiedTcb) -> Self:
        return cls(sgx, PlatformKind(tcb.fmspc, tcb.ca, TeeType.SGX), tcb.pce_id, tcb.components, tcb.pce_svn)


@dataclass(frozen=True, slots=True)
class Machine:
    """A node, or the machine of a quote. Either `svns` and `pck_not_after`, or `failure` are known."""

    name: str
    svns: Svns | None = None
    pck_not_after: datetime | None = None
    failure: ConfcomError | None = None
    quote: bytes = b""


@dataclass(frozen=True, slots=True)
class Shortage:
    """One SVN that is lower than an UpToDate machine's."""

    part: str
    has: int
    needs: int
    kind: ComponentKind

    @property
    def text(self) -> str:
        kind = self.kind
        cause = f"-> {kind.category}{f' ({kind.type})' * bool(kind.type)}" if kind.category else ""
        return printable(f"{self.part}: has {self.has}, needs {self.needs} {cause or '(Intel names no cause)'}")


@dataclass(frozen=True, slots=True)
class Judgement:
    status: TcbStatus | None
    """None if the SVNs are below every level of the collateral."""
    evaluation_number: int
    tcb_date: datetime | None
    """The date of the platform's level; None if it reaches none."""
    next_update: datetime
    """When the first part of the collateral expires."""
    advisory_ids: tuple[str, ...]
    shortages: tuple[Shortage, ...]

    @property
    def serviced(self) -> bool:
        return not END_OF_SERVICING.intersection(self.advisory_ids)


def judge(svns: Svns, documents: CollateralDocuments) -> Judgement:
    """Judge SVNs by collateral that is for this kind of platform and was checked."""
    info, identity = documents.tcb_info, documents.qe_identity
    own = (*svns.components, svns.pce_svn)
    qe = MAX_ISV_SVN if svns.quoting_enclave is None else svns.quoting_enclave
    tcb = platform_tcb(info, identity, own, qe, svns.modules)
    shortages = [] if tcb and tcb.status is TcbStatus.UP_TO_DATE else list(_shortages(svns, documents))
    return Judgement(
        tcb.status if tcb else None,
        info.tcb_evaluation_data_number,
        tcb.levels[0].date if tcb else None,
        documents.expires,
        tcb.advisory_ids if tcb else (),
        tuple(dict.fromkeys(shortages)),
    )


def _shortages(svns: Svns, documents: CollateralDocuments) -> Iterator[Shortage]:
    info, own = documents.tcb_info, (*svns.components, svns.pce_svn)
    for number, module in enumerate(svns.modules or (b"",)):
        launch = " at the TD's launch" if not number and len(set(svns.modules)) > 1 else ""
        for index, has, needs, level in _short(info.levels, platform_svns(own, module)):
            kind, part = _PCE, "PCESVN"
            if index != TCB_COMPONENT_COUNT:
                in_tdx = index > TCB_COMPONENT_COUNT
                kinds = level.component_kinds
                kind = kinds[index - in_tdx] if kinds else _UNNAMED
                part = f"TDX component {index - TCB_COMPONENT_COUNT}{launch}" if in_tdx else f"component {index + 1}"
            yield Shortage(part, has, needs, kind)
        if module and (known := info.tdx_modules.get(module[1])):
            for _, has, needs, _ in _short(known.levels, module[:1]):
                yield Shortage(f"TDX module TDX_{module[1]:02X}{launch}", has, needs, _MODULE)
    if svns.quoting_enclave is not None:
        name = "TD_QE" if info.tee is TeeType.TDX else "QE"
        for _, has, needs, _ in _short(documents.qe_identity.levels, (svns.quoting_enclave,)):
            yield Shortage(name, has, needs, _QE)


def _short(levels: Sequence[TcbLevel], own: Sequence[int]) -> list[tuple[int, int, int, TcbLevel]]:
    """Return index, own and demanded SVN of each that is short of the nearest UpToDate level, or else the highest."""
    wanted = [level for level in levels if level.status is TcbStatus.UP_TO_DATE]
    wanted = wanted or sorted(levels, key=lambda level: level.svns)[-1:]
    found = [
        [
            (index, has, needs, level)
            for index, (has, needs) in enumerate(zip(own, level.svns, strict=True))
            if has < needs
        ]
        for level in wanted
    ]
    return min(found, key=lambda short: (len(short), sum(needs - has for _, has, needs, _ in short)), default=[])
