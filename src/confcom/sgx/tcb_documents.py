"""Strict parsing of TCB info and QE identity, Intel's statements about platforms and quoting enclaves.

Formats: PCS API v4, TCB info version 3 and QE identity version 2, both for SGX. This module only parses the
documents; the verifier compares a platform with their TCB levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self

from confcom.errors import MalformedError
from confcom.sgx.pck.extension import FMSPC_SIZE, MAX_COMPONENT_SVN, MAX_PCE_SVN, PCE_ID_SIZE, TCB_COMPONENT_COUNT
from confcom.sgx.signed_json import JsonObject, SignedJson
from confcom.sgx.simulation_marks import SIMULATION_MEMBER

TCB_INFO_NAME = "tcbInfo"
TCB_INFO_VERSION = 3
QE_IDENTITY_NAME = "enclaveIdentity"
QE_IDENTITY_VERSION = 2
MAX_ISV_SVN = 0xFFFF
"""Greatest ISVSVN and ISVPRODID; both have 16 bits in every report."""


class TcbStatus(StrEnum):
    """The status of a platform's TCB level (tcbStatus of Intel's PCS API v4)."""

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
"""Statuses of a quoting enclave's levels (PCS API v4, enclave identity); dcap-qvl treats other statuses as
UpToDate."""


@dataclass(frozen=True, slots=True)
class TcbLevel:
    svns: tuple[int, ...]
    """The SVNs of a platform's 16 components and PCE, or the ISVSVN of a quoting enclave."""
    date: datetime
    status: TcbStatus
    advisory_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TcbInfo:
    """TCB info of one family of platforms (FMSPC)."""

    signed: SignedJson
    issue_date: datetime
    next_update: datetime
    fmspc: bytes
    pce_id: bytes
    tcb_type: int
    tcb_evaluation_data_number: int
    levels: tuple[TcbLevel, ...]
    simulation: Mapping[str, object] | None
    """The additional object that marks a simulated platform's collateral; None in Intel's collateral."""

    @classmethod
    def parse(cls, document: bytes) -> Self:
        signed = SignedJson.parse(document, TCB_INFO_NAME)
        info = signed.read()
        _require(info, "SGX", TCB_INFO_VERSION)
        return cls(
            signed=signed,
            issue_date=info.date("issueDate"),
            next_update=info.date("nextUpdate"),
            fmspc=info.hexadecimal("fmspc", FMSPC_SIZE),
            pce_id=info.hexadecimal("pceId", PCE_ID_SIZE),
            tcb_type=info.integer("tcbType"),
            tcb_evaluation_data_number=info.integer("tcbEvaluationDataNumber"),
            levels=tuple(_tcb_level(level) for level in info.children("tcbLevels")),
            simulation=_simulation(info),
        )


@dataclass(frozen=True, slots=True)
class QeIdentity:
    """QE identity: which quoting enclave is trusted, and its TCB levels."""

    signed: SignedJson
    issue_date: datetime
    next_update: datetime
    tcb_evaluation_data_number: int
    misc_select: bytes
    misc_select_mask: bytes
    attributes: bytes
    attributes_mask: bytes
    mr_signer: bytes
    isv_prod_id: int
    levels: tuple[TcbLevel, ...]
    simulation: Mapping[str, object] | None
    """The additional object that marks a simulated platform's collateral, as in TCB info."""

    @classmethod
    def parse(cls, document: bytes) -> Self:
        signed = SignedJson.parse(document, QE_IDENTITY_NAME)
        identity = signed.read()
        _require(identity, "QE", QE_IDENTITY_VERSION)
        return cls(
            signed=signed,
            issue_date=identity.date("issueDate"),
            next_update=identity.date("nextUpdate"),
            tcb_evaluation_data_number=identity.integer("tcbEvaluationDataNumber"),
            misc_select=identity.hexadecimal("miscselect", 4),
            misc_select_mask=identity.hexadecimal("miscselectMask", 4),
            attributes=identity.hexadecimal("attributes", 16),
            attributes_mask=identity.hexadecimal("attributesMask", 16),
            mr_signer=identity.hexadecimal("mrsigner", 32),
            isv_prod_id=identity.integer("isvprodid", MAX_ISV_SVN),
            levels=tuple(_qe_tcb_level(level) for level in identity.children("tcbLevels")),
            simulation=_simulation(identity),
        )


def _require(document: JsonObject, kind: str, version: int) -> None:
    if document.text("id") != kind:
        raise MalformedError(
            f"this {document.path} is for {document.text('id')}, not for {kind}",
            error_code="document-for-tdx",
            remedy="fetch it from the service's paths for SGX, not from those for TDX",
        )
    if document.integer("version") != version:
        raise MalformedError(
            f"{document.path} of version {document.integer('version')} cannot be read",
            error_code="unsupported-document-version",
            remedy=f"fetch version {version}, which API v4 serves",
        )


def _tcb_level(level: JsonObject) -> TcbLevel:
    tcb = level.child("tcb")
    components = tuple(c.integer("svn", MAX_COMPONENT_SVN) for c in tcb.children("sgxtcbcomponents"))
    if len(components) != TCB_COMPONENT_COUNT:
        what = f"{tcb.path} has {len(components)} components, not {TCB_COMPONENT_COUNT}"
        raise MalformedError(what, error_code="wrong-member")
    return TcbLevel((*components, tcb.integer("pcesvn", MAX_PCE_SVN)), *_rating(level, frozenset(TcbStatus)))


def _qe_tcb_level(level: JsonObject) -> TcbLevel:
    return TcbLevel((level.child("tcb").integer("isvsvn", MAX_ISV_SVN),), *_rating(level, QE_STATUSES))


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


def _simulation(document: JsonObject) -> Mapping[str, object] | None:
    return document.child(SIMULATION_MEMBER).members if document.has(SIMULATION_MEMBER) else None
