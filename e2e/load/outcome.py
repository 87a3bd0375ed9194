"""Results of a load, client by client, and whether every single quote verifies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from confcom.sgx.quote import Quote
from e2e.load.client import Attestation
from e2e.load.pods import Load, LoadPod
from e2e.relying_party import Quoted, RelyingParty

OFFERED_SHARE = 0.9
"""Least share of the planned attestations that a client must make; with fewer, the load was too small."""

CLIENT_SECONDS = 15.0
"""Longest wait of a client for an answer. A failed attestation may have begun this long before the fault."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Results of all attestations of a load's clients, by Pod."""

    attestations: dict[LoadPod, tuple[Attestation, ...]]

    @classmethod
    def of(cls, load: Load) -> Outcome:
        return cls({pod: tuple(pod.attestations()) for pod in load.pods})

    @classmethod
    def verified(cls, load: Load, party: RelyingParty) -> Outcome:
        load.stop()
        outcome = cls.of(load)
        assert party.complaints(outcome.quotes) == []
        return outcome

    @property
    def quotes(self) -> list[Quoted]:
        return [quote for done in self.attestations.values() for one in done for quote in one.quotes]

    @property
    def failures(self) -> list[tuple[float, str]]:
        """Failed attestations: when each began, and the Pod's name with the client's complaint."""
        return [
            (one.began, f"{pod.name} ({pod.client}): {one.failure}")
            for pod, done in self.attestations.items()
            for one in done
            if one.failure
        ]

    @property
    def renewals(self) -> list[float]:
        """Begin times of the attestations in which a client got error 42 and called InitQuoteEx again."""
        return [one.began for done in self.attestations.values() for one in done for _ in range(one.renewals)]

    @property
    def quoting_enclaves(self) -> Counter[tuple[bytes, int]]:
        """Number of quotes that each quoting enclave signed, keyed by the enclave's MRENCLAVE and ISVSVN."""
        bodies = (Quote.parse(quote).signature.qe_report_body for quote, _ in self.quotes)
        return Counter((body.mr_enclave, body.isv_svn) for body in bodies)

    def not_offered(self, rate: float) -> list[str]:
        """Clients that attested at less than this rate per second, from their start to the load's end."""
        end = max(done[-1].began for done in self.attestations.values())
        found = []
        for pod, done in self.attestations.items():
            wanted = rate * (end - done[0].began)
            if len(done) < OFFERED_SHARE * wanted:
                found.append(f"{pod.name} ({pod.client}): {len(done)} attestations of {wanted:.0f}")
        return found

    def failed_only_on(self, node: str, meanwhile: tuple[float, float]) -> bool:
        """Whether only this node's clients failed, in attestations that began during the fault or shortly before."""
        began, ended = meanwhile
        there = {pod.name for pod in self.attestations if pod.node == node}
        return {line.split()[0] for _, line in self.failures} <= there and all(
            began - CLIENT_SECONDS < moment < ended for moment, _ in self.failures
        )
