import hashlib
import shutil
import ssl
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from confcom.errors import MalformedError, SettingsError
from confcom.sgx.certificate_parts import CertificateParts
from confcom.sgx.certificates import INTEL_ROOT_KEY_ID, key_id
from confcom.sgx.pck.chain import PckChain
from confcom.sgx.quote import Quote
from confcom.sgx.report import report_data
from confcom.verify import INTEL, NotVerifiedError, VerdictKind
from confcom.verify.ratls import Form, KeyBindingError, RatlsError, make_certificate, read_evidence, verify_certificate
from confcom.verify.ratls.evidence import OIDS, _claims, _Items
from testkit.expected_errors import raises
from testkit.verify.ratls_lab import (
    KEY,
    OTHER,
    certificate_with,
    claims_for,
    interoperable,
    open_enclave,
    open_enclave_evidence,
    pem_of,
    spki,
)
from testkit.verify.verify_lab import NOW

VECTORS = Path(__file__).parents[1] / "vectors" / "ra-tls"
REAL = {
    "gramine": [Form.INTEROPERABLE, Form.GRAMINE],
    "intel-sgxsdk": [Form.INTEROPERABLE, Form.INTEL_SDK],
    "rats-tls": [Form.INTEROPERABLE],
}


def real(name):
    return (VECTORS / f"{name}-cert.pem").read_bytes()


@pytest.mark.parametrize("name", REAL)
def test_certificates_of_real_machines_bind_their_keys(name):
    evidence = read_evidence(real(name))
    assert [one.form for one in evidence] == REAL[name]
    for one in evidence:
        quote = Quote.parse(one.quote)
        assert quote.body.report_data == one.report_data
        assert key_id(PckChain.from_quote(quote).root) == INTEL_ROOT_KEY_ID
        assert one.nonce is None


@pytest.mark.parametrize("name", REAL)
def test_real_quotes_are_authentic_as_far_as_can_be_seen(name, lab):
    """No collateral of the quotes' time is here, so only the signatures are decided."""
    verdict = verify_certificate(real(name), replace(lab.policy, report_data=None), None, INTEL)
    codes = {check.code: check.status.value for check in verdict.checks}
    assert verdict.kind is not VerdictKind.VERIFIED
    assert [codes[one] for one in ("key-binding", "format", "root")] == ["passed"] * 3
    assert codes["appraisal"] == "not-checked"


def sdk_with_claims(quote_for, key):
    value = interoperable(quote_for, key)
    return {Form.INTEROPERABLE: value, Form.INTEL_SDK: cbor2.loads(value).value[0]}


def with_custom_claims(quote_for, key):
    pem = pem_of(key) + b"\0"
    return {Form.OPEN_ENCLAVE_EVIDENCE: open_enclave_evidence(quote_for(pem), pem)}


FORMS = {
    "interoperable": lambda quote_for, key: {Form.INTEROPERABLE: interoperable(quote_for, key)},
    "interoperable, SHA-384": lambda quote_for, key: {Form.INTEROPERABLE: interoperable(quote_for, key, algorithm=7)},
    "interoperable, SHA-512": lambda quote_for, key: {Form.INTEROPERABLE: interoperable(quote_for, key, algorithm=8)},
    "gramine": lambda quote_for, key: {Form.GRAMINE: quote_for(spki(key))},
    "intel-sdk alone": lambda quote_for, key: {Form.INTEL_SDK: quote_for(pem_of(key) + b"\0")},
    "intel-sdk with claims": sdk_with_claims,
    "open-enclave": lambda quote_for, key: {Form.OPEN_ENCLAVE: open_enclave(quote_for(pem_of(key) + b"\0"))},
    "open-enclave-evidence": with_custom_claims,
    "ego": lambda quote_for, key: {Form.OPEN_ENCLAVE: open_enclave(quote_for(spki(key)))},
}


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_each_form_is_verified_and_binds_its_key(make, peer):
    values = make(peer.quote_over, KEY)
    verdict = peer.verdict(certificate_with(values, KEY))
    assert verdict.require_ok().report_data in {one.report_data for one in read_evidence(certificate_with(values, KEY))}
    assert [check.code for check in verdict.checks][:2] == ["key-binding", "format"]
    stolen = certificate_with(values, OTHER)
    with raises("key-binding", KeyBindingError, "why", "remedy"):
        read_evidence(stolen)
    verdict = peer.verdict(stolen)
    assert (verdict.kind, str(verdict)) == (VerdictKind.NOT_AUTHENTIC, "not-authentic: key-binding")
    with pytest.raises(NotVerifiedError):
        verdict.require_ok()


@pytest.mark.parametrize("name", ["gramine", "intel-sdk alone", "open-enclave", "open-enclave-evidence"])
def test_every_extension_must_bind_the_key(name, peer):
    ((other, value),) = FORMS[name](peer.quote_over, OTHER).items()
    certificate = certificate_with({Form.INTEROPERABLE: interoperable(peer.quote_over, KEY), other: value}, KEY)
    with raises("key-binding", KeyBindingError, naming=other.value):
        read_evidence(certificate)


def test_every_quote_of_a_certificate_is_verified(peer):
    good, forged = peer.quote_over(spki(KEY)), bytearray(peer.quote_over(spki(KEY)))
    forged[500] ^= 1  # in the signature
    for first, second in ((good, bytes(forged)), (bytes(forged), good)):
        values = {Form.GRAMINE: first, Form.OPEN_ENCLAVE: open_enclave(second)}
        assert peer.verdict(certificate_with(values, KEY)).kind is VerdictKind.NOT_AUTHENTIC


def test_the_policy_decides_but_for_report_data(lab, peer):
    certificate = make_certificate(peer.quote_for, KEY)
    assert peer.verdict(certificate).ok
    assert peer.verdict(certificate, mr_enclave=bytes(32)).failures[0].code == "mr-enclave"
    assert peer.verdict(certificate, allow_simulated=False).failures[0].code == "platform"
    with raises("wrong-value", SettingsError, "why", "remedy"):
        verify_certificate(certificate, lab.policy, None)
    for arguments in ((certificate.decode(), peer.policy, None), (certificate, None, None)):
        with raises("wrong-type", SettingsError):
            verify_certificate(*arguments)
    asked = []
    verdict = verify_certificate(
        certificate, peer.policy, lambda quote: asked.append(quote) or peer.collateral, peer.root, NOW
    )
    assert verdict.ok
    assert asked == [read_evidence(certificate)[0].quote]


def test_collateral_is_asked_for_after_the_signatures(peer):
    good = make_certificate(peer.quote_for, KEY)
    forged = bytearray(peer.quote_over(spki(KEY)))
    forged[500] ^= 1
    cases = {
        "the root of another": (good, INTEL, []),
        "no root": (good, None, []),
        "a forged quote": (certificate_with({Form.GRAMINE: bytes(forged)}, KEY), peer.root, []),
        "a good quote": (good, peer.root, [read_evidence(good)[0].quote]),
    }
    for name, (certificate, root, expected) in cases.items():
        asked = []
        collateral = lambda quote: asked.append(quote) or peer.collateral  # noqa: B023, E731 # called in this round
        verdict = verify_certificate(certificate, peer.policy, collateral, root, NOW)
        assert asked == expected, name
        assert verdict.kind is (VerdictKind.VERIFIED if expected else VerdictKind.NOT_AUTHENTIC), name


@pytest.mark.parametrize(("claimed", "asked", "holds"), [
    (b"challenge", b"challenge", True),
    (b"challenge", None, True),
    (b"an older challenge", b"challenge", False),
    (None, b"challenge", False),
])  # fmt: skip
def test_a_nonce_is_compared(peer, claimed, asked, holds):
    certificate = make_certificate(peer.quote_for, KEY, nonce=claimed)
    assert read_evidence(certificate)[0].nonce == claimed
    verdict = peer.verdict(certificate, nonce=asked)
    assert [check.code for check in verdict.failures] == ([] if holds else ["nonce"])
    assert verdict.ok is holds


def test_an_authoritys_certificate_is_no_evidence(peer):
    certificate = certificate_with({}, KEY)
    with raises("no-evidence", RatlsError, "why", "remedy"):
        read_evidence(certificate)
    verdict = peer.verdict(certificate)
    assert (verdict.kind, str(verdict)) == (VerdictKind.UNUSABLE, "unusable: certificate")


def tagged(quote, buffer, tag=60000):
    return cbor2.dumps(cbor2.CBORTag(tag, [quote, buffer]))


ENTRY = cbor2.dumps([1, hashlib.sha256(spki(KEY)).digest()])
CLAIMS = cbor2.dumps({"pubkey-hash": ENTRY})
MALFORMED = {
    "empty": b"",
    "bytes after it": tagged(b"q", CLAIMS) + b"\0",
    "a report's tag": tagged(b"q", CLAIMS, 60001),
    "three members": cbor2.dumps(cbor2.CBORTag(60000, [b"q", CLAIMS, b""])),
    "indefinite array": b"\xd9\xea\x60\x9f\x41q" + cbor2.dumps(CLAIMS) + b"\xff",
    "indefinite quote": b"\xd9\xea\x60\x82\x5f\x41q\xff" + cbor2.dumps(CLAIMS),
    "a quote of 4 GiB": b"\xd9\xea\x60\x82\x5a\xff\xff\xff\xff",
    "a longer length than needed": b"\xd9\xea\x60\x82\x58\x01q" + cbor2.dumps(CLAIMS),
    "claims that are no bytes": cbor2.dumps(cbor2.CBORTag(60000, [b"q", {"pubkey-hash": ENTRY}])),
    "claims that are no map": tagged(b"q", ENTRY),
    "empty claims": tagged(b"q", b""),
    "no claims": tagged(b"q", b"\xa0"),
    "24 claims": tagged(b"q", cbor2.dumps({"pubkey-hash": ENTRY} | {str(number): 1 for number in range(23)})),
    "a claim twice": tagged(b"q", b"\xa2" + 2 * CLAIMS[1:]),
    "bytes after the claims": tagged(b"q", CLAIMS + b"\0"),
    "a claim with structure": tagged(b"q", cbor2.dumps({"pubkey-hash": ENTRY, "x": []})),
    "no key": tagged(b"q", cbor2.dumps({"nonce": b"n"})),
    "a key that is text": tagged(b"q", cbor2.dumps({"pubkey-hash": "text"})),
    "a nonce that is a number": tagged(b"q", cbor2.dumps({"pubkey-hash": ENTRY, "nonce": 1})),
    "SHA-1": tagged(b"q", cbor2.dumps({"pubkey-hash": cbor2.dumps([2, bytes(20)])})),
    "a name that is no UTF-8": tagged(b"q", b"\xa1\x61\xff\x41a"),
    "deep": tagged(b"q", b"\x81" * 20_000),
    "a shared reference": tagged(b"q", b"\xa1\xd8\x1c\x61a\x41b"),
}


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
def test_malformed_interoperable_evidence_is_refused(value):
    with raises("evidence-malformed", RatlsError, "why", "remedy"):
        read_evidence(certificate_with({Form.INTEROPERABLE: value}, KEY))


PEM = pem_of(KEY) + b"\0"
LOCAL = "09268c336e0b45e58a2715644d0ef89a"  # OE_FORMAT_UUID_SGX_LOCAL_ATTESTATION
NO_QUOTES = {
    "a letter": (Form.INTEROPERABLE, tagged(b"q", CLAIMS), "truncated"),
    "nothing": (Form.GRAMINE, b"", "truncated"),
    "zeros": (Form.INTEL_SDK, bytes(100), "sdk-stub-quote"),
    "a header alone": (Form.OPEN_ENCLAVE, b"\x01\0\0\0\x02\0\0\0\xff\0\0\0\0\0\0\0", "evidence-malformed"),
    "a bare quote": (Form.OPEN_ENCLAVE, b"\x03" + bytes(500), "evidence-malformed"),
    "half a header": (Form.OPEN_ENCLAVE, b"\x04\0", "evidence-malformed"),
    "no quote before the claims": (Form.OPEN_ENCLAVE_EVIDENCE, open_enclave_evidence(b"", PEM), "truncated"),
    "claims of other names": (Form.OPEN_ENCLAVE_EVIDENCE, open_enclave_evidence(b"q", b"claims"), "key-binding"),
    "an older header": (Form.OPEN_ENCLAVE_EVIDENCE, open_enclave_evidence(b"q", PEM, 2), "evidence-malformed"),
    "a local report": (Form.OPEN_ENCLAVE_EVIDENCE, open_enclave_evidence(b"q", PEM, 3, LOCAL), "evidence-malformed"),
    "another size": (Form.OPEN_ENCLAVE_EVIDENCE, open_enclave_evidence(b"q", PEM) + b"\0", "evidence-malformed"),
}


@pytest.mark.parametrize(("form", "value", "code"), NO_QUOTES.values(), ids=NO_QUOTES)
def test_what_is_no_quote_is_told(form, value, code):
    with raises(code, MalformedError):
        read_evidence(certificate_with({form: value}, KEY))


def test_other_claims_are_bound_and_left_alone(peer):
    buffer = claims_for(KEY, more={"note": "text", "number": -1})
    values = {Form.INTEROPERABLE: tagged(peer.quote_over(buffer), buffer)}
    assert peer.verdict(certificate_with(values, KEY)).ok
    assert set(_claims(buffer)) == {"pubkey-hash", "note", "number"}


OWN = make_certificate(lambda _: b"no quote", KEY, now=NOW)
SEEDS = [*map(real, REAL), OWN]


@st.composite
def mutated(draw):
    seed = draw(st.sampled_from(SEEDS))
    der = bytearray(ssl.PEM_cert_to_DER_cert(seed.decode()))
    near = draw(st.sampled_from([400, len(der)]))  # names and key are at the beginning
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, min(len(der), near) - 1))
        match draw(st.sampled_from(["set", "cut", "insert", "end"])):
            case "set":
                der[at] = draw(st.integers(0, 255))
            case "cut":
                del der[at : at + draw(st.integers(1, 5))]
            case "insert":
                der[at:at] = draw(st.binary(min_size=1, max_size=5))
            case "end":
                del der[max(at, 20) :]
    return bytes(der)


@settings(max_examples=400, deadline=None)
@given(certificate=mutated())
def test_mutations_raise_only_our_errors(certificate, peer):
    assert not verify_certificate(certificate, peer.policy, None, peer.root, NOW).ok
    try:
        evidence = read_evidence(certificate)
    except MalformedError:
        return
    assert all(Quote.parse(one.quote).body.report_data == one.report_data for one in evidence)


def test_a_flipped_bit_verifies_no_other_key(peer):
    good = ssl.PEM_cert_to_DER_cert(make_certificate(peer.quote_for, KEY, now=NOW).decode())
    verdicts = []
    for at in range(0, len(good), 41):
        flipped = good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :]
        verdicts.append(peer.verdict(flipped))
        if verdicts[-1].ok:
            assert CertificateParts.parse(flipped).public_key == spki(KEY)
            assert read_evidence(flipped)[0].report_data == read_evidence(good)[0].report_data
    assert sum(not one.ok for one in verdicts) > 100


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([0, 1, 2, 3]))
def test_no_cbor_raises_another_error(data, kind):
    for read in (lambda: _Items(data).take(kind), lambda: _claims(data), lambda: _claims(b"\xa1\x61a" + data)):
        try:
            read()
        except RatlsError:
            continue


@given(st.dictionaries(st.text(max_size=8), st.one_of(st.binary(), st.text(), st.integers(0, 2**64 - 1)), min_size=1))
def test_claims_round_trip(claims):
    if len(claims) < 24:
        assert _claims(cbor2.dumps(claims)) == claims


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), b"key"], ids=["P-384", "bytes"])
def test_another_kind_of_key_makes_no_certificate(key):
    with raises("wrong-type", SettingsError):
        make_certificate(lambda _: b"", key)


def test_an_empty_nonce_is_refused(peer):
    certificate = make_certificate(peer.quote_for, KEY)
    for use in (partial(peer.verdict, certificate), partial(make_certificate, peer.quote_for, KEY)):
        with raises("wrong-value", SettingsError, "why", "remedy"):
            use(nonce=b"")


def test_a_made_certificate_is_read_by_others(peer, tmp_path):
    pem = make_certificate(peer.quote_for, KEY, nonce=b"n", now=NOW)
    certificate = x509.load_pem_x509_certificate(pem)
    certificate.verify_directly_issued_by(certificate)
    (tmp_path / "cert.pem").write_bytes(pem)
    if not (openssl := shutil.which("openssl")):
        pytest.skip("no openssl")
    command = [openssl, "x509", "-in", tmp_path / "cert.pem", "-noout", "-text"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "2.23.133.5.4.9" in shown or "dice" in shown.lower() or "TaggedEvidence" in shown
    assert "NIST CURVE: P-256" in shown


def test_report_data_are_those_of_the_claims(peer):
    asked = []
    pem = make_certificate(lambda data: asked.append(data) or peer.quote_for(data), KEY)
    assert asked == [report_data(hashlib.sha256(CLAIMS).digest())] == [read_evidence(pem)[0].report_data]


@pytest.mark.parametrize("form", Form)
def test_the_oids_are_those_of_the_documents(form):
    certificate = certificate_with({form: b""}, KEY)
    assert OIDS[form] in CertificateParts.parse(certificate).extensions
    assert CertificateParts.parse(certificate).public_key == spki(KEY)
