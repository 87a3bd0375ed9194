"""Strict parsing of TCB info and QE identity, Intel's statements about platforms and quoting enclaves.

Formats: PCS API v4, TCB info version 3 and QE identity version 2, for SGX and for TDX. This module only parses the
documents; the verifier compares a platform with their TCB levels.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Self

from confcom.errors import MalformedError
from confcom.sgx.pck.extension import FMSPC_SIZE, MAX_COMPONENT_SVN, MAX_PCE_SVN, PCE_ID_SIZE, TCB_COMPONENT_COUNT
from confcom.sgx.signed_json import JsonObject, SignedJson
from confcom.sgx.simulation_marks import SIMULATION_MEMBER
from confcom.sgx.td_report import SEAM_ATTRIBUTES_SIZE, TD_MEASUREMENT_SIZE
from confcom.sgx.tee_type import TeeType

TCB_INFO_NAME = "tcbInfo"
TCB_INFO_VERSION = 3
QE_IDENTITY_NAME = "enclaveIdentity"
QE_IDENTITY_VERSION = 2
EVALUATION_NUMBERS_NAME = "tcbEvaluationDataNumbers"
EVALUATION_NUMBERS_VERSION = 1
MAX_ISV_SVN = 0xFFFF
"""Greatest ISVSVN and ISVPRODID; both have 16 bits in every report."""


class TcbStatus(StrEnum):
    """The status of a platform's TCB level (tcbStatus of Intel's PCS API v4), or of a quote."""

    UP_TO_DATE = "UpToDate"
    """All updates are installed."""
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    """Up to date, but enclaves may need to be hardened in software against an advisory."""
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    """Up to date, but the platform may need another configuration, for example of its BIOS."""
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    """Both ConfigurationNeeded and SWHardeningNeeded."""
    OUT_OF_DATE = "OutOfDate"
    """Updates are missing."""
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    """Updates are missing, and the platform may need another configuration."""
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    """Only of TDX quotes: updates were missing when the TD was launched, and the TDX module has them now."""
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"
    """TDRelaunchAdvised, and the platform may need another configuration."""
    REVOKED = "Revoked"
    """The platform's keys are known to be compromised. No policy accepts this status."""


OUT_OF_DATE = {
    TcbStatus.UP_TO_DATE: TcbStatus.OUT_OF_DATE,
    TcbStatus.SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE,
    TcbStatus.CONFIGURATION_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
}
"""A quote's status if the quoting enclave is out of date, keyed by the platform's status (QVL's TCB convergence)."""
QE_STATUSES = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED})
"""Statuses of the levels of a quoting enclave or TDX module (PCS API v4, enclave identity); dcap-qvl treats other
statuses of a quoting enclave as UpToDate."""
PLATFORM_STATUSES = frozenset(TcbStatus) - {
    TcbStatus.TD_RELAUNCH_ADVISED,
    TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
}
"""Statuses of a platform's levels (PCS API v4, TCB info)."""


@dataclass(frozen=True, slots=True)
class ComponentKind:
    """The installation that raises the SVN of a TCB component; both texts are empty in components without a meaning."""

    category: str
    """The one who installs it: `BIOS` or `OS/VMM`."""
    type: str
    """What is installed, such as `SGX Late Microcode Update`; collateral before 2025 may have no types."""


@dataclass(frozen=True, slots=True)
class TcbLevel:
    svns: tuple[int, ...]
    """The SVNs of a platform's 16 SGX components, its PCE, and in TDX its 16 TDX components; or the ISVSVN of a quoting
    enclave or TDX module."""
    date: datetime
    status: TcbStatus
    advisory_ids: tuple[str, ...]
    component_kinds: tuple[ComponentKind, ...] = field(default=(), compare=False)
    """The kinds of a platform's SGX components, then of its TDX components."""


@dataclass(frozen=True, slots=True)
class TdxModule:
    """The TDX modules of one version: who signs them, and their TCB levels."""

    mr_signer: bytes
    """MRSIGNERSEAM, 48 bytes."""
    attributes: bytes
    """SEAMATTRIBUTES, 8 bytes."""
    attributes_mask: bytes
    levels: tuple[TcbLevel, ...]
    """None for version 0, whose SVN is a component of the platform's levels."""


@dataclass(frozen=True, slots=True)
class _Document:
    signed: SignedJson
    tee: TeeType
    """The kind of the quotes that the document is about."""
    issue_date: datetime
    next_update: datetime


@dataclass(frozen=True, slots=True)
class TcbInfo(_Document):
    """TCB info of one family of platforms (FMSPC)."""

    fmspc: bytes
    pce_id: bytes
    tcb_type: int
    tcb_evaluation_data_number: int
    levels: tuple[TcbLevel, ...]
    tdx_modules: Mapping[int, TdxModule]
    """The TDX modules, keyed by their version; empty in TCB info for SGX."""
    simulation: bool
    """Whether the document has the additional member that marks a simulated platform's collateral."""

    @classmethod
    def parse(cls, document: bytes) -> Self:
        info, signed, tee, dates = _opened(document, TCB_INFO_NAME, TCB_INFO_VERSION)
        return cls(
            signed,
            tee,
            *dates,
            fmspc=info.hexadecimal("fmspc", FMSPC_SIZE),
            pce_id=info.hexadecimal("pceId", PCE_ID_SIZE),
            tcb_type=info.integer("tcbType"),
            tcb_evaluation_data_number=info.integer("tcbEvaluationDataNumber"),
            levels=tuple(_tcb_level(level, tee) for level in info.children("tcbLevels")),
            tdx_modules=_tdx_modules(info) if tee is TeeType.TDX else {},
            simulation=info.has(SIMULATION_MEMBER),
        )


@dataclass(frozen=True, slots=True)
class QeIdentity(_Document):
    """QE identity: which quoting enclave is trusted, and its TCB levels."""

    tcb_evaluation_data_number: int
    misc_select: bytes
    misc_select_mask: bytes
    attributes: bytes
    attributes_mask: bytes
    mr_signer: bytes
    isv_prod_id: int
    levels: tuple[TcbLevel, ...]
    simulation: bool

    @classmethod
    def parse(cls, document: bytes) -> Self:
        ids = {tee.qe_identity_id: tee for tee in TeeType}
        identity, signed, tee, dates = _opened(document, QE_IDENTITY_NAME, QE_IDENTITY_VERSION, ids)
        return cls(
            signed,
            tee,
            *dates,
            tcb_evaluation_data_number=identity.integer("tcbEvaluationDataNumber"),
            misc_select=identity.hexadecimal("miscselect", 4),
            misc_select_mask=identity.hexadecimal("miscselectMask", 4),
            attributes=identity.hexadecimal("attributes", 16),
            attributes_mask=identity.hexadecimal("attributesMask", 16),
            mr_signer=identity.hexadecimal("mrsigner", 32),
            isv_prod_id=identity.integer("isvprodid", MAX_ISV_SVN),
            levels=tuple(_isv_level(level, MAX_ISV_SVN) for level in identity.children("tcbLevels")),
            simulation=identity.has(SIMULATION_MEMBER),
        )


@dataclass(frozen=True, slots=True)
class EvaluationNumbers(_Document):
    """The list of all sets of collateral that are served."""

    recovery_dates: Mapping[int, datetime]
    """Keyed by a set's TCB evaluation data number: the date of its TCB recovery."""

    @classmethod
    def parse(cls, document: bytes) -> Self:
        numbers, signed, tee, dates = _opened(document, EVALUATION_NUMBERS_NAME, EVALUATION_NUMBERS_VERSION)
        sets = numbers.children("tcbEvalNumbers")
        recoveries = {one.integer("tcbEvaluationDataNumber"): one.date("tcbRecoveryEventDate") for one in sets}
        return cls(signed, tee, *dates, recoveries)


def _opened(
    data: bytes, name: str, version: int, ids: Mapping[str, TeeType] = TeeType.__members__
) -> tuple[JsonObject, SignedJson, TeeType, tuple[datetime, datetime]]:
    """Return a document with the parts that each kind has. The `id` of TCB info is the TEE's name (PCS API v4)."""
    signed = SignedJson.parse(data, name)
    document = signed.read()
    kind, found = document.text("id"), document.integer("version")
    if kind not in ids or found != version:
        raise MalformedError(
            f"{document.path} of version {found} with the id {kind[:40]!r} cannot be read",
            error_code="unsupported-document",
            why=f"its version can be {version}, and its id {' or '.join(ids)}",
            remedy="fetch it from the service's paths of API v4 for SGX, or from those for TDX",
        )
    return document, signed, ids[kind], (document.date("issueDate"), document.date("nextUpdate"))


def _tcb_level(level: JsonObject, tee: TeeType) -> TcbLevel:
    tcb = level.child("tcb")
    components = _components(tcb, "sgxtcbcomponents")
    svns = [*(svn for svn, _ in components), tcb.integer("pcesvn", MAX_PCE_SVN)]
    if tee is TeeType.TDX:
        tdx_components = _components(tcb, "tdxtcbcomponents")
        svns += [svn for svn, _ in tdx_components]
        components += tdx_components
    return TcbLevel(tuple(svns), *_rating(level, PLATFORM_STATUSES), tuple(kind for _, kind in components))


def _components(tcb: JsonObject, name: str) -> list[tuple[int, ComponentKind]]:
    components = tcb.children(name)
    if len(components) != TCB_COMPONENT_COUNT:
        what = f"{tcb.path}.{name} has {len(components)} components, not {TCB_COMPONENT_COUNT}"
        raise MalformedError(what, error_code="wrong-member")
    return [
        (each.integer("svn", MAX_COMPONENT_SVN), ComponentKind(_optional(each, "category"), _optional(each, "type")))
        for each in components
    ]


def _optional(component: JsonObject, name: str) -> str:
    return component.text(name) if component.has(name) else ""


def _tdx_modules(info: JsonObject) -> Mapping[int, TdxModule]:
    modules = {0: _tdx_module(info.child("tdxModule"), ())}
    for identity in info.children("tdxModuleIdentities") if info.has("tdxModuleIdentities") else ():
        matched = _MODULE_ID.fullmatch(identity.text("id"))
        version = int(matched[1], 16) if matched else 0
        if version in modules:
            why = "it is TDX_ and a version of the module from 01 to FF, and each version has one identity"
            raise MalformedError(f"{identity.path}.id is not an id", error_code="wrong-member", why=why)
        levels = tuple(_isv_level(level, MAX_COMPONENT_SVN) for level in identity.children("tcbLevels"))
        modules[version] = _tdx_module(identity, levels)
    return modules


_MODULE_ID = re.compile("TDX_([0-9A-F]{2})", re.IGNORECASE)


def _tdx_module(module: JsonObject, levels: tuple[TcbLevel, ...]) -> TdxModule:
    return TdxModule(
        mr_signer=module.hexadecimal("mrsigner", TD_MEASUREMENT_SIZE),
        attributes=module.hexadecimal("attributes", SEAM_ATTRIBUTES_SIZE),
        attributes_mask=module.hexadecimal("attributesMask", SEAM_ATTRIBUTES_SIZE),
        levels=levels,
    )


def _isv_level(level: JsonObject, most: int) -> TcbLevel:
    return TcbLevel((level.child("tcb").integer("isvsvn", most),), *_rating(level, QE_STATUSES))


def _rating(level: JsonObject, statuses: frozenset[TcbStatus]) -> tuple[datetime, TcbStatus, tuple[str, ...]]:
    text = level.text("tcbStatus")
    status = next((status for status in statuses if status == text), None)
    if status is None:
        raise MalformedError(
            f"{level.path}.tcbStatus is not a status that Intel documents: {text[:40]!r}",
            error_code="unknown-tcb-status",
            why="verifiers would not agree on what it means",
            remedy="fetch the collateral again, from Intel's own service or a cache of it",
        )
    advisories = level.texts("advisoryIDs") if level.has("advisoryIDs") else ()
    return level.date("tcbDate"), status, advisories
