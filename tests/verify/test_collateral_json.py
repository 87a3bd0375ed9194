import contextlib
import json
from dataclasses import replace
from urllib.parse import quote as percent_encoded

import dcap_qvl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import MalformedError
from confcom.sgx.collateral_json import decode_json
from confcom.sgx.pck.chain import PCK_CAS
from confcom.simulation.collateral_staging import Staging
from confcom.simulation.platform import SimulatedPlatform
from confcom.verify import Collateral, SettingsError, read_collateral, verify
from confcom.verify.prepared_collateral import platform_kind
from testkit.expected_errors import raises
from testkit.verify.verify_lab import NOW, SEED


def intels(collateral, *, ca="PLATFORM", fmspc=b"SIMSGX", early=None, chain="TCB-Info-Issuer-Chain", **more):
    """Output of PcsClientTool, with the members that a verifier needs."""
    pem = {name: percent_encoded(getattr(collateral, name)) for name in (
        "tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_crl_issuer_chain")}  # fmt: skip
    entry = {"fmspc": fmspc.hex().upper(), "sgx_tcbinfo": json.loads(collateral.tcb_info)}
    identities = {"qeidentity": collateral.qe_identity.decode()}
    if early is not None:
        entry["sgx_tcbinfo_early"] = json.loads(early.tcb_info)
        identities["qeidentity_early"] = early.qe_identity.decode()
    collaterals = {
        "version": 4,
        "tcbinfos": [entry],
        "pckcacrl": {"processorCrl": "", "platformCrl": ""} | {f"{ca.lower()}Crl": collateral.pck_crl.hex()},
        "rootcacrl": collateral.root_ca_crl.hex(),
        "certificates": {
            "SGX-PCK-Certificate-Issuer-Chain": {ca: pem["pck_crl_issuer_chain"]},
            chain: pem["tcb_info_issuer_chain"],
            "SGX-Enclave-Identity-Issuer-Chain": pem["qe_identity_issuer_chain"],
        },
        **identities,
        **more,
    }
    return {"platforms": [], "collaterals": collaterals}


def test_dcap_qvls_form_is_read_and_written(lab, evidence, tmp_path):
    text = evidence.collateral.to_json()
    theirs = dcap_qvl.QuoteCollateralV3.from_json(text)
    assert Collateral.from_json(theirs.to_json()) == evidence.collateral == Collateral.from_json(text.encode())
    (tmp_path / "collateral.json").write_text(text)
    collateral = read_collateral(tmp_path / "collateral.json")
    assert verify(evidence.quote, lab.policy, collateral, root=evidence.trusted, now=NOW).ok


@pytest.mark.parametrize("ca", PCK_CAS)
@pytest.mark.parametrize("chain", ["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"])
def test_intels_form_is_read(lab, ca, chain):
    evidence = lab.evidence(platform=SimulatedPlatform.create(SEED, NOW, ca=ca))
    document = intels(evidence.collateral, ca=ca, chain=chain)
    for text in (json.dumps(document), json.dumps(document, indent=4)):
        for quote in (None, evidence.quote):
            assert Collateral.from_json(text, quote) == evidence.collateral


def with_tdx(document, collateral, *, early=None):
    """Intel's file with the members that PcsClientTool adds for TDX."""
    collaterals = document["collaterals"]
    for suffix, each in (("", collateral), ("_early", early)):
        if each is not None:
            collaterals["tcbinfos"][0][f"tdx_tcbinfo{suffix}"] = json.loads(each.tcb_info)
            collaterals[f"tdqeidentity{suffix}"] = each.qe_identity.decode()
    return document


def early_set(text, quote):
    return Collateral(**decode_json(text, platform_kind(quote), early=True))


def test_intels_form_has_sets_of_both_tees(tdx_lab, evidence):
    for_tdx, td_quote = tdx_lab.collateral(), tdx_lab.quote()
    early = tdx_lab.collateral(staging=Staging.EARLY, early=True)
    for options, expected in (({}, for_tdx), ({"early": early}, early)):
        text = json.dumps(with_tdx(intels(evidence.collateral), for_tdx, **options))
        assert early_set(text, evidence.quote) == evidence.collateral
        assert Collateral.from_json(text, td_quote) == for_tdx
        assert early_set(text, td_quote) == expected
        with raises("collateral-json", MalformedError, "why", "remedy"):
            Collateral.from_json(text)
    only = with_tdx(intels(evidence.collateral), for_tdx)
    del only["collaterals"]["tcbinfos"][0]["sgx_tcbinfo"]
    assert Collateral.from_json(json.dumps(only)) == for_tdx
    for quote, document in ((evidence.quote, only), (td_quote, intels(evidence.collateral))):
        with raises("wrong-member", MalformedError, naming="tcbinfo"):
            Collateral.from_json(json.dumps(document), quote)


def test_a_set_of_several_is_chosen_by_the_quote(lab, evidence):
    document = intels(evidence.collateral)
    other = intels(evidence.collateral, fmspc=bytes(6))["collaterals"]["tcbinfos"][0]
    document["collaterals"]["tcbinfos"].insert(0, other)
    assert Collateral.from_json(json.dumps(document), evidence.quote) == evidence.collateral
    with raises("collateral-json", MalformedError, "why", "remedy") as caught:
        Collateral.from_json(json.dumps(document))
    assert "53494d534758" in caught.value.why
    document["collaterals"]["tcbinfos"].pop()
    with raises("collateral-json", MalformedError, "why", "remedy"):
        Collateral.from_json(json.dumps(document), evidence.quote)


def test_the_early_set_is_taken_when_asked_for(lab, evidence):
    early = lab.collateral(staging=Staging.EARLY, early=True)
    text = json.dumps(intels(evidence.collateral, early=early))
    assert Collateral.from_json(text) == evidence.collateral
    assert early_set(text, evidence.quote) == early
    only = json.dumps(intels(evidence.collateral))
    assert early_set(only, evidence.quote) == evidence.collateral


WRONG = {
    "no JSON": "{",
    "not text": b"\xff",
    "a list": "[]",
    "nothing of it": "{}",
    "nested": "[" * 100_000,
    "a number": '{"collaterals": 1}',
    "no sets": '{"collaterals": {"tcbinfos": []}}',
    "too long": " " * (33 * 1024 * 1024),
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_what_is_no_collateral(text, evidence):
    with pytest.raises(MalformedError):
        Collateral.from_json(text, evidence.quote)


@given(st.data())
def test_no_change_of_a_member_is_worse_than_malformed(evidence, data):
    document = data.draw(st.sampled_from([json.loads(evidence.collateral.to_json()), intels(evidence.collateral)]))
    place = document
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[key], dict) or data.draw(st.booleans()):
            break
        place = place[key] or {"": 1}
    place[key] = data.draw(st.sampled_from([None, 1, "", "zz", [], {}, [{}], "%zz", "00"]))
    with contextlib.suppress(MalformedError):
        Collateral.from_json(json.dumps(document), evidence.quote)


def test_other_types_are_refused(evidence):
    with raises("wrong-type", SettingsError, "remedy"):
        Collateral.from_json(evidence.collateral.to_files())
    with pytest.raises(MalformedError):
        Collateral.from_json(evidence.collateral.to_json(), b"no quote")
    assert Collateral.from_json(replace(evidence.collateral).to_json()) == evidence.collateral
