"""Genuine quotes of TDX, and SGX quotes of versions 4 and 5: `inspect` shows all, and `verify` tells them apart."""

import json
from dataclasses import fields, replace

import dcap_qvl
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from confcom.sgx.quote import Quote
from confcom.sgx.td_report import TdAttribute
from confcom.sgx.tee_type import TeeType
from confcom.verify import INTEL, Collateral, SgxPolicy, TdxPolicy, VerdictKind, verify
from confcom.verify.inspection import inspect_quote
from confcom.verify.prepared_collateral import platform_kind
from confcom.verify.trust import intel_root
from confcom.verify.verifier import refusal_without_collateral
from testkit.programs import run_confcom
from testkit.verify.genuine_quotes import TD_QUOTES, TIMES, VECTORS, genuine
from testkit.verify.verify_lab import NOW, failed_codes

ANY_ENCLAVE = SgxPolicy(mr_enclave=bytes(32), report_data=bytes(64))
each_td = pytest.mark.parametrize("name", TD_QUOTES)


def section(inspection, key):
    (found,) = [part for part in inspection.sections if part.key == key]
    return {field.key: field for field in found.fields}


def reframed(quote, version):
    parsed = Quote.parse(quote)
    return replace(parsed, header=replace(parsed.header, version=version)).encode()


@each_td
def test_a_td_is_no_enclave(name):
    """A policy of SGX says so, also without collateral; then nothing else can be decided."""
    quote = genuine(name).quote
    verdict = verify(quote, ANY_ENCLAVE, None, now=TIMES[name])
    assert (verdict.kind, failed_codes(verdict)) == (VerdictKind.UNUSABLE, ["tee", "collateral"])
    assert verdict.claims is None
    longer = verify(quote + bytes(70), ANY_ENCLAVE, None, now=TIMES[name])
    assert failed_codes(longer) == ["trailing-bytes", "tee", "collateral"]
    assert refusal_without_collateral(quote, ANY_ENCLAVE, intel_root(), TIMES[name]) is None


@each_td
def test_its_collateral_was_made_for_it(name):
    collateral = genuine(name).collateral
    documents = collateral.prepared(INTEL, TIMES[name]).documents
    kind = platform_kind(genuine(name).quote)
    assert (documents.tcb_info.tee, kind.tee, kind.ca) == (TeeType.TDX, TeeType.TDX, "PLATFORM")
    assert documents.tcb_info.fmspc == kind.fmspc
    assert Collateral.from_json(collateral.to_json()) == collateral == Collateral.from_files(collateral.to_files())


def test_collateral_of_the_other_tee_says_nothing(lab, tdx_lab, evidence):
    for_tdx = tdx_lab.collateral()
    assert for_tdx.prepared(evidence.trusted, NOW).documents.tcb_info.fmspc == platform_kind(evidence.quote).fmspc
    for collateral in (for_tdx, for_tdx.prepared(evidence.trusted, NOW)):
        verdict = verify(evidence.quote, lab.policy, collateral, root=evidence.trusted, now=NOW)
        assert (verdict.kind, failed_codes(verdict)) == (VerdictKind.UNUSABLE, ["collateral-platform"])
        assert "TDX" in verdict.failures[0].found


def test_a_chain_in_the_place_of_the_quotes_is_never_used(lab, evidence):
    """dcap-qvl prefers the collateral's `pck_certificate_chain` to the chain in the quote."""
    name, member = "tdx_quote_td15ex", "pck_certificate_chain"
    kept = json.loads((VECTORS / f"{name}_collateral.json").read_text())
    own, forged = kept.pop(member), "".join(cert.public_bytes(Encoding.PEM).decode() for cert in lab.chain)
    without = Collateral.from_json(json.dumps(kept))
    seconds = int(TIMES[name].timestamp())
    for chain in (own, forged, "junk"):
        text = json.dumps(kept | {member: chain})
        collateral = Collateral.from_json(text)
        assert collateral == without
        assert member not in json.loads(collateral.to_json())
        passed_on = dcap_qvl.QuoteCollateralV3.from_json(collateral.to_json())
        assert dcap_qvl.verify(genuine(name).quote, passed_on, seconds).status == "UpToDate"
        if chain != own:
            with pytest.raises(ValueError, match=r"[Cc]ertificate chain"):
                dcap_qvl.verify(genuine(name).quote, dcap_qvl.QuoteCollateralV3.from_json(text), seconds)
    strangers = lab.evidence(platform=lab.stranger).parsed.signature.certification.data.decode()
    text = json.dumps(json.loads(evidence.collateral.to_json()) | {member: strangers})
    assert verify(evidence.quote, lab.policy, Collateral.from_json(text), root=evidence.trusted, now=NOW).ok


@pytest.mark.parametrize("version", [4, 5])
def test_reframed_sgx_quotes_are_unusable(lab, evidence, version):
    quote, collateral, then = (getattr(genuine("sgx_quote"), name) for name in ("quote", "collateral", "now"))
    simulated = lab.edit_signed(evidence, header={"version": version})
    with pytest.raises(ValueError, match="SGX TEE quote must have version 3"):
        dcap_qvl.verify(
            reframed(quote, version), dcap_qvl.QuoteCollateralV3.from_json(collateral.to_json()), int(then.timestamp())
        )
    for verdict in (verify(reframed(quote, version), ANY_ENCLAVE, collateral, now=then), simulated.verdict(lab.policy)):
        assert (verdict.kind, failed_codes(verdict)) == (VerdictKind.UNUSABLE, ["unsupported-quote-version"])
        assert verdict.claims is None


@pytest.mark.parametrize("version", [4, 5])
def test_no_collateral_is_fetched_for_them(evidence, version):
    quote = reframed(genuine("sgx_quote").quote, version)
    refused = refusal_without_collateral(quote, ANY_ENCLAVE, evidence.trusted, NOW)
    assert failed_codes(refused) == ["unsupported-quote-version"]


@pytest.mark.parametrize("name", TD_QUOTES)
@given(st.lists(st.tuples(st.integers(0, 1400), st.integers(0, 255)), min_size=1, max_size=4))
def test_no_changed_td_quote_raises(name, changes):
    quote = bytearray(genuine(name).quote)
    for offset, value in changes:
        quote[offset] = value
    assert inspect_quote(bytes(quote)).size == len(quote)
    assert not verify(bytes(quote), TdxPolicy(mr_td=bytes(48), report_data=bytes(64)), None, now=NOW).ok


@each_td
def test_inspect_shows_every_register(name):
    inspection = inspect_quote(genuine(name).quote)
    body = Quote.parse(genuine(name).quote).body
    assert (inspection.stopped, inspection.warnings) == (None, ())
    shown = section(inspection, "td_report")
    assert [*shown] == [*(field.name for field in fields(body)), "debug"]
    for field in fields(body):
        value = getattr(body, field.name)
        expected = value.hex() if isinstance(value, bytes) else value if field.name == "vmid" else f"{value:016x}"
        assert shown[field.name].value == expected
    assert shown["td_attributes"].note == "SEPT_VE_DISABLE"
    assert section(inspection, "header")["tee_type"].value == 0x81
    assert section(inspection, "certification")["outer_type"].value == 6
    assert section(inspection, "certification")["type"].value == 5
    assert all(section(inspection, "signature")[key].value for key in ("signature_valid", "bound_to_qe_report"))
    assert section(inspection, "pck_certificate")["signs_qe_report"].value is True
    assert section(inspection, "root_certificate")["platform"].value == "genuine"
    assert section(inspection, "marks")["found"].value == []
    keys = [part.key for part in inspection.sections]
    assert ("body_type" in keys) == (body.encode() != genuine(name).quote[48:632])


@each_td
def test_the_command_shows_every_register(name):
    body = Quote.parse(genuine(name).quote).body
    shown = json.loads(run_confcom("inspect", VECTORS / name, "--output", "json").stdout)["sections"]["td_report"]
    assert (shown["mr_td"], shown["rtmr2"], shown["debug"]) == (body.mr_td.hex(), body.rtmr2.hex(), False)
    text = run_confcom("inspect", VECTORS / name).stdout
    joined = "".join(text.split())
    for label in ("MRTD", "MRSEAM", "MRSIGNERSEAM", "SEAMATTRIBUTES", "TDATTRIBUTES", "XFAM", "RTMR0", "REPORTDATA"):
        assert f" {label}:" in text
    for value in (body.mr_td, body.mr_seam, body.rtmr3, body.report_data):
        assert value.hex() in joined


def test_inspect_warns_of_what_lays_a_td_open(tdx_lab):
    def inspected(**registers):
        return inspect_quote(tdx_lab.quote(**registers))

    assert inspected().warnings == ()
    for bit in (TdAttribute.DEBUG, TdAttribute.PERF_PROF, 0x80):
        found = inspected(td_attributes=bit)
        assert len(found.warnings) == 1
        assert section(found, "td_report")["debug"].value is True
    assert section(inspected(mr_service_td=b"s" * 48), "td_report")["mr_service_td"].note
    (warning,) = inspect_quote(genuine("tdx_quote").quote + bytes(70)).warnings
    assert warning.startswith("70 zero ")


@pytest.mark.parametrize("version", [4, 5])
def test_inspect_shows_reframed_sgx_quotes(evidence, version):
    inspection = inspect_quote(reframed(evidence.quote, version))
    original = inspect_quote(evidence.quote)
    assert inspection.stopped is None
    assert section(inspection, "report_body") == section(original, "report_body")
    assert section(inspection, "header")["version"].value == version
    assert ("body_type" in {part.key for part in inspection.sections}) == (version == 5)
