"""A vector, one JSON document: evidence, a policy, and the verdict that the evidence must get."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.sgx.collateral_json import decode_json
from confcom.sgx.tee_type import TeeType
from confcom.verify import Collateral, SgxPolicy, TdxPolicy, Verdict, VerdictKind
from confcom.verify.verdict import utc_text
from testkit.verify.verify_lab import Evidence

Vector = dict[str, Any]
INDEX: Final = "index.json"
POLICIES: Final = {TeeType.SGX: SgxPolicy, TeeType.TDX: TdxPolicy}
BUGS: Final = {
    "format": "does not read sizes, version and key type of a quote strictly",
    "tee": "takes a quote of one TEE for a quote of the other",
    "unsupported-quote-version": "judges an enclave's quote of version 4 or 5, which reference verifiers refuse",
    "trailing-bytes": "ignores bytes that no signature covers",
    "qe-vendor": "does not compare the QE vendor id",
    "root": "does not demand that the quote's chain ends in the trusted root",
    "root-validity": "does not check the dates of the trusted root",
    "signatures": "does not check one of the signatures and certificates from the report up to the root",
    "marks": "does not know the marks of simulation of this project",
    "debug": "accepts a debug enclave or TD, whose memory the host can read",
    "collateral": "does not check a date of the collateral or of its signers",
    "collateral-evaluation": "mixes TCB info and QE identity of two TCB recoveries",
    "collateral-signer": "lets another certificate than the TCB signer's sign the collateral",
    "collateral-signature": "does not check the signatures of TCB info and QE identity",
    "collateral-crl": "does not check who signed the revocation lists",
    "collateral-revoked": "does not look for the collateral's signers in the root's revocation list",
    "collateral-marks": "does not know the marks of simulation of this project",
    "collateral-platform": "judges a platform by the collateral of another platform",
    "pck-revoked": "does not look for the quote's certificates in the revocation lists",
    "qe-identity": "does not compare the quoting enclave with the QE identity",
    "tcb-not-listed": "finds a TCB level that the platform or the quoting enclave does not reach",
    "tcb-revoked": "does not refuse a revoked TCB level",
    "platform": "trusts a root that the policy does not allow",
    "platform-id": "does not compare the machine with the policy's machines",
    "tcb-evaluation": "accepts collateral of an older TCB recovery than the policy demands",
    "tcb-status": "does not compare the TCB status with the policy",
    "advisories": "does not compare the advisories with the policy",
    "identity": "accepts any enclave or TD if the policy names none",
    "mr-enclave": "does not compare MRENCLAVE",
    "mr-td": "does not compare MRTD",
    **{f"rtmr{number}": f"does not compare RTMR{number}" for number in range(4)},
    "tdx-module": "does not compare the TDX module with the TCB info",
    "td-attributes": "accepts a TD whose attributes lay it open to the host",
    "service-td": "accepts a TD that a service TD can read or move",
    "report-data": "does not compare the report data, so that an old quote can be replayed",
}
"""The bug of a verifier that accepts a vector, keyed by the code of the first check that fails."""


@dataclass(frozen=True, slots=True)
class Case:
    """What the tables of cases say of a vector."""

    text: str
    kind: VerdictKind
    evidence: Any
    """An Evidence of testkit."""
    demands: Mapping[str, Any]
    """The policy's arguments, as a policy file has them, and the report data."""

    def vector(self, tee: TeeType) -> Vector:
        demands, evidence = {name: value for name, value in self.demands.items() if value is not None}, self.evidence
        expected = expected_of(evidence.verdict(POLICIES[tee](**demands)))
        bug = f"accepts it {BUGS[expected['codes'][0]]}" if expected["codes"] else "refuses it refuses good quotes"
        report_data = demands.pop("report_data", None)
        words = {"accepted_tcb_statuses": ["UpToDate"]} | demands | {"report_data": report_data or "not demanded"}
        name = tee.name.lower()
        toml = ({"tee": name} if tee is TeeType.TDX else {}) | demands
        return {
            "name": f"{name}-{re.sub('[^a-z0-9]+', '-', self.text.lower()).strip('-')}",
            "about": f"{self.text}: a verifier that {bug}.",
            "tee": name,
            "quote": evidence.quote.hex(),
            "collateral": json.loads(evidence.collateral.to_json()),
            "root": evidence.root.public_bytes(Encoding.PEM).decode(),
            "time": utc_text(evidence.now),
            "policy": {
                "words": "; ".join(f"{name.replace('_', ' ')}: {_in_words(value)}" for name, value in words.items()),
                "toml": "".join(f"{name} = {json.dumps(value)}\n" for name, value in toml.items()),
                "report_data": report_data,
            },
            "expected": expected | {"kind": self.kind.value},
        }


def _in_words(value: object) -> str:
    if isinstance(value, list):
        return " or ".join(map(str, value)) or "none"
    return "yes" if value is True else str(value)


def expected_of(verdict: Verdict[Any]) -> dict[str, Any]:
    return {
        "kind": verdict.kind.value,
        "codes": [check.code for check in verdict.failures],
        "tcb_status": verdict.tcb_status and verdict.tcb_status.value,
        "advisory_ids": list(verdict.advisory_ids),
    }


def evidence_of(vector: Vector) -> Any:
    """Return an Evidence of testkit, from nothing but the vector."""
    collateral = Collateral(**decode_json(json.dumps(vector["collateral"])))
    root = x509.load_pem_x509_certificate(vector["root"].encode())
    return Evidence(bytes.fromhex(vector["quote"]), root, collateral, datetime.fromisoformat(vector["time"]))
