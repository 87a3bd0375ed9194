"""Genuine quotes of TDX, and SGX quotes of versions 4 and 5: `verify` tells them apart."""

import json
from dataclasses import replace

import dcap_qvl
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.sgx.quote import Quote
from confcom.sgx.tee_type import TeeType
from confcom.verify import INTEL, Collateral, SgxPolicy, VerdictKind, verify
from confcom.verify.prepared_collateral import platform_kind
from confcom.verify.trust import intel_root
from confcom.verify.verifier import refusal_without_collateral
from testkit.verify.genuine_quotes import TD_QUOTES, TIMES, VECTORS, genuine
from testkit.verify.verify_lab import NOW, failed_codes

ANY_ENCLAVE = SgxPolicy(mr_enclave=bytes(32), report_data=bytes(64))
each_td = pytest.mark.parametrize("name", TD_QUOTES)


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
