"""What is told of a tenant's quote: nothing that identifies the machine, in any notation."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from confcom.errors import MalformedError
from confcom.hardware_report.document.report import HardwareReport
from confcom.hardware_report.document.text import report_lines
from confcom.hardware_report.sections.quote import SHOWN, quote_section
from confcom.sgx.certification import CertificationData, PpidData
from confcom.sgx.pck.chain import PckChain
from confcom.sgx.pck.extension import SGX_EXTENSION_OID, PckExtension, PlatformConfiguration
from confcom.sgx.quote import Quote
from confcom.verify.anatomy import dissect
from confcom.verify.files import intel_root
from testkit.notations import holds
from testkit.verify.verify_lab import NOW, Lab

GENUINE = sorted((Path(__file__).parents[1] / "vectors" / "genuine-quotes").glob("*.bin"))
unguessable = st.binary(min_size=16, max_size=16).filter(lambda data: len(set(data)) > 8)


@pytest.fixture(scope="module")
def lab():
    return Lab()


@pytest.fixture(scope="module")
def evidence(lab):
    return lab.evidence()


def shown(data):
    report = HardwareReport.of([quote_section(data, intel_root(), NOW)])
    return json.dumps(report.to_json()) + "\n".join(report_lines(report)), report


def identifying(data):
    """What must not be told, read by other code than the report's: as bytes."""
    quote = Quote.parse(data)
    signature = quote.signature
    yield quote.header.user_data[:16]
    yield signature.attestation_key
    yield signature.attestation_key[:32]
    yield signature.isv_signature
    yield signature.qe_report_signature
    yield signature.pub_key_id
    yield quote.body.report_data
    yield quote.body.mr_enclave
    yield signature.qe_report_body.report_data[:32]
    try:
        chain = PckChain.from_quote(quote)
        extension = PckExtension.from_certificate(chain.leaf)
    except MalformedError:
        return
    yield extension.ppid
    if extension.platform_instance_id:
        yield extension.platform_instance_id
    for certificate in chain.certificates:
        yield certificate.serial_number.to_bytes(20)
        yield certificate.serial_number.to_bytes((certificate.serial_number.bit_length() + 7) // 8)


@pytest.mark.parametrize("path", GENUINE, ids=lambda path: path.stem)
def test_genuine_quotes(path):
    data = path.read_bytes()
    text, report = shown(data)
    for secret in identifying(data):
        assert len(set(secret)) < 3 or not holds(text, secret)
    (section,) = report.sections
    assert section.values["size"] == len(data)
    assert section.values["anatomy"]["header"]["user_data"].startswith("redacted (16 bytes), then ")


def test_a_genuine_chain_is_told_with_its_fmspc():
    data = next(path for path in GENUINE if path.stem == "quote_pck_cert_chain").read_bytes()
    _, report = shown(data)
    values = report.sections[0].values
    pck = values["anatomy"]["pck_certificate"]
    extension = PckExtension.from_certificate(PckChain.from_quote(Quote.parse(data)).leaf)
    assert pck["fmspc"] == extension.fmspc.hex()
    assert pck["serial_number"] == "redacted"
    assert pck["ppid"] == "redacted (16 bytes)"
    assert len(pck["not_before"]) == len("2026-11-24")
    assert values["platform"] == "genuine"
    assert values["verdict"] in {"unusable", "authentic-not-authorised"}
    assert "quote-not-genuine" not in {finding.code for _, finding in report.findings}


def test_a_simulated_quote_is_told_as_not_genuine(evidence):
    _, report = shown(evidence.quote)
    assert report.sections[0].values["platform"] == "unknown"
    assert [finding.code for _, finding in report.findings] == ["quote-not-genuine"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(qe_id=unguessable, ppid=unguessable, kind=st.sampled_from([1, 2, 3]))
def test_random_identities_are_in_no_notation(evidence, qe_id, ppid, kind):
    quote = evidence.parsed
    size = {1: 16, 2: 256, 3: 384}[kind]
    encrypted = ppid * (size // 16)
    data = PpidData(kind, encrypted, bytes(16), 1, 0).encode()
    signature = replace(quote.signature, certification=CertificationData(kind, data))
    header = replace(quote.header, user_data=qe_id + bytes(4))
    text, report = shown(replace(quote, header=header, signature=signature).encode())
    assert not any(holds(text, secret) for secret in (qe_id, ppid, encrypted))
    assert "quote-without-certificates" in {finding.code for _, finding in report.findings}


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ppid=unguessable, instance=unguessable)
def test_random_identities_of_a_certificate_are_in_no_notation(lab, evidence, ppid, instance):
    pki = lab.platform.pki
    extension = replace(
        PckExtension.from_certificate(pki.pck.certificate),
        ppid=ppid,
        platform_instance_id=instance,
        configuration=PlatformConfiguration(dynamic_platform=True, cached_keys=True, smt_enabled=False),
    )
    replacing = x509.UnrecognizedExtension(SGX_EXTENSION_OID, extension.encode())
    leaf = lab.reissue(pki.pck, pki.pck_ca, replacing=replacing)
    text, report = shown(lab.with_chain(evidence, leaf, *lab.chain[1:]).quote)
    assert not any(holds(text, secret) for secret in (ppid, instance))
    pck = report.sections[0].values["anatomy"]["pck_certificate"]
    assert pck["platform_instance_id"] == pck["ppid"] == "redacted (16 bytes)"
    assert pck["smt_enabled"] is False


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(qe_id=unguessable, cut=st.integers(0, 5000))
def test_a_quote_that_is_cut_anywhere_tells_nothing_either(evidence, qe_id, cut):
    quote = evidence.parsed
    whole = replace(quote, header=replace(quote.header, user_data=qe_id + bytes(4))).encode()
    text, report = shown(whole[:cut])
    assert not holds(text, qe_id)
    assert not holds(text, quote.signature.attestation_key)
    assert not holds(text, quote.body.report_data)
    if cut < len(whole):
        assert "quote-not-read" in {finding.code for _, finding in report.findings}


@given(st.binary(max_size=600))
def test_anything_else_is_a_finding(data):
    _, report = shown(data)
    assert "quote-not-read" in {finding.code for _, finding in report.findings}


def test_a_field_that_the_report_does_not_know_is_not_shown(evidence):
    """Each field of the anatomy is shown, or on this list; a new one must be put into one of both."""
    hidden = {
        f"{section.key}.{field.key}"
        for data in (evidence.quote, *(path.read_bytes() for path in GENUINE))
        for section in dissect(data).sections
        for field in section.fields
        if field.key not in SHOWN.get(section.key.rstrip("_0123456789"), ())
    }
    assert hidden <= {
        "report_body.report_data",
        "report_body.config_id",
        "report_body.isv_ext_prod_id",
        "report_body.isv_family_id",
        "report_body.mr_enclave",
        "report_body.mr_signer",
        "qe_report.report_data",
        "signature.attestation_key",
        "certification.ppid",
        "pck_certificate.serial_number",
        "pck_certificate.ppid",
        "pck_certificate.platform_instance_id",
        "intermediate_certificate.serial_number",
        "root_certificate.serial_number",
    }
