"""What mutation begins with: requests of every kind, as clients were recorded and as a client on this platform asks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confcom.errors import SettingsError
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.sgx.report import REPORT_DATA_SIZE, TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.report_key import ReportKeyFormat
from fuzz.model import GET_QUOTE, IDS, INIT, LEGACY_KINDS, MAX_LISTED, NUM, QUOTE_SIZE, SELECT
from fuzz.wire import HEADER_SIZE, Field, Tree, parse

VECTORS: Final = Path(__file__).resolve().parent.parent / "tests" / "vectors" / "aesm"
"""Recorded frames, one to a .hex file; those of servers begin with `resp_`."""

REPORTS: Final = 8
"""Reports that the quoting enclave accepts, in turn of both layouts; with several, an answer to another one shows."""

QUOTE_BUFFERS: Final = (4_600, 8_192, 13_346)
"""Sizes that clients ask for: about the simulated quote's, Gramine's, and the most that Intel's library makes."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Where generated inputs come from."""

    requests: tuple[Tree, ...]
    reports: tuple[bytes, ...]
    """432 bytes each; only these are quoted."""


def make_corpus(target_info: TargetInfo) -> Corpus:
    """Recorded requests, and requests with reports for a quoting enclave."""
    recorded = tuple(
        parse(bytes.fromhex(path.read_text())[HEADER_SIZE:])
        for path in sorted(VECTORS.glob("*.hex"))
        if not path.name.startswith("resp_")
    )
    if not recorded:
        raise SettingsError(f"no recorded requests are in {VECTORS}", remedy="run the fuzzer in a whole checkout")
    enclave = SimulatedEnclave.from_name("fuzzed")
    formats = tuple(ReportKeyFormat)
    reports = tuple(
        enclave.create_report(
            target_info, bytes([index]) * REPORT_DATA_SIZE, key_format=formats[index % len(formats)]
        ).encode()
        for index in range(REPORTS)
    )
    return Corpus(recorded + tuple(_requests(reports, target_info)), reports)


def _requests(reports: tuple[bytes, ...], target_info: TargetInfo) -> list[Tree]:
    key = ECDSA_P256_KEY_ID.encode()
    info = bytes(range(16)) + target_info.encode() + bytes(432)
    requests: list[Tree] = [
        (Field(NUM, ()),),
        (Field(IDS, (Field(1, 256),)),),
        (Field(SELECT, ()),),
        *(
            (Field(SELECT, (Field(1, _listed(count, key)), Field(2, 15_000_000))),)
            for count in (2, MAX_LISTED, MAX_LISTED + 1)
        ),
        (Field(INIT, (Field(1, key), Field(3, 0), Field(4, 0xDEADBEEF))),),
        (Field(INIT, (Field(1, key), Field(3, 1), Field(4, 32))),),
        (Field(QUOTE_SIZE, (Field(1, key),)),),
    ]
    for index, report in enumerate(reports):
        size = Field(4, QUOTE_BUFFERS[index % len(QUOTE_BUFFERS)])
        requests.append((Field(GET_QUOTE, (Field(1, report), Field(2, key), size)),))
        requests.append((Field(GET_QUOTE, (Field(1, report), Field(2, key), Field(3, info), size, Field(9, 1))),))
    requests += [(Field(kind, b"\x0a\x04abcd"),) for kind in LEGACY_KINDS]
    return requests


def _listed(count: int, key: bytes) -> bytes:
    """A list for SelectAttKeyID: the supported key is its last entry."""
    return bytes(4) + count.to_bytes(4, "little") + bytes(len(key)) * (count - 1) + key
