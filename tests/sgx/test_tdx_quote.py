"""Genuine TDX quotes and their registers, and the error for each cut or changed quote of versions 3 to 5."""

from dataclasses import fields, replace

import dcap_qvl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import MalformedError
from confcom.sgx.certification import CertificationData, CertificationDataType
from confcom.sgx.pck.chain import (
    PckChain,
    attestation_key,
    attestation_key_is_bound,
    is_signed_by,
    qe_report_is_certified,
)
from confcom.sgx.quote import (
    INTEL_QE_VENDOR_ID,
    EcdsaSignatureData,
    Quote,
    QuoteFrame,
    QuoteHeader,
    body_type,
)
from confcom.sgx.report import INTEL_QE_MRSIGNER, ReportBody
from confcom.sgx.td_report import INTEL_TD_QE_MRSIGNER, TdAttribute, TdReport10, TdReport15, TdReport15Ex
from confcom.sgx.tee_type import TeeType
from testkit.expected_errors import raises
from testkit.verify.genuine_quotes import VECTORS
from tests.sgx.conftest import exactly

GENUINE = {
    "tdx_quote": (4, TdReport10, 4936, "91eb2b44d141d4ec", "889b7d6ff9df2405b240a830e73faf3d"),
    "tdx_quote_outdated": (5, TdReport15, 5006, "273828c46252fcbd", "dd130a3f3a9e91528dafeb58cc82c33b"),
    "tdx_quote_td15ex": (5, TdReport15Ex, 5247, "2a674327c50218db", "1f85fcc1bdb5a5a096bff437fad4d74c"),
}
each_genuine = pytest.mark.parametrize("name", GENUINE)
each_quote = pytest.mark.parametrize("name", [*GENUINE, "quote_pck_cert_chain.bin", "quote_raw_tcb.bin"])


def genuine(name):
    data = (VECTORS / name).read_bytes()
    return data, Quote.parse(data)


def require_dcap_qvls_registers(quote):
    theirs = dcap_qvl.Quote.parse(quote.encode()).report
    for field in fields(quote.body):
        ours, found = getattr(quote.body, field.name), getattr(theirs, field.name.replace("rtmr", "rt_mr"))
        if isinstance(found, bytes):
            found = found if isinstance(ours, bytes) else int.from_bytes(found, "little")
        assert ours == found, field.name


@each_genuine
def test_each_register_has_its_value(name):
    data, quote = genuine(name)
    version, codec, size, mr_td, qe_id = GENUINE[name]
    header, body = quote.header, quote.body
    assert (type(body), len(data), quote.trailing) == (codec, size, b"")
    require_dcap_qvls_registers(quote)
    assert (body.mr_td[:8].hex(), body.td_attributes) == (mr_td, TdAttribute.SEPT_VE_DISABLE)
    assert (header.version, header.att_key_type, header.tee_type) == (version, 2, TeeType.TDX)
    assert (header.qe_svn, header.pce_svn, header.user_data.hex()) == (0, 0, qe_id + "00000000")
    assert body.debug is False


@each_quote
def test_a_genuine_quote_is_encoded_to_the_same_bytes(name):
    data, quote = genuine(name)
    frame = QuoteFrame.parse(data)
    assert quote.encode() == data
    assert frame.signed_part == quote.signed_part == data[: len(frame.signed_part)]
    assert frame.size == len(data)


@each_quote
def test_a_genuine_quotes_signatures_hold(name):
    """The fields of the signature data can only be the right ones if all three signatures and hashes hold."""
    data, quote = genuine(name)
    assert is_signed_by(attestation_key(quote), QuoteFrame.parse(data).isv_signature, quote.signed_part)
    assert attestation_key_is_bound(quote)
    assert quote.header.vendor_id == INTEL_QE_VENDOR_ID
    assert quote.signature.qe_report_body.mr_signer == (INTEL_TD_QE_MRSIGNER if name in GENUINE else INTEL_QE_MRSIGNER)
    assert quote.signature.auth_data == bytes(range(32))
    if name == "quote_raw_tcb.bin":
        assert quote.signature.certification.kind is CertificationDataType.PPID_RSA3072_ENCRYPTED
        return
    chain = PckChain.from_quote(quote)
    assert qe_report_is_certified(quote, chain.leaf)
    assert chain.broken_link(chain.root) is None
    assert quote.signature.certification.kind is CertificationDataType.PCK_CERT_CHAIN


BODIES = {
    (3, TeeType.SGX): exactly(384).map(ReportBody.parse),
    (4, TeeType.SGX): exactly(384).map(ReportBody.parse),
    (4, TeeType.TDX): exactly(584).map(TdReport10.parse),
    (5, TeeType.SGX): exactly(384).map(ReportBody.parse),
    (5, TeeType.TDX): st.one_of(
        exactly(584).map(TdReport10.parse),
        exactly(648).map(TdReport15.parse),
        exactly(885).map(TdReport15Ex.parse),
    ),
}
SIGNATURES = st.builds(
    EcdsaSignatureData,
    isv_signature=exactly(64),
    attestation_key=exactly(64),
    qe_report_body=exactly(384).map(ReportBody.parse),
    qe_report_signature=exactly(64),
    auth_data=st.binary(max_size=100),
    certification=st.builds(CertificationData, type=st.integers(0, 0xFFFF), data=st.binary(max_size=500)),
)


@st.composite
def quotes(draw, kinds=tuple(BODIES)):
    version, tee = draw(st.sampled_from(kinds))
    header = QuoteHeader(
        version=version,
        tee_type=tee,
        qe_svn=draw(st.integers(0, 0xFFFF)),
        pce_svn=draw(st.integers(0, 0xFFFF)),
        user_data=draw(exactly(20)),
        vendor_id=draw(exactly(16)),
    )
    return Quote(header, draw(BODIES[version, tee]), draw(SIGNATURES), draw(st.binary(max_size=40)))


@given(quotes())
def test_every_quote_survives_a_round_trip(quote):
    data = quote.encode()
    frame = QuoteFrame.parse(data)
    assert Quote.parse(data) == quote
    assert Quote.parse(data).encode() == data
    assert (frame.header, frame.body, frame.trailing) == (quote.header, quote.body, quote.trailing)
    assert (frame.signed_part, frame.size) == (quote.signed_part, len(data) - len(quote.trailing))
    start = len(quote.signed_part) + 4
    assert data.startswith(quote.signed_part + (frame.size - start).to_bytes(4, "little"))
    assert (frame.isv_signature, frame.certifying_part) == (data[start : start + 64], data[start + 64 : frame.size])


@given(quotes(kinds=((4, TeeType.TDX), (5, TeeType.TDX))))
def test_dcap_qvl_reads_the_same_registers(quote):
    require_dcap_qvls_registers(quote)


@given(quotes(), st.data())
def test_every_cut_is_refused(quote, data):
    encoded = replace(quote, trailing=b"").encode()
    with raises("truncated", MalformedError, "why", "remedy"):
        Quote.parse(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@each_quote
def test_each_cut_of_a_genuine_quote_names_its_part(name):
    data, quote = genuine(name)
    ends = {2: ("the version", 0), 48: ("the header", 0)}
    start, size = 48, len(quote.body.encode())
    if quote.header.version == 5:
        ends |= {50: ("the body type", 48), 54: ("the body size", 50)}
        start = 54
    end = start + size
    ends |= {end: ("the report body", start), end + 4: ("the signature data's size", end)}
    ends[len(data)] = ("the signature data", end + 4)
    for length in range(len(data)):
        part, offset = next(found for end, found in ends.items() if length < end)
        with raises("truncated", MalformedError, "why", "remedy", naming=part) as caught:
            Quote.parse(data[:length])
        assert f"byte {offset} " in caught.value.why


@each_quote
def test_each_cut_of_signature_data_is_refused(name):
    _, quote = genuine(name)
    version = quote.header.version
    data = quote.signature.encode(version)
    assert EcdsaSignatureData.parse(data, version) == quote.signature
    for length in range(len(data)):
        with raises("truncated", MalformedError):
            EcdsaSignatureData.parse(data[:length], version)
    with raises("excess-bytes", MalformedError):
        EcdsaSignatureData.parse(data + b"\0", version)


def patched(data, offset, value):
    return data[:offset] + value + data[offset + len(value) :]


def u16(number):
    return number.to_bytes(2, "little")


def u32(number):
    return number.to_bytes(4, "little")


V4_SIGNATURE, V5_SIGNATURE = 48 + 584 + 4, 54 + 648 + 4
"""Offset of the signature data in `tdx_quote` and in `tdx_quote_outdated`."""
INNER = 128 + 6 + 384 + 64 + 2 + 32
"""Offset of the inner certification data in the signature data of genuine quotes."""
CHANGES = {
    "no such TEE": ("tdx_quote", 4, u32(7), "unsupported-tee-type", "byte 4 "),
    "a TD's body in an SGX quote": ("tdx_quote_outdated", 4, u32(0), "unsupported-body-type", "byte 48 "),
    "an enclave's body in a TDX quote": ("tdx_quote_outdated", 48, u16(1), "unsupported-body-type", "byte 48 "),
    "body type 0": ("tdx_quote_outdated", 48, u16(0), "unsupported-body-type", "byte 48 "),
    "body type 5": ("tdx_quote_outdated", 48, u16(5), "unsupported-body-type", "byte 48 "),
    "body type 1.0 with the size of 1.5": ("tdx_quote_outdated", 48, u16(2), "wrong-size", "byte 50 "),
    "a body one byte longer": ("tdx_quote_outdated", 50, u32(649), "wrong-size", "byte 50 "),
    "a body of 4 GiB": ("tdx_quote_outdated", 50, b"\xff" * 4, "wrong-size", "byte 50 "),
    "key type P-384": ("tdx_quote", 2, u16(3), "unsupported-key-type", ""),
    "no signature data": ("tdx_quote", V4_SIGNATURE - 4, u32(0), "truncated", "byte 0 "),
    "outer certification data of type 5": (
        *("tdx_quote", V4_SIGNATURE + 128, u16(5), "unsupported-certification-type", "byte 128 "),
    ),
    "outer certification data one byte shorter": ("tdx_quote", V4_SIGNATURE + 130, u32(4165), "excess-bytes", "4299"),
    "outer certification data one byte longer": ("tdx_quote", V4_SIGNATURE + 130, u32(4167), "truncated", "byte 134 "),
    "inner certification data one byte shorter": (
        *("tdx_quote_outdated", V5_SIGNATURE + INNER + 2, u32(3677), "excess-bytes", "4165"),
    ),
    "inner certification data one byte longer": (
        *("tdx_quote_outdated", V5_SIGNATURE + INNER + 2, u32(3679), "truncated", "byte 488 "),
    ),
}


@pytest.mark.parametrize(("name", "offset", "value", "code", "place"), CHANGES.values(), ids=CHANGES)
def test_each_error_names_its_field_and_offset(name, offset, value, code, place):
    data, _ = genuine(name)
    assert patched(data, offset, value) != data
    with raises(code, MalformedError, "why") as caught:
        Quote.parse(patched(data, offset, value))
    assert place in caught.value.why


@each_quote
def test_each_changed_byte_is_refused_or_shows(name):
    data, original = genuine(name)
    for offset in range(1456):  # the rest are certificates
        damaged = patched(data, offset, bytes([data[offset] ^ 1]))
        try:
            parsed = Quote.parse(damaged)
        except MalformedError:
            continue
        assert parsed.encode() == damaged
        assert parsed != original


@pytest.mark.parametrize("version", [4, 5])
def test_sgx_quotes_of_later_versions_are_read(chain_quote, version):
    sgx = Quote.parse(chain_quote)
    reframed = replace(sgx, header=replace(sgx.header, version=version))
    found = Quote.parse(reframed.encode())
    assert (found, found.body.mr_enclave) == (reframed, chain_quote[112:144])


MISFITS = [
    (3, TeeType.SGX, TdReport10, "unsupported-body-type"),
    (4, TeeType.SGX, TdReport10, "unsupported-body-type"),
    (4, TeeType.TDX, TdReport15, "unsupported-body-type"),
    (4, 7, TdReport10, "unsupported-tee-type"),
    (5, TeeType.SGX, TdReport15, "unsupported-body-type"),
]


@pytest.mark.parametrize(("version", "tee", "codec", "code"), MISFITS)
def test_a_body_that_does_not_fit_the_header_is_not_written(version, tee, codec, code):
    _, quote = genuine("tdx_quote")
    header = replace(quote.header, version=version, tee_type=tee)
    with raises(code, MalformedError):
        replace(quote, header=header, body=codec(bytes(16))).encode()


def test_longer_bodies_are_other_bodies():
    short, longer = TdReport10(bytes(16)), TdReport15(bytes(16))
    assert short != longer
    assert longer.encode().startswith(short.encode())
    assert [body_type(body).value for body in (short, longer, TdReport15Ex(bytes(16)))] == [2, 3, 4]


@pytest.mark.parametrize("bit", range(64))
def test_debug_is_any_bit_of_tud(bit):
    assert TdReport10(bytes(16), td_attributes=1 << bit).debug is (bit < 8)
    assert TdReport10(bytes(16), td_attributes=TdAttribute.DEBUG | 1 << bit).debug
