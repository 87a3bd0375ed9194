"""The cases that both TEEs have: the project's table of defects, TCB statuses, stagings, policies, and dates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from confcom.sgx.quote import QuoteFrame
from confcom.sgx.tcb_documents import OUT_OF_DATE, PLATFORM_STATUSES, TcbStatus
from confcom.sgx.tee_type import TeeType
from confcom.simulation.collateral_staging import RECOVERY_NUMBER, Staging
from confcom.simulation.keys import sign
from confcom.simulation.pki import CERTIFICATE_VALIDITY
from testkit.verify import tampering
from testkit.verify.tampering import FALSE, REFUSED, UNUSABLE, VERIFIED
from testkit.verify.verify_lab import CHALLENGE, NOW
from vectors.vector import Case

ADVISORY: Final = "INTEL-SA-00615"
DAY: Final = timedelta(days=1)
HEADERS: Final = {
    TeeType.SGX: {"version 2": (0, 2), "version 4": (0, 4), "key type 3": (2, 3), "TEE type TDX": (4, 0x81)},
    TeeType.TDX: {"version 3": (0, 3), "version 4": (0, 4), "key type 3": (2, 3), "TEE type SGX": (4, 0)},
}
"""Offset and value of declarations that do not fit what follows, although the attestation key signed them."""
STAGINGS: Final = {Staging.NONE: VERIFIED, Staging.REVOKED: FALSE, Staging.EARLY: VERIFIED, Staging.EXPIRED: UNUSABLE}
"""Kinds of verdict on the standard set; with other stagings, it is REFUSED."""


@dataclass(frozen=True, slots=True)
class Cases:
    tee: TeeType
    lab: Any
    """A Lab of testkit: the platform and its keys."""
    made: Callable[..., Any]
    """Makes an Evidence of confcom.testing from the same platform."""
    demands: Mapping[str, Any]
    """A policy that accepts the lab's evidence."""

    def case(self, text: str, kind: Any, evidence: Any, **demands: object) -> Case:
        return Case(text, kind, evidence, {**self.demands, **demands})

    def quoted(self, **settings: Any) -> Any:
        made = self.made(CHALLENGE, **({"now": NOW} | settings))
        return replace(self.lab.evidence(), quote=made.quote, collateral=made.collateral)

    def staged(self, staging: Staging, *, early: bool = False) -> Any:
        return replace(self.lab.evidence(), collateral=self.lab.collateral(staging=staging, early=early))

    def header_signed(self, evidence: Any, offset: int, value: int) -> Any:
        """Change a byte of the header, and sign it again, without another change of the layout."""
        quote = bytearray(evidence.quote)
        size = len(QuoteFrame.parse(evidence.quote).signed_part)
        quote[offset] = value
        quote[size + 4 : size + 68] = sign(self.lab.attestation_key, bytes(quote[:size]))
        return replace(evidence, quote=bytes(quote))

    def shared(self) -> Iterator[Case]:
        good = self.lab.evidence()
        yield self.case("good quote", VERIFIED, good)
        for defect in tampering.cases(self.tee):
            if (self.tee, defect.name) != (TeeType.TDX, "tcb_info of a stranger"):
                text = defect.name if self.tee is TeeType.SGX else defect.name.replace("mr_enclave", "MRTD")
                yield self.case(text, defect.kind, defect.tamper(self.lab, good))
        for text, (offset, value) in HEADERS[self.tee].items():
            changed = self.header_signed(good, offset, value)
            yield self.case(f"header with {text}, signed, in another layout", UNUSABLE, changed)
        yield from self._statuses()
        for staging in Staging:
            kind = STAGINGS.get(staging, REFUSED)
            if self.tee is TeeType.SGX and staging is Staging.RELAUNCH_ADVISED:
                kind = VERIFIED
            yield self.case(f"staging {staging}", kind, self.staged(staging))
        yield self.case("staging early, the early set", REFUSED, self.staged(Staging.EARLY, early=True))
        yield from self._policies(good)
        yield from self._dates(good)

    def _statuses(self) -> Iterator[Case]:
        for status in (status for status in TcbStatus if self.tee is TeeType.TDX or status in PLATFORM_STATUSES):
            kind = {TcbStatus.UP_TO_DATE: VERIFIED, TcbStatus.REVOKED: FALSE}.get(status, REFUSED)
            evidence = self.quoted(tcb=status, advisories=[ADVISORY])
            yield self.case(f"platform {status}", kind, evidence)
            if kind is REFUSED:
                accepted = [status.value]
                yield self.case(f"platform {status}, accepted", VERIFIED, evidence, accepted_tcb_statuses=accepted)
            if status in OUT_OF_DATE:
                evidence = tampering.status("qe_identity", "OutOfDate")(self.lab, evidence)
                yield self.case(f"platform {status}, quoting enclave OutOfDate", REFUSED, evidence)

    def _policies(self, good: Any) -> Iterator[Case]:
        hardening = self.quoted(tcb="SWHardeningNeeded", advisories=[ADVISORY])
        accepting = {"accepted_tcb_statuses": ["UpToDate", "SWHardeningNeeded"]}
        yield self.case("another challenge demanded", REFUSED, good, report_data="11" * 64)
        yield self.case("no challenge demanded", REFUSED, good, report_data=None)
        yield self.case("simulated platforms not accepted", REFUSED, good, allow_simulated=None)
        yield self.case("another machine demanded", REFUSED, good, platforms=["11" * 16])
        yield self.case("later TCB recovery demanded", REFUSED, good, min_tcb_evaluation_number=RECOVERY_NUMBER)
        yield self.case("advisory accepted", VERIFIED, hardening, accepted_advisories=[ADVISORY], **accepting)
        yield self.case("advisory not accepted", REFUSED, hardening, accepted_advisories=[], **accepting)
        yield self.case("advisory rejected", REFUSED, hardening, rejected_advisories=[ADVISORY], **accepting)
        yield self.case("debug, accepted", VERIFIED, self.quoted(debug=True), allow_debug=True)

    def _dates(self, good: Any) -> Iterator[Case]:
        old = self.quoted(now=NOW - 40 * DAY).collateral
        replayed = self.staged(Staging.OUT_OF_DATE).with_collateral(tcb_info=old.tcb_info, qe_identity=old.qe_identity)
        end = NOW + CERTIFICATE_VALIDITY
        yield self.case("old TCB info and QE identity replayed with current revocation lists", UNUSABLE, replayed)
        yield self.case("collateral not yet issued", UNUSABLE, self.quoted(now=NOW + 40 * DAY))
        yield self.case("last day of the collateral", VERIFIED, replace(good, now=NOW + 28 * DAY))
        yield self.case("day after the collateral expired", UNUSABLE, replace(good, now=NOW + 30 * DAY))
        yield self.case("day before the certificates", FALSE, replace(good, now=NOW - 2 * DAY))
        yield self.case("certificates expired", FALSE, replace(self.quoted(now=end), now=end))
