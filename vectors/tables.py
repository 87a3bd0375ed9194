"""The cases of SGX and of TDX."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from confcom.sgx.td_report import TdAttribute
from confcom.sgx.tee_type import TeeType
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.root_seed import RootSeed
from confcom.testing import Attestation
from confcom.verify import TrustedRoot
from testkit.verify import tampering
from testkit.verify.tampering import FALSE, REFUSED, UNUSABLE, VERIFIED
from testkit.verify.td_lab import TD, TdxLab
from testkit.verify.verify_lab import CHALLENGE, NOW, Lab
from vectors.cases import Cases
from vectors.vector import Case

SEED: Final = hashlib.sha256(b"confcom: seed of the vectors for verifiers. It is public: trust it nowhere.").digest()
"""The seed of all keys under the root of the vectors. Whoever reads this line can sign for that root."""
OTHER: Final = "11" * 48

TD_FIELDS: Final = {
    FALSE: {"RTMR0": 382, "RTMR3": 526, "TEE_TCB_SVN2": 638, "MRSERVICETD": 654},
    UNUSABLE: {"TEE type": 4, "body type": 48, "body size": 50, "type of the QE's certification": 834},
}
"""Offsets of fields of a quote of version 5 with a TD report 1.5, which the table of defects does not have."""
SEPT_VE_DISABLE: Final = TdAttribute.SEPT_VE_DISABLE
ATTRIBUTES: Final = {
    "TUD bit 4": SEPT_VE_DISABLE | TdAttribute.HGS_PLUS_PROF,
    "TUD bit 5": SEPT_VE_DISABLE | TdAttribute.PERF_PROF,
    "TUD bit 6": SEPT_VE_DISABLE | TdAttribute.PMT_PROF,
    "reserved TUD bit 1": SEPT_VE_DISABLE | 1 << 1,
    "reserved bit 40": SEPT_VE_DISABLE | 1 << 40,
    "SERVTD_EXT": SEPT_VE_DISABLE | TdAttribute.SERVTD_EXT,
    "MIGRATABLE": SEPT_VE_DISABLE | TdAttribute.MIGRATABLE,
    "no SEPT_VE_DISABLE": 0,
}


def _svns(*svns: int) -> bytes:
    return bytes(svns).ljust(16, b"\0")


MODULES: Final[Mapping[str, tuple[Any, dict[str, Any]]]] = {
    "TDX module of another signer": (FALSE, {"mr_signer_seam": bytes(48)}),
    "TDX module with another attribute": (FALSE, {"seam_attributes": 1}),
    "TDX module of an unknown version": (FALSE, {"tee_tcb_svn": _svns(2, 2, 2)}),
    "TDX module that runs now of an unknown version": (FALSE, {"tee_tcb_svn2": _svns(3, 2, 2)}),
    "TDX module old at launch and now": (REFUSED, {"tee_tcb_svn": _svns(1, 1, 2), "tee_tcb_svn2": _svns(1, 1, 2)}),
    "TDX module old at launch": (REFUSED, {"tee_tcb_svn": _svns(1, 1, 2)}),
    "TDX module of version 3": (VERIFIED, {"tee_tcb_svn": _svns(2, 3, 2), "tee_tcb_svn2": _svns(2, 3, 2)}),
    "TDX module of version 0": (VERIFIED, {"tee_tcb_svn": _svns(2, 0, 2)}),
    "late microcode old at launch": (REFUSED, {"tee_tcb_svn": _svns(2, 1, 1)}),
}


def all_cases() -> Iterator[tuple[TeeType, Case]]:
    platform, stranger = (SimulatedPlatform.create(seed, NOW) for seed in (SEED, SEED[::-1]))
    lab, root = Lab(platform, stranger), TrustedRoot.load(platform.pki.root.der)
    made = Attestation(root, lab.enclave, TD, RootSeed(SEED, int(NOW.timestamp())))
    shared = {"allow_simulated": True, "report_data": CHALLENGE.hex()}
    sgx = Cases(TeeType.SGX, lab, made.quote, shared | {"mr_enclave": lab.enclave.mr_enclave.hex()})
    registers = {name: getattr(TD, name).hex() for name in ("mr_td", "rtmr0", "rtmr1", "rtmr2", "rtmr3")}
    tdx = Cases(TeeType.TDX, TdxLab(platform, stranger), made.td_quote, shared | registers)
    yield from ((TeeType.SGX, case) for case in _sgx_cases(sgx, tdx))
    yield from ((TeeType.TDX, case) for case in _tdx_cases(tdx, sgx))


def _sgx_cases(sgx: Cases, tdx: Cases) -> Iterator[Case]:
    yield from sgx.shared()
    good = sgx.lab.evidence()
    yield sgx.case("another MRENCLAVE demanded", REFUSED, good, mr_enclave="11" * 32)
    yield sgx.case("no enclave demanded", REFUSED, good, mr_enclave=None)
    yield sgx.case("root of a third party", REFUSED, tampering.third_party(sgx.lab))
    yield sgx.case("quote of a TD", REFUSED, tdx.lab.evidence())
    yield sgx.case("collateral for TDX", UNUSABLE, replace(good, collateral=tdx.lab.evidence().collateral))


def _tdx_cases(tdx: Cases, sgx: Cases) -> Iterator[Case]:
    yield from tdx.shared()
    good, of_sgx = tdx.lab.evidence(), sgx.lab.evidence()
    for name in ("mr_td", "rtmr0", "rtmr1", "rtmr2", "rtmr3"):
        yield tdx.case(f"another {name.replace('_', '').upper()} demanded", REFUSED, good, **{name: OTHER})
    yield tdx.case("no TD demanded", REFUSED, good, mr_td=None)
    yield tdx.case("quote of an enclave", REFUSED, of_sgx)
    yield tdx.case("collateral for SGX", UNUSABLE, replace(good, collateral=of_sgx.collateral))
    mixed = good.with_collateral(qe_identity=of_sgx.collateral.qe_identity)
    yield tdx.case("TCB info for TDX, QE identity for SGX", UNUSABLE, mixed)
    for body in ("1.0", "1.5", "1.5ex"):
        yield tdx.case(f"TD report {body}", VERIFIED, tdx.quoted(body=body))
        yield tdx.case(f"TD report {body}, OutOfDate", REFUSED, tdx.quoted(body=body, tcb="OutOfDate"))
        yield tdx.case(f"TD report {body}, debug", REFUSED, tdx.quoted(body=body, debug=True))
        if body != "1.0":
            yield tdx.case(f"TD report {body}, service TD", REFUSED, tdx.quoted(body=body, service_td=True))
    for kind, fields in TD_FIELDS.items():
        for text, offset in fields.items():
            changed = good.quote[:offset] + bytes([good.quote[offset] ^ 1]) + good.quote[offset + 1 :]
            yield tdx.case(f"{text} changed", kind, replace(good, quote=changed))
    for text, attributes in ATTRIBUTES.items():
        yield tdx.case(f"TD attribute: {text}", REFUSED, tdx.quoted(td_attributes=int(attributes)))
    for text, (kind, fields) in MODULES.items():
        yield tdx.case(text, kind, tdx.quoted(**fields))
