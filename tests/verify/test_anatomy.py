import json
from dataclasses import replace
from pathlib import Path

import pytest

from confcom.sgx.certification import CertificationData
from confcom.sgx.marks import Mark
from confcom.verify.anatomy import dissect
from testkit.verify import tampering
from testkit.verify.verify_lab import CHALLENGE

GENUINE = Path(__file__).parents[1] / "vectors" / "genuine-quotes"


def value(anatomy, section, key):
    return anatomy.to_json()["sections"][section][key]


def note(anatomy, section, key):
    (found,) = [f.note for s in anatomy.sections if s.key == section for f in s.fields if f.key == key]
    return found


def section_keys(anatomy):
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


def warnings_of(anatomy):
    return len(anatomy.warnings)


def test_genuine_quote_with_certificates():
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
    assert warnings_of(anatomy) == 1, "it is a debug enclave"


def test_genuine_quote_without_certificates():
    anatomy = dissect((GENUINE / "quote_raw_tcb.bin").read_bytes())
    assert section_keys(anatomy) == [*WHOLE[:5], "marks"]
    assert value(anatomy, "signature", "signature_valid") is True
    assert value(anatomy, "certification", "type") == 3
    assert len(value(anatomy, "certification", "ppid")) == 2 * 384
    assert warnings_of(anatomy) == 2, "it is a debug enclave, and has no certificates"


def test_simulated_quote(evidence):
    anatomy = dissect(evidence.quote)
    document = anatomy.to_json()
    assert json.loads(json.dumps(document)) == document
    assert section_keys(anatomy) == WHOLE
    assert anatomy.warnings == ()
    assert value(anatomy, "report_body", "report_data") == CHALLENGE.hex()
    assert "config_id" not in document["sections"]["report_body"], "KSS is not set"
    assert value(anatomy, "root_certificate", "platform") == "simulated"
    assert note(anatomy, "header", "user_data") == '"SIMULATED-NOT-INTEL!"'
    assert note(anatomy, "pck_certificate", "fmspc") == '"SIMSGX"'
    assert note(anatomy, "report_body", "cpu_svn")
    assert not note(anatomy, "qe_report", "mr_signer")
    assert Mark.FMSPC.value in value(anatomy, "marks", "found")


(NO_EXTENSION,) = [case.tamper for case in tampering.chain_cases() if case.name == "leaf without SGX extension"]
CHANGED = {
    "KSS": (
        lambda lab, ev: lab.edit_signed(ev, body={"flags": 0x85, "config_id": b"c" * 64, "config_svn": 3}),
        {("report_body", "config_id"): (b"c" * 64).hex()},
    ),
    "body": (tampering.flip(112), {("signature", "signature_valid"): False}),
    "key": (tampering.flip(500), {("signature", "bound_to_qe_report"): False}),
    "stranger's leaf": (
        lambda lab, ev: lab.with_chain(ev, lab.stranger.pki.pck.certificate, *lab.chain[1:]),
        {("pck_certificate", "signs_qe_report"): False},
    ),
    "unmarked root": (tampering.unmarked_root, {("root_certificate", "platform"): "unknown"}),
    "no SGX extension": (NO_EXTENSION, {("pck_certificate", "sgx_extension"): "unreadable"}),
}


@pytest.mark.parametrize("name", CHANGED)
def test_altered_quote_shows_what_no_longer_fits(lab, evidence, name):
    tamper, shown = CHANGED[name]
    anatomy = dissect(tamper(lab, evidence).quote)
    assert {(section, key): value(anatomy, section, key) for section, key in shown} == shown
    assert anatomy.stopped is None
    if name == "body":
        assert note(anatomy, "signature", "signature_valid")


def test_warnings(lab, evidence):
    assert warnings_of(dissect(lab.with_chain(evidence, *lab.chain[:2]).quote)) == 1
    for trailing, beginning in ((bytes(3), "3 zero "), (b"ab", "2 bytes ")):
        (warning,) = dissect(evidence.quote + trailing).warnings
        assert warning.startswith(beginning)


def test_open_enclave_header_is_named(evidence):
    quote = evidence.quote
    wrapped = b"\1\0\0\0\2\0\0\0" + len(quote).to_bytes(8, "little") + quote
    anatomy = dissect(wrapped)
    assert section_keys(anatomy) == ["open_enclave_header", *WHOLE]
    assert value(anatomy, "open_enclave_header", "report_size") == len(quote)
    assert anatomy.stopped is None
    cut = dissect(wrapped[:-1])
    assert section_keys(cut) == ["open_enclave_header"]
    assert cut.stopped.error_code == "open-enclave-report"


@pytest.mark.parametrize(
    ("size", "sections"), [(0, []), (47, []), (48, ["header"]), (431, ["header"]), (432, WHOLE[:2]), (4000, WHOLE[:2])]
)
def test_cut_quote_shows_what_stands_before_the_cut(evidence, size, sections):
    anatomy = dissect(evidence.quote[:size])
    assert section_keys(anatomy) == sections
    assert anatomy.to_json()["stopped"]["code"] == "truncated"


def test_unreadable_parts_show_everything_before(lab, evidence):
    data = replace(evidence.parsed.signature.certification, data=b"no chain")
    anatomy = dissect(lab.edit_signature(evidence, certification=data).quote)
    assert (section_keys(anatomy), anatomy.stopped.error_code) == (WHOLE[:5], "not-pem")
    anatomy = dissect(b"\4\0" + evidence.quote[2:])
    assert (section_keys(anatomy), anatomy.stopped.error_code) == (["header"], "unsupported-quote-version")
    anatomy = dissect(lab.edit_signature(evidence, certification=CertificationData(99, b"?")).quote)
    assert section_keys(anatomy) == [*WHOLE[:5], "marks"]
    assert note(anatomy, "certification", "type")
