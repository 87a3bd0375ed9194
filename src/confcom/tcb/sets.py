"""The standard and the early set of a kind of platform, from a service, files, or a simulated root, and their check."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from confcom.collateral.detached_call import run_apart
from confcom.collateral.fetch_errors import FetchError
from confcom.collateral.pcs_client import FETCH_SECONDS, difference, fetch_evaluation_numbers, fetch_set
from confcom.collateral.source import Source
from confcom.errors import MalformedError
from confcom.sgx.certificates import load_certificate
from confcom.sgx.certification import split_pem_chain
from confcom.sgx.collateral_json import MAX_JSON_SIZE, PlatformKind, decode_json
from confcom.sgx.pck.platform_page import SgxKind
from confcom.sgx.tcb_documents import EvaluationNumbers
from confcom.sgx.tee_type import TeeType
from confcom.simulation.collateral_staging import Staging
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.simulated_collateral import create_evaluation_numbers
from confcom.verify import Collateral, CollateralError, PreparedCollateral, TrustedRoot, read_collateral
from confcom.verify.checks.collateral import currency_check, signatures_check, signers_check
from confcom.verify.checks.revocation import signers_revocation_check
from confcom.verify.files import read_regular_file
from confcom.verify.prepared_collateral import require_passed
from confcom.verify.trust import Platform

_OF_OTHERS = frozenset({"collateral-json", "collateral-platform", "wrong-member"})
"""Codes of a file that has no set for a kind of platform, and may have one for another."""


@dataclass(frozen=True, slots=True)
class ServedSets:
    source: Source

    def collateral(self, kind: PlatformKind, *, early: bool) -> Collateral:
        return run_apart(fetch_set(kind, self.source, early=early, seconds=FETCH_SECONDS))

    def numbers(self, tee: TeeType) -> tuple[bytes, bytes]:
        return run_apart(fetch_evaluation_numbers(tee, self.source, seconds=FETCH_SECONDS))


@dataclass(frozen=True, slots=True)
class FileSets:
    """Sets in files, at least one. Of two or more, the one with the lowest evaluation number is the standard set."""

    files: Sequence[Path]

    def collateral(self, kind: PlatformKind, *, early: bool) -> Collateral:
        found, refused = dict[int, Collateral](), list[MalformedError]()
        for file in self.files:
            for update in (False, True):
                try:
                    one = _read(file, kind, early=update)
                    _require_kind(one, kind, str(file))
                    found[one.evaluation_number] = one
                except MalformedError as error:
                    if error.error_code not in _OF_OTHERS:
                        raise
                    refused.append(error)
        if not found:
            raise refused[0]
        if early and len(self.files) == len(found) == 1:
            what = f"the only file has set {min(found)}, and no early set"
            raise FetchError(what, error_code="early-set-missing", remedy="also pass the set that fetch --early writes")
        return found[max(found) if early else min(found)]

    def numbers(self, tee: TeeType) -> tuple[bytes, bytes]:
        del tee
        return b"", b""


def _read(file: Path, kind: PlatformKind, *, early: bool) -> Collateral:
    if not file.is_file():
        return read_collateral(file)
    return Collateral(**decode_json(read_regular_file(file, MAX_JSON_SIZE), kind, early=early))


@dataclass(frozen=True, slots=True)
class SimulatedSets:
    """The sets of a cluster's simulated root, with the staging that the release has."""

    platform: SimulatedPlatform
    staging: Staging
    now: datetime

    def collateral(self, kind: PlatformKind, *, early: bool) -> Collateral:
        made = self.platform.collateral(self.now, staging=self.staging, early=early, tee=kind.tee)
        collateral = Collateral.from_files(made.to_files())
        _require_kind(collateral, kind, "the collateral")
        return collateral

    def numbers(self, tee: TeeType) -> tuple[bytes, bytes]:
        pki = self.platform.pki
        return create_evaluation_numbers(pki, self.now, self.staging, tee), pki.tcb_signer.pem + pki.root.pem


@dataclass(frozen=True, slots=True)
class Trust:
    """Where the sets of machines come from, and the root that must have signed sets and quotes."""

    source: ServedSets | FileSets | SimulatedSets
    """Its sets, and its list of all sets with the signer's chain (empty if there is none), are unchecked."""
    root: TrustedRoot

    @property
    def sgx(self) -> SgxKind:
        return SgxKind.SIMULATED if self.root.platform is Platform.SIMULATED else SgxKind.HARDWARE


@dataclass(frozen=True, slots=True)
class Sets:
    standard: PreparedCollateral
    early: PreparedCollateral | None = None
    recovery_dates: Mapping[int, datetime] = field(default_factory=dict)
    """Keyed by a set's evaluation number: the date of its TCB recovery, as far as the service says it."""
    notes: tuple[str, ...] = ()
    """Why the early set or the dates are missing."""


def read_sets(trust: Trust, kind: PlatformKind, now: datetime, *, need_early: bool) -> Sets:
    """Read both sets and the list of sets, and check each under the root; raise the failure of a needed set."""
    notes, early, dates, source, root = list[str](), None, dict[int, datetime](), trust.source, trust.root
    standard = source.collateral(kind, early=False).prepared(root, now)
    try:
        early = source.collateral(kind, early=True).prepared(root, now)
    except FetchError as error:
        if need_early:
            raise
        notes.append(f"no early set: {error}")
    try:
        document, chain = source.numbers(kind.tee)
        dates = _recovery_dates(document, chain, standard, now) if document else dates
    except (FetchError, MalformedError) as error:
        notes.append(f"no dates of sets: {error}")
    return Sets(standard, early, dates, tuple(notes))


def _require_kind(collateral: Collateral, kind: PlatformKind, name: str) -> None:
    if why := difference(collateral, kind):
        raise CollateralError(f"{name} is for other machines", error_code="collateral-platform", why=why)


def _recovery_dates(document: bytes, chain: bytes, checked: PreparedCollateral, now: datetime) -> dict[int, datetime]:
    """Read the list of sets, and check it as TCB info is checked, under the same root and revocation list."""
    numbers, info = EvaluationNumbers.parse(document), checked.documents.tcb_info
    signed = replace(
        checked.documents,
        tcb_info=replace(info, signed=numbers.signed),
        tcb_info_issuers=tuple(load_certificate(pem, "a signer of the list of sets") for pem in split_pem_chain(chain)),
        periods=(("the list of sets", numbers.issue_date, numbers.next_update),),
    )
    signers = signers_check(signed, checked.root.certificate), signers_revocation_check(signed)
    require_passed(currency_check(signed, now), *signers, signatures_check(signed))
    if numbers.tee is not info.tee:
        raise CollateralError(f"the list of sets is for {numbers.tee.name}", error_code="collateral-platform")
    return dict(numbers.recovery_dates)
