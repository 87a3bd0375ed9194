"""A quote in words: genuine, simulated, wrapped, cut."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from confcom.sgx.certification import CertificationData
from confcom.sgx.marks import Mark
from confcom.verify.anatomy import Anatomy, dissect
from testkit.verify import tampering
from testkit.verify.verify_lab import CHALLENGE, Evidence, Lab

GENUINE = Path(__file__).parents[1] / "vectors" / "genuine-quotes"


def value(anatomy: Anatomy, section: str, key: str):
    return anatomy.to_json()["sections"][section][key]


def note(anatomy: Anatomy, section: str, key: str) -> str:
    (found,) = [f.note for s in anatomy.sections if s.key == section for f in s.fields if f.key == key]
    return found


def section_keys(anatomy: Anatomy) -> list[str]:
    return [section.key for section in anatomy.sections]


WHOLE = [
    "header",
    "report_body",
    "signature",
    "qe_report",
    "certification",
    "pck_certificate",
    "intermediate_certificate",
    "root_certificate",
    "marks",
]


def test_genuine_quote_with_certificates() -> None:
    anatomy = dissect((GENUINE / "quote_pck_cert_chain.bin").read_bytes())
    assert section_keys(anatomy) == WHOLE
    assert anatomy.stopped is None
    assert value(anatomy, "root_certificate", "platform") == "genuine"
    assert value(anatomy, "pck_certificate", "fmspc") == "00906ea10000"
    assert value(anatomy, "pck_certificate", "signs_qe_report") is True
    assert value(anatomy, "signature", "signature_valid") is True
    assert value(anatomy, "signature", "bound_to_qe_report") is True
    assert value(anatomy, "marks", "found") == []
    assert note(anatomy, "qe_report", "mr_signer")
    assert "DEBUG" in note(anatomy, "report_body", "attributes")
    assert value(anatomy, "report_body", "debug") is True
    assert len(anatomy.warnings) == 1, "it is a debug enclave"


def test_genuine_quote_without_certificates() -> None:
    anatomy = dissect((GENUINE / "quote_raw_tcb.bin").read_bytes())
    assert section_keys(anatomy) == [*WHOLE[:5], "marks"]
    assert value(anatomy, "signature", "signature_valid") is True
    assert value(anatomy, "certification", "type") == 3
    assert len(value(anatomy, "certification", "ppid")) == 2 * 384
    assert len(anatomy.warnings) == 2, "it is a debug enclave, and has no certificates"


def test_simulated_quote(evidence: Evidence) -> None:
    anatomy = dissect(evidence.quote)
    assert section_keys(anatomy) == WHOLE
    assert anatomy.warnings == ()
    assert value(anatomy, "report_body", "report_data") == CHALLENGE.hex()
    assert value(anatomy, "root_certificate", "platform") == "simulated"
    assert note(anatomy, "header", "user_data") == '"SIMULATED-NOT-INTEL!"'
    assert note(anatomy, "pck_certificate", "fmspc") == '"SIMSGX"'
    assert note(anatomy, "report_body", "cpu_svn")
    assert not note(anatomy, "qe_report", "mr_signer")
    assert Mark.FMSPC.value in value(anatomy, "marks", "found")


def test_every_value_is_plain_json(evidence: Evidence) -> None:
    document = dissect(evidence.quote).to_json()
    assert json.loads(json.dumps(document)) == document


def test_kss_fields_only_where_the_enclave_has_them(lab: Lab, evidence: Evidence) -> None:
    with_kss = lab.edit_signed(evidence, body={"flags": 0x85, "config_id": b"c" * 64, "config_svn": 3})
    assert value(dissect(with_kss.quote), "report_body", "config_id") == (b"c" * 64).hex()
    assert "config_id" not in dissect(evidence.quote).to_json()["sections"]["report_body"]


def test_altered_quote_shows_what_no_longer_fits(lab: Lab, evidence: Evidence) -> None:
    altered = dissect(tampering.flip(112)(lab, evidence).quote)
    assert value(altered, "signature", "signature_valid") is False
    assert note(altered, "signature", "signature_valid")
    other_key = dissect(tampering.flip(500)(lab, evidence).quote)
    assert value(other_key, "signature", "bound_to_qe_report") is False
    stranger = lab.with_chain(evidence, lab.stranger.pki.pck.certificate, *lab.chain[1:])
    assert value(dissect(stranger.quote), "pck_certificate", "signs_qe_report") is False


def test_chain_without_root_and_unmarked_root(lab: Lab, evidence: Evidence) -> None:
    rootless = dissect(lab.with_chain(evidence, *lab.chain[:2]).quote)
    assert len(rootless.warnings) == 1
    unmarked = dissect(tampering.unmarked_root(lab, evidence).quote)
    assert value(unmarked, "root_certificate", "platform") == "unknown"


def test_leaf_without_readable_sgx_extension(lab: Lab, evidence: Evidence) -> None:
    (bare,) = [case for case in tampering.chain_cases() if case.name == "leaf without SGX extension"]
    anatomy = dissect(bare.tamper(lab, evidence).quote)
    assert anatomy.stopped is None
    assert value(anatomy, "pck_certificate", "sgx_extension") == "unreadable"


def test_unnamed_certification_data_type(lab: Lab, evidence: Evidence) -> None:
    quote = lab.edit_signature(evidence, certification=CertificationData(99, b"?")).quote
    anatomy = dissect(quote)
    assert note(anatomy, "certification", "type")
    assert section_keys(anatomy) == [*WHOLE[:5], "marks"]


def test_trailing_bytes(evidence: Evidence) -> None:
    for trailing, beginning in ((bytes(3), "3 zero "), (b"ab", "2 bytes ")):
        (warning,) = dissect(evidence.quote + trailing).warnings
        assert warning.startswith(beginning)


def test_open_enclave_header_is_named_and_the_quote_behind_it_read(evidence: Evidence) -> None:
    quote = evidence.quote
    wrapped = b"\1\0\0\0\2\0\0\0" + len(quote).to_bytes(8, "little") + quote
    anatomy = dissect(wrapped)
    assert section_keys(anatomy) == ["open_enclave_header", *WHOLE]
    assert value(anatomy, "open_enclave_header", "report_size") == len(quote)
    assert anatomy.stopped is None
    cut = dissect(wrapped[:-1])
    assert section_keys(cut) == ["open_enclave_header"]
    assert cut.stopped.error_code == "open-enclave-size-mismatch"


@pytest.mark.parametrize(
    ("size", "sections"), [(0, []), (47, []), (48, ["header"]), (431, ["header"]), (432, WHOLE[:2]), (4000, WHOLE[:2])]
)
def test_cut_quote_shows_what_stands_before_the_cut(evidence: Evidence, size: int, sections: list[str]) -> None:
    anatomy = dissect(evidence.quote[:size])
    assert section_keys(anatomy) == sections
    assert anatomy.to_json()["stopped"]["code"] == "truncated"


def test_unreadable_chain_shows_everything_before_it(lab: Lab, evidence: Evidence) -> None:
    quote = evidence.parsed
    data = replace(quote.signature.certification, data=b"no chain")
    anatomy = dissect(lab.edit_signature(evidence, certification=data).quote)
    assert section_keys(anatomy) == WHOLE[:5]
    assert anatomy.stopped.error_code == "not-pem"


def test_other_version_shows_its_header_only(evidence: Evidence) -> None:
    anatomy = dissect(b"\4\0" + evidence.quote[2:])
    assert section_keys(anatomy) == ["header"]
    assert anatomy.stopped.error_code == "unsupported-quote-version"
