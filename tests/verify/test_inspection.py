import json
from dataclasses import fields, replace

import pytest

from confcom.sgx.certification import CertificationData
from confcom.sgx.pck.extension import SGX_EXTENSION_OID
from confcom.sgx.simulation_marks import Mark
from confcom.sgx.td_report import TdAttribute
from confcom.verify.inspection import inspect_quote
from testkit.programs import run_confcom
from testkit.verify import tampering
from testkit.verify.genuine_quotes import TD_QUOTES, VECTORS, genuine
from testkit.verify.verify_lab import CHALLENGE


def value(inspection, section, key):
    return inspection.to_json()["sections"][section][key]


def note(inspection, section, key):
    (found,) = [f.note for s in inspection.sections if s.key == section for f in s.fields if f.key == key]
    return found


def section_keys(inspection):
    return [section.key for section in inspection.sections]


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


def warnings_of(inspection):
    return len(inspection.warnings)


def require_genuine(inspection):
    assert inspection.stopped is None
    assert value(inspection, "root_certificate", "platform") == "genuine"
    assert value(inspection, "pck_certificate", "signs_qe_report") is True
    assert value(inspection, "signature", "signature_valid") is True
    assert value(inspection, "signature", "bound_to_qe_report") is True
    assert value(inspection, "marks", "found") == []


def test_genuine_quote_with_certificates():
    inspection = inspect_quote((VECTORS / "quote_pck_cert_chain.bin").read_bytes())
    require_genuine(inspection)
    assert section_keys(inspection) == WHOLE
    assert value(inspection, "pck_certificate", "fmspc") == "00906ea10000"
    assert note(inspection, "qe_report", "mr_signer")
    assert "DEBUG" in note(inspection, "report_body", "attributes")
    assert value(inspection, "report_body", "debug") is True
    assert warnings_of(inspection) == 1, "it is a debug enclave"


def shown(field, register):
    if isinstance(register, bytes):
        return register.hex()
    return register if field.name == "vmid" else f"{register:016x}"


@pytest.mark.parametrize("name", TD_QUOTES)
def test_genuine_quote_of_a_td_has_every_register(name):
    quote = genuine(name).parsed
    inspection = inspect_quote(genuine(name).quote)
    require_genuine(inspection)
    assert inspection.warnings == ()
    registers = {field.name: shown(field, getattr(quote.body, field.name)) for field in fields(quote.body)}
    document = inspection.to_json()["sections"]
    assert [*document["td_report"].items()] == [*registers.items(), ("debug", False)]
    assert note(inspection, "td_report", "td_attributes") == "SEPT_VE_DISABLE"
    assert (document["header"]["tee_type"], value(inspection, "certification", "outer_type")) == (0x81, 6)
    assert value(inspection, "certification", "type") == 5
    assert ("body_type" in document) == (quote.header.version == 5)
    text = run_confcom("inspect", VECTORS / name).stdout
    for label in ("MRTD", "MRSEAM", "MRSIGNERSEAM", "SEAMATTRIBUTES", "TDATTRIBUTES", "XFAM", "RTMR0", "REPORTDATA"):
        assert f" {label}:" in text
    for register in ("mr_td", "mr_seam", "rtmr3", "report_data"):
        assert registers[register] in "".join(text.split())


def test_genuine_quote_without_certificates():
    inspection = inspect_quote((VECTORS / "quote_raw_tcb.bin").read_bytes())
    assert section_keys(inspection) == [*WHOLE[:5], "marks"]
    assert value(inspection, "signature", "signature_valid") is True
    assert value(inspection, "certification", "type") == 3
    assert len(value(inspection, "certification", "ppid")) == 2 * 384
    assert warnings_of(inspection) == 2, "it is a debug enclave, and has no certificates"


def test_simulated_quote(evidence):
    inspection = inspect_quote(evidence.quote)
    document = inspection.to_json()
    assert json.loads(json.dumps(document)) == document
    assert section_keys(inspection) == WHOLE
    assert inspection.warnings == ()
    assert value(inspection, "report_body", "report_data") == CHALLENGE.hex()
    assert "config_id" not in document["sections"]["report_body"], "KSS is not set"
    assert value(inspection, "root_certificate", "platform") == "simulated"
    assert note(inspection, "header", "user_data") == '"SIMULATED-NOT-INTEL!"'
    assert note(inspection, "pck_certificate", "fmspc") == '"SIMSGX"'
    assert note(inspection, "report_body", "cpu_svn")
    assert not note(inspection, "qe_report", "mr_signer")
    assert Mark.FMSPC.value in value(inspection, "marks", "found")


NO_EXTENSION = tampering.leaf(without=SGX_EXTENSION_OID)
STRANGERS = tampering.chain(lambda own, others: (others[0], *own[1:]))
CHANGED = {
    "KSS": (
        lambda lab, ev: lab.edit_signed(ev, body={"flags": 0x85, "config_id": b"c" * 64, "config_svn": 3}),
        {("report_body", "config_id"): (b"c" * 64).hex()},
    ),
    "body": (tampering.flip(112), {("signature", "signature_valid"): False}),
    "key": (tampering.flip(500), {("signature", "bound_to_qe_report"): False}),
    "stranger's leaf": (STRANGERS, {("pck_certificate", "signs_qe_report"): False}),
    "unmarked root": (tampering.unmarked_root, {("root_certificate", "platform"): "unknown"}),
    "no SGX extension": (NO_EXTENSION, {("pck_certificate", "sgx_extension"): "unreadable"}),
}


@pytest.mark.parametrize("name", CHANGED)
def test_altered_quote_shows_what_no_longer_fits(lab, evidence, name):
    tamper, shown = CHANGED[name]
    inspection = inspect_quote(tamper(lab, evidence).quote)
    assert {(section, key): value(inspection, section, key) for section, key in shown} == shown
    assert inspection.stopped is None
    if name == "body":
        assert note(inspection, "signature", "signature_valid")


def test_warnings(lab, evidence):
    assert warnings_of(inspect_quote(lab.with_chain(evidence, *lab.chain[:2]).quote)) == 1
    for trailing, beginning in ((bytes(3), "3 zero "), (b"ab", "2 bytes ")):
        (warning,) = inspect_quote(evidence.quote + trailing).warnings
        assert warning.startswith(beginning)


def test_warnings_of_what_lays_a_td_open(tdx_lab):
    def inspected(**registers):
        return inspect_quote(tdx_lab.quote(**registers))

    assert inspected().warnings == ()
    for bit in (TdAttribute.DEBUG, TdAttribute.PERF_PROF, 0x80):
        found = inspected(td_attributes=bit)
        assert len(found.warnings) == 1
        assert value(found, "td_report", "debug") is True
    assert note(inspected(mr_service_td=b"s" * 48), "td_report", "mr_service_td")
    (warning,) = inspect_quote(genuine("tdx_quote").quote + bytes(70)).warnings
    assert warning.startswith("70 zero ")


@pytest.mark.parametrize("version", [4, 5])
def test_reframed_sgx_quote_shows_its_body(lab, evidence, version):
    inspection = inspect_quote(lab.edit_signed(evidence, header={"version": version}).quote)
    assert inspection.stopped is None
    document, original = (one.to_json()["sections"] for one in (inspection, inspect_quote(evidence.quote)))
    assert document["report_body"] == original["report_body"]
    assert document["header"]["version"] == version
    assert ("body_type" in document) == (version == 5)


def test_unreadable_parts_show_everything_before(lab, evidence):
    data = replace(evidence.parsed.signature.certification, data=b"no chain")
    inspection = inspect_quote(lab.edit_signature(evidence, certification=data).quote)
    assert (section_keys(inspection), inspection.stopped.error_code) == (WHOLE[:5], "not-pem")
    inspection = inspect_quote(b"\6\0" + evidence.quote[2:])
    assert (section_keys(inspection), inspection.stopped.error_code) == ([], "unsupported-quote-version")
    inspection = inspect_quote(lab.edit_signature(evidence, certification=CertificationData(99, b"?")).quote)
    assert section_keys(inspection) == [*WHOLE[:5], "marks"]
    assert note(inspection, "certification", "type")
