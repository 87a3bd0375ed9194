import re
from dataclasses import replace
from pathlib import Path

import pytest

from confcom.sgx.certification import CertificationDataType
from confcom.sgx.collateral_bundle import COLLATERAL_FILES
from confcom.sgx.key_id import AttKeyId
from confcom.sgx.pck.extension import PckExtension
from confcom.sgx.quote import QuoteHeader
from confcom.sgx.report import AttributeFlag, ReportBody, TargetInfo
from confcom.sgx.td_report import TdAttribute, TdReport15Ex

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "quote-format.md").read_text()


def rows(heading, pattern):
    section = re.split(r"^##+ ", PAGE, flags=re.MULTILINE)
    text = next(part for part in section if part.startswith(heading + "\n"))
    return re.findall(pattern, text, re.MULTILINE)


@pytest.mark.parametrize(
    ("heading", "codec", "size"),
    [
        ("Header", QuoteHeader, 48),
        ("Report body", ReportBody, 384),
        ("TD report", TdReport15Ex, 885),
        ("Target info", TargetInfo, 512),
        ("Attestation key id", AttKeyId, 256),
    ],
)
def test_layout_tables_hold(heading, codec, size):
    """If all bits of a field are set, exactly the bytes that the table names must change."""
    empty, zeros, covered = codec.parse(bytes(size)), bytes(size), 0
    for offset, length, name in rows(heading, r"^\| (\d+) \| (\d+) \| `(\w+)` \|"):
        at, full = int(offset), b"\xff" * int(length)
        value = full if isinstance(getattr(empty, name), bytes) else int.from_bytes(full, "little")
        assert replace(empty, **{name: value}).encode() == zeros[:at] + full + zeros[at + len(full) :], name
        covered += len(full)
    assert covered == size


def test_other_tables_are_complete():
    for heading, flags in (("Attributes", AttributeFlag), ("TD attributes", TdAttribute)):
        attributes = {name: int(bit, 16) for bit, name in rows(heading, r"^\| (0x\w+) \| `(\w+)` \|")}
        assert attributes == {flag.name: flag.value for flag in flags}
    types = {name: int(number) for number, name in rows("Certification data", r"^\| (\d) \| `(\w+)` \|")}
    assert types == {kind.name: kind.value for kind in CertificationDataType}
    members = rows("The PCK certificate's SGX extension", r"^\| \.(\d) \| `(\w+)` \|")
    assert members == [(str(number), name) for number, name in enumerate(PckExtension.__slots__, 1)]
    assert tuple(rows("Collateral", r"^\| `(\w+\.\w+)` \|")) == COLLATERAL_FILES
