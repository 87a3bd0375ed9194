"""Get a quote with the Rust program beside this module, which loads `libsgx_dcap_ql.so.1` by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from confcom.sgx.report import TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
from e2e.rust import RustClient

CLIENT = RustClient(source=Path(__file__).resolve().parent, program="dcap-ql-client", purpose="Fortanix' dcap-ql")


@dataclass(frozen=True, slots=True)
class LibraryQuote:
    """What one run of the program got.

    Args:
        target_info: of the quoting enclave, which the report was made for: 512 bytes.
        quote: as the library made it.
        certification_type: of the quote's certification data, as the crate reads it.
    """

    target_info: bytes
    quote: bytes
    certification_type: int


def quote_once(
    program: Path, libraries: Path, *, environ: Mapping[str, str], enclave: SimulatedEnclave, report_data: bytes
) -> LibraryQuote:
    """Run the program once: target info, size, quote.

    Args:
        program: from `CLIENT.build`.
        libraries: the folder of the libraries.
        environ: the program's environment besides.
        enclave: whose report is quoted.
        report_data: 64 bytes that the quote must carry.

    Raises:
        ConfcomError: the library or the crate reported an error, or the program crashed or waited too long.
    """

    def report(first: Mapping[str, bytes]) -> tuple[bytes]:
        return (enclave.create_report(TargetInfo.parse(first["target_info"]), report_data).encode(),)

    found = {**environ, "LD_LIBRARY_PATH": str(libraries)}
    first, last = CLIENT.attest([program], report, environ=found)
    return LibraryQuote(first["target_info"], last["quote"], int.from_bytes(last["certification_type"]))
