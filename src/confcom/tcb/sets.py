"""The standard and the early set of collateral by which machines are judged, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from confcom.collateral.detached_call import run_apart
from confcom.collateral.fetch_errors import FetchError
from confcom.collateral.pcs_client import FETCH_SECONDS, difference, fetch_evaluation_numbers, fetch_set
from confcom.collateral.source import Source
from confcom.errors import MalformedError
from confcom.sgx.certificates import load_certificate
from confcom.sgx.certification import split_pem_chain
from confcom.sgx.collateral_bundle import CollateralDocuments
from confcom.sgx.collateral_json import MAX_JSON_SIZE, PlatformKind, decode_json
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


class SetSource(Protocol):
    def collateral(self, kind: PlatformKind, *, early: bool) -> Collateral | None:
        """Return a set for a kind of platform, unchecked; None if there is no early set.

        Raises:
            FetchError: a service did not serve it.
            MalformedError: it cannot be read, or it is for other platforms.
        """

    def numbers(self, tee: TeeType) -> tuple[bytes, bytes] | None:
        """Return the list of all sets and its signer's chain, unchecked; None if there is none."""


@dataclass(frozen=True, slots=True)
class ServedSets:
    """Sets of a service of collateral."""

    source: Source

    def collateral(self, kind: PlatformKind, *, early: bool) -> Collateral:
        return run_apart(fetch_set(kind, self.source, early=early, evaluation=None, seconds=FETCH_SECONDS))

    def numbers(self, tee: TeeType) -> tuple[bytes, bytes]:
        return run_apart(fetch_evaluation_numbers(tee, self.source, seconds=FETCH_SECONDS))


@dataclass(frozen=True, slots=True)
class FileSets:
    """Sets in files of a person; the one with the greatest evaluation number is the early set."""

    files: Sequence[Path]

    def collateral(self, kind: PlatformKind, *, early: bool) -> Collateral | None:
        found = dict[int, Collateral]()
        refused: MalformedError = CollateralError("no collateral was given")
        for file in self.files:
            for newest in (False, True):
                try:
                    one = _read(file, kind, early=newest)
                    if why := difference(one, kind, None):
                        refused = CollateralError(
                            f"{file} is for other machines", error_code="collateral-platform", why=why
                        )
                    else:
                        found[one.evaluation_number] = one
                except MalformedError as error:
                    refused = error
        if not found:
            raise refused
        return found[min(found)] if not early else found[max(found)] if len(found) > 1 else None

    def numbers(self, tee: TeeType) -> None:
        del tee


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
        return Collateral.from_files(made.to_files())

    def numbers(self, tee: TeeType) -> tuple[bytes, bytes]:
        pki = self.platform.pki
        return create_evaluation_numbers(pki, self.now, self.staging, tee), pki.tcb_signer.pem + pki.root.pem


@dataclass(frozen=True, slots=True)
class Sets:
    """Checked sets for one kind of platform."""

    standard: PreparedCollateral
    early: PreparedCollateral | None = None
    recovery_dates: Mapping[int, datetime] = field(default_factory=dict)
    """Keyed by a set's evaluation number: the date of its TCB recovery, as far as the service says it."""
    notes: tuple[str, ...] = ()
    """Why the early set or the dates are missing."""


def read_sets(source: SetSource, root: TrustedRoot, kind: PlatformKind, now: datetime) -> Sets:
    """Read both sets and the list of sets, and check each under the root.

    Raises:
        FetchError: the standard set was not served.
        CollateralError, MalformedError: one of them is forged, expired, malformed or for other platforms.
    """
    notes, early, dates = list[str](), None, dict[int, datetime]()
    standard = _checked(source.collateral(kind, early=False), root, kind, now)
    assert standard is not None
    try:
        early = _checked(source.collateral(kind, early=True), root, kind, now)
    except FetchError as error:
        notes.append(f"no early set: {error}")
    try:
        if listed := source.numbers(kind.tee):
            dates = _recovery_dates(*listed, standard, now)
    except FetchError as error:
        notes.append(f"no dates of sets: {error}")
    return Sets(standard, early, dates, tuple(notes))


def _checked(
    collateral: Collateral | None, root: TrustedRoot, kind: PlatformKind, now: datetime
) -> PreparedCollateral | None:
    if collateral is None:
        return None
    if why := difference(collateral, kind, None):
        raise CollateralError("the collateral is for other machines", error_code="collateral-platform", why=why)
    return collateral.prepared(root, now)


def _recovery_dates(document: bytes, chain: bytes, checked: PreparedCollateral, now: datetime) -> dict[int, datetime]:
    """Read the list of sets, and check it as TCB info is checked, under the same root and revocation list."""
    numbers, info = EvaluationNumbers.parse(document), checked.documents.tcb_info
    issuers = tuple(load_certificate(pem, "a certificate of the list of sets") for pem in split_pem_chain(chain))
    signed: CollateralDocuments = replace(
        checked.documents,
        tcb_info=replace(info, signed=numbers.signed),
        tcb_info_issuers=issuers,
        periods=(("the list of sets", numbers.issue_date, numbers.next_update),),
    )
    root = checked.root.certificate
    signers = signers_check(signed, root), signers_revocation_check(signed)
    require_passed(currency_check(signed, now), *signers, signatures_check(signed))
    if numbers.tee is not info.tee:
        why = f"it is for {numbers.tee.name}"
        raise CollateralError("the list of sets is for other machines", error_code="collateral-platform", why=why)
    return dict(numbers.recovery_dates)
