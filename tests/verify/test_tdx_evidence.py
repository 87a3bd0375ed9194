"""Genuine quotes of TDX, and SGX quotes of versions 4 and 5: `verify` tells them apart."""

import json
from dataclasses import replace

import dcap_qvl
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.sgx.tee_type import TeeType
from confcom.verify import INTEL, Collateral, SgxPolicy, VerdictKind, verify
from confcom.verify.prepared_collateral import platform_kind
from confcom.verify.trust import intel_root
from confcom.verify.verifier import refusal_without_collateral
from testkit.verify.genuine_quotes import TD_QUOTES, TIMES, VECTORS, genuine
from testkit.verify.verify_lab import NOW, failed_codes

ANY_ENCLAVE = SgxPolicy(mr_enclave=bytes(32), report_data=bytes(64))
each_td = pytest.mark.parametrize("name", TD_QUOTES)


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
def test_reframed_sgx_quotes_are_unusable_and_no_collateral_is_fetched_for_them(lab, evidence, version):
    good, code = genuine("sgx_quote"), "unsupported-quote-version"
    header = replace(good.parsed.header, version=version)
    reframed = replace(good, quote=replace(good.parsed, header=header).encode())
    simulated = lab.edit_signed(evidence, header={"version": version})
    assert "SGX TEE quote must have version 3" in reframed.appraisal()
    for verdict in (reframed.verdict(ANY_ENCLAVE), simulated.verdict(lab.policy)):
        assert (verdict.kind, failed_codes(verdict), verdict.claims) == (VerdictKind.UNUSABLE, [code], None)
    assert failed_codes(refusal_without_collateral(reframed.quote, ANY_ENCLAVE, reframed.trusted, NOW)) == [code]
