"""Collateral for relying parties, and PreparedCollateral, which is parsed and checked once for many quotes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from confcom.errors import MalformedError, WrongTypeError
from confcom.sgx.collateral_bundle import CollateralBundle
from confcom.sgx.collateral_json import PlatformKind, decode_json, encode_json
from confcom.sgx.pck.chain import PckChain, pck_ca
from confcom.sgx.pck.extension import PckExtension
from confcom.sgx.quote import Quote, QuoteFrame, tee_of
from confcom.sgx.tee_type import TeeType
from confcom.verify import argument_types
from confcom.verify.argument_types import require_instant
from confcom.verify.checks.authenticity import KeyCertification
from confcom.verify.checks.collateral import (
    currency_check,
    evaluation_check,
    nearest_valid,
    signatures_check,
    signers_check,
)
from confcom.verify.checks.dcap_qvl_appraisal import Appraiser
from confcom.verify.checks.marks import collateral_marks_check, present_collateral_marks
from confcom.verify.checks.revocation import crl_check, signers_revocation_check
from confcom.verify.trust import INTEL, KnownRoot, TrustedRoot, trusted_root
from confcom.verify.verdict import Check, CheckStatus

MAX_KNOWN_KEYS: Final = 256
"""Number of attestation keys whose certification is cached. A platform has one key at a time. Values have
under 40 KiB, in TDX with 8 judgements of 2 KiB more, and cache keys at most 16 KiB: the cache stays below 18 MiB."""
MAX_KNOWN_PART: Final = 16 * 1024
"""Limit in bytes of a cached key, QE report and certificates; real ones have under 5 KiB, more is not cached."""


class CollateralError(MalformedError):
    """Collateral is not current, or another authority signed it; the error code names the failed check."""


@dataclass(frozen=True, slots=True, repr=False)
class Collateral(CollateralBundle):
    """TCB info, QE identity and revocation lists of one kind of platform and one TEE, each byte for byte as served.

    `read_collateral`, `Collateral.from_json` and `confcom.collateral` make Collateral objects.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            if not isinstance(value := getattr(self, field.name), bytes):
                raise WrongTypeError(f"the collateral's {field.name}", "bytes, as they were served", value)

    @classmethod
    def from_json(cls, data: bytes | str, quote: bytes | None = None) -> Self:
        """Read collateral from dcap-qvl's JSON, or from Intel's platform_collaterals.json.

        Args:
            data: the content of the file.
            quote: selects the standard set for this quote's platform from Intel's file, if the file has several sets.

        Raises:
            MalformedError: the file has another form, does not have the set, or has a part that cannot be
                parsed; or the quote has no readable PCK certificate.
        """
        if not isinstance(data, (bytes, str)):
            raise WrongTypeError("the collateral", "bytes or text", data)
        collateral = cls(**decode_json(data, None if quote is None else platform_kind(quote)))
        collateral.read()
        return collateral

    def to_json(self) -> str:
        """Return the collateral in dcap-qvl's JSON form, which `from_json` reads."""
        return encode_json({field.name: getattr(self, field.name) for field in fields(self)})

    @property
    def expires(self) -> datetime:
        """The earliest instant at which a part expires. Raises MalformedError if a part cannot be read."""
        return self.read().expires

    @property
    def evaluation_number(self) -> int:
        """The TCB evaluation data number of the TCB info. Raises MalformedError if a part cannot be read."""
        return self.read().tcb_info.tcb_evaluation_data_number

    def prepared(
        self,
        root: TrustedRoot | KnownRoot = INTEL,
        now: datetime | None = None,
        *,
        clock_leeway: timedelta = timedelta(0),
    ) -> PreparedCollateral:
        """Parse and check, once for many calls of `verify`, everything that does not depend on a quote.

        Args:
            root: the root under which quotes will be verified.
            now: the instant at which the collateral must be current (None: the present); `verify` checks it again.
            clock_leeway: by how much this machine's clock may be wrong, as in the policy.

        Raises:
            CollateralError: a part is not current, another authority signed it, or its marks of simulation do not agree
                with the root.
            MalformedError: a part cannot be read.
        """
        prepared = PreparedCollateral(self, trusted_root(root))
        instant = datetime.now(UTC) if now is None else require_instant(now)
        leeway = argument_types.clock_leeway("clock_leeway", clock_leeway)
        instant = nearest_valid(instant, [period[1:] for period in prepared.documents.validity_periods], leeway)
        require_passed(currency_check(prepared.documents, instant), *prepared.checks)
        return prepared


def require_passed(*checks: Check) -> None:
    for check in checks:
        if check.status is CheckStatus.FAILED:
            raise CollateralError(
                "the collateral cannot be used",
                error_code=check.code,
                why=f"required: {check.required}; found: {check.found}",
                remedy=check.why,
            )


def platform_kind(quote: bytes) -> PlatformKind:
    """Return the kind of platform that made a quote, according to the quote's TEE type and PCK certificate."""
    if not isinstance(quote, bytes):
        raise WrongTypeError("the quote", "bytes", quote)
    parsed = Quote.parse(quote)
    leaf = PckChain.from_quote(parsed).leaf
    return PlatformKind(PckExtension.from_certificate(leaf).fmspc, pck_ca(leaf.issuer), tee_of(parsed.body))


class PreparedCollateral:
    """Collateral that was parsed and checked under one root, for many quotes; `Collateral.prepared` makes it.

    Each call of `verify` checks the expiry. The object caches the certification of the last 256 attestation keys.
    Threads may share the object; pickled for another process, it holds collateral and root to be parsed there.
    """

    def __init__(self, collateral: CollateralBundle, root: TrustedRoot) -> None:
        self.collateral = collateral
        self.root = root
        self.documents = collateral.read()
        self.present_marks = present_collateral_marks(self.documents)
        self.checks: tuple[Check, ...] = (
            evaluation_check(self.documents),
            signers_check(self.documents, root.certificate),
            signatures_check(self.documents),
            crl_check(self.documents, root.certificate),
            signers_revocation_check(self.documents),
            collateral_marks_check(self.documents, root.platform),
        )
        self.appraiser = Appraiser(root.der, collateral, self.documents)
        self._known: OrderedDict[tuple[TeeType, bytes], KeyCertification] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        return PreparedCollateral, (self.collateral, self.root)

    def certification(self, data: bytes, frame: QuoteFrame) -> KeyCertification:
        """Return the certification of a quote's attestation key. `frame` was parsed from `data`, the quote's bytes."""
        part = frame.certifying_part
        key = tee_of(frame.body), part
        with self._lock:
            if (known := self._known.get(key)) is not None:
                self._known.move_to_end(key)
                return known
        certification = KeyCertification.of(Quote.parse(data), self.root, self.documents)
        if certification.problem is None and len(part) <= MAX_KNOWN_PART:  # forged keys must not evict genuine entries
            with self._lock:
                self._known[key] = certification
                if len(self._known) > MAX_KNOWN_KEYS:
                    self._known.popitem(last=False)
        return certification
