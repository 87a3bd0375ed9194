"""Build the Rust program beside this module, and get a quote with it.

The enclave's side of an attestation is here, in a simulated enclave; everything that AESM is asked is the crate's.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from confcom.errors import ConfcomError
from confcom.sgx.quote import REPORT_BODY
from confcom.sgx.report import NONCE_SIZE, REPORT_BODY_SIZE, REPORT_DATA_SIZE, TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
from e2e.rust import RustClient

CLIENT = RustClient(
    source=Path(__file__).resolve().parent,
    program="fortanix-client",
    purpose="Fortanix' client",
    needed={"protoc": "protobuf-compiler"},  # which the crate's build script runs
)
build = CLIENT.build


@dataclass(frozen=True, slots=True)
class FortanixQuote:
    """What one run of the program got.

    Args:
        key_id: the attestation key's, as the service lists it: 256 bytes.
        target_info: of the quoting enclave, which the report was made for: 512 bytes.
        pub_key_id: 32 bytes.
        report_data: 64 random bytes that the quote must carry.
        nonce: 16 random bytes that the QE's report must be over.
        quote: as the crate returns it: whatever fills the buffer of the announced size.
        qe_report: the QE's report for the enclave: 432 bytes.
    """

    key_id: bytes
    target_info: bytes
    pub_key_id: bytes
    report_data: bytes
    nonce: bytes
    quote: bytes
    qe_report: bytes


def quote_once(
    program: Path,
    socket: Path,
    *,
    enclave: SimulatedEnclave,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> FortanixQuote:
    """Run the program once: key ids, init, size, quote, without any retry.

    Raises:
        ConfcomError: the crate reported an error, panicked, or waited too long; or the quote is over another report.
    """
    report_data, nonce = random_bytes(REPORT_DATA_SIZE), random_bytes(NONCE_SIZE)
    report = b""

    def report_and_nonce(first: Mapping[str, bytes]) -> tuple[bytes, bytes]:
        nonlocal report
        report = enclave.create_report(TargetInfo.parse(first["target_info"]), report_data).encode()
        return report, nonce

    first, last = CLIENT.attest([program, socket], report_and_nonce)
    if last["quote"][REPORT_BODY] != report[:REPORT_BODY_SIZE]:
        raise ConfcomError(f"{CLIENT.purpose} got a quote over another report than it sent to {socket}")
    return FortanixQuote(report_data=report_data, nonce=nonce, **first, **last)
