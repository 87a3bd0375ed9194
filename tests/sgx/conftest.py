"""Vectors of the sgx room, as bytes."""

import json
from pathlib import Path

import pytest

VECTORS = Path(__file__).parent.parent / "vectors"


@pytest.fixture(scope="session")
def chain_quote() -> bytes:
    """A genuine quote with a PCK certificate chain (type 5; leaf, root, intermediate; ends without a newline)."""
    return (VECTORS / "genuine-quotes" / "quote_pck_cert_chain.bin").read_bytes()


@pytest.fixture(scope="session")
def ppid_quote() -> bytes:
    """A genuine quote with an encrypted PPID (type 3)."""
    return (VECTORS / "genuine-quotes" / "quote_raw_tcb.bin").read_bytes()


@pytest.fixture(scope="session")
def simulation_reports() -> list[dict]:
    """What the SDK's simulation code made: reports, their fields, target infos, derivation data."""
    lines = []
    for name in ("current", "legacy"):
        lines += (VECTORS / "sdk-simulation" / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="session")
def aesm_vector():
    """Reads one recorded AESM message, length prefix included."""

    def read(name: str) -> bytes:
        return bytes.fromhex((VECTORS / "aesm" / f"{name}.hex").read_text())

    return read


@pytest.fixture(scope="session")
def check_layout():
    """Checks each field's place: setting it to ones must change exactly its bytes, as the table says."""

    def check(empty, table: dict[str, tuple[int, int]]) -> None:
        from dataclasses import replace

        zeros = empty.encode()
        covered = 0
        for name, (offset, size) in table.items():
            full = b"\xff" * size
            value = full if isinstance(getattr(empty, name), bytes) else int.from_bytes(full, "little")
            expected = zeros[:offset] + full + zeros[offset + size :]
            assert replace(empty, **{name: value}).encode() == expected, name
            covered += size
        assert covered == len(zeros)

    return check
