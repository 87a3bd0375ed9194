"""Quotes of versions 4 and 5: genuine TDX quotes, the value of each register, and the error for a changed quote."""

from dataclasses import fields, replace
from pathlib import Path

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
from confcom.sgx.quote import EcdsaSignatureData, Quote, QuoteFrame, QuoteHeader, body_type, require_sgx
from confcom.sgx.report import ReportBody
from confcom.sgx.td_report import INTEL_TD_QE_MRSIGNER, TdAttribute, TdReport10, TdReport15, TdReport15Ex
from confcom.sgx.tee_type import TeeType
from testkit.expected_errors import raises

VECTORS = Path(__file__).parents[1] / "vectors" / "genuine-quotes"
ZEROS = "00" * 48
SEPT_VE_DISABLE = 1 << 28
BASE = {
    "mr_signer_seam": ZEROS,
    "seam_attributes": 0,
    "td_attributes": SEPT_VE_DISABLE,
    "xfam": 0x602E7,
    "mr_config_id": ZEROS,
    "mr_owner": ZEROS,
    "mr_owner_config": ZEROS,
    "rtmr3": ZEROS,
}
TD_1_0 = BASE | {
    "tee_tcb_svn": "06010300000000000000000000000000",
    "mr_seam": "5b38e33a6487958b72c3c12a938eaa5e3fd4510c51aeeab58c7d5ecee41d7c436489d6c8e4f92f160b7cad34207b00c1",
    "mr_td": "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7",
    "rtmr0": "44c0197b39157fdd7a4dcc44767f9d6b0bb3977c7a8e347b8492f827fe9d9e5c48aca29b220b80b6a540cf994b9bc9c0",
    "rtmr1": "0084452c01668329d4bc06acdf58a7205c26743304509973949e5619bf81a6a7aea8c323c173019b3093d54e579e9378",
    "rtmr2": "d833feef2cd945148aa38ead2c53e9b7f138190aaaebfc551dccd829fc207aa3ba80b70870d7330733642e01d48c3132",
    "report_data": "9a9d48e7f6799642d3d1b34e1e5e1742d4bb02dd6ddd551862c1211d35c304f9"
    "eca3efdbb481601c163cf52493d6e44aed55d51ec39b7e518fadb92c2b523f20",
}
TD_1_5 = BASE | {
    "tee_tcb_svn": "07010300000000000000000000000000",
    "mr_seam": "49b66faa451d19ebbdbe89371b8daf2b65aa3984ec90110343e9e2eec116af08850fa20e3b1aa9a874d77a65380ee7e6",
    "xfam": 0x618E7,
    "mr_td": "273828c46252fcbdd8ad2dd907130222b03466d52a2911d70c1a5950895d6bd1ae451d382d5a9b1b4c0ed0e5ae9a3dbd",
    "rtmr0": ZEROS,
    "rtmr1": ZEROS,
    "rtmr2": ZEROS,
    "report_data": "d2142b643598eb5fae2bc8529dd79a558b29f868ccbb6531cb28dab9dce47728" + "00" * 32,
    "tee_tcb_svn2": "0d010300000000000000000000000000",
    "mr_service_td": ZEROS,
}
TD_1_5_EX = BASE | {
    "tee_tcb_svn": "0f010400000000000000000000000000",
    "mr_seam": "ab62561a173acbd18ee50ff37750db44184c6cf5e886df74247cc575e163b04c34b9e18374757c235affa614d4127f6b",
    "mr_td": "2a674327c50218dba880066b349b8d559d749ed68dce33fd651c184a877d084b07a9e583767a7ad5da13ed91deec2b70",
    "mr_config_id": "0151ed70bddb5f12574176b37e3f53bbfc4ba15c33cbddc2d03d90b6de14596c" + "c0" + "00" * 15,
    "rtmr0": "0345d2a146eec673fb3861a4d88c5093ef0934b142884294377628cf09fb21bfa979acec61e79f925f5fccaad0827165",
    "rtmr1": "3484cd07ba093cede0938303617d6da58f3c6a895ddd5461b3bdd0b29f40e869d4c92642867b44bd3619451bd78ff2d0",
    "rtmr2": "83b7a9a35ed613c17a8b9d36a49f28b095f54daa78b328c93eef10ae3e21094c1411467e3371157c4cde5e0beb72dcb8",
    "rtmr3": "556d4986cae57e7e3756b6471e4951be6f5f1b4e70942c72325223d6af239da90f1484eeb627727e6d2c0755393b5fdf",
    "report_data": "2945321c99222c3622a14cf7feaab073e799be14b5f3e73cd2e6cad64e5f0624"
    "63ad204f33f0a39e47d098330db88ca5b5d0a7afce540dfe4c4fe4a377190731",
    "tee_tcb_svn2": "0f010400000000000000000000000000",
    "mr_service_td": ZEROS,
    "vmid": 0,
    "td_id": "e1f3ee829cb6f039318b8ae3eee622622775f4c9128fee747cb662c624d88b8e",
    "dev_info": ZEROS,
    "init_service_td_hash": ZEROS,
    "init_service_td_attributes": 0,
    "init_cpu_svn": "00" * 16,
    "init_tee_tcb_svn": "00" * 16,
    "init_tee_fmspc": "00" * 12,
    "cur_service_td_hash": ZEROS,
    "cur_service_td_attributes": 0,
}
GENUINE = {
    "tdx_quote": (4, TdReport10, 4936, TD_1_0, "889b7d6ff9df2405b240a830e73faf3d"),
    "tdx_quote_outdated": (5, TdReport15, 5006, TD_1_5, "dd130a3f3a9e91528dafeb58cc82c33b"),
    "tdx_quote_td15ex": (5, TdReport15Ex, 5247, TD_1_5_EX, "1f85fcc1bdb5a5a096bff437fad4d74c"),
}
each_genuine = pytest.mark.parametrize("name", GENUINE)


def genuine(name):
    data = (VECTORS / name).read_bytes()
    return data, Quote.parse(data)


def plain(value):
    return value.hex() if isinstance(value, bytes) else value


@each_genuine
def test_each_register_has_its_value(name):
    data, quote = genuine(name)
    version, codec, size, registers, qe_id = GENUINE[name]
    header, body = quote.header, quote.body
    assert (type(body), len(data), quote.trailing) == (codec, size, b"")
    assert {field.name: plain(getattr(body, field.name)) for field in fields(body)} == registers
    assert (header.version, header.att_key_type, header.tee_type) == (version, 2, TeeType.TDX)
    assert (header.qe_svn, header.pce_svn, header.user_data.hex()) == (0, 0, qe_id + "00000000")
    assert body.under_debug is False


@each_genuine
def test_a_genuine_quote_is_encoded_to_the_same_bytes(name):
    data, quote = genuine(name)
    frame = QuoteFrame.parse(data)
    assert quote.encode() == data
    assert frame.signed_part == quote.signed_part == data[: len(frame.signed_part)]
    assert frame.size == len(data)


@each_genuine
def test_a_genuine_quotes_signatures_hold(name):
    """The fields of the signature data can only be the right ones if all three signatures and hashes hold."""
    data, quote = genuine(name)
    chain = PckChain.from_quote(quote)
    assert is_signed_by(attestation_key(quote), QuoteFrame.parse(data).isv_signature, quote.signed_part)
    assert qe_report_is_certified(quote, chain.leaf)
    assert attestation_key_is_bound(quote)
    assert chain.broken_link(chain.root) is None
    assert quote.signature.qe_report_body.mr_signer == INTEL_TD_QE_MRSIGNER
    assert quote.signature.auth_data == bytes(range(32))
    assert quote.signature.certification.kind is CertificationDataType.PCK_CERT_CHAIN


def test_bytes_after_a_quote_are_kept_apart():
    data, quote = genuine("tdx_quote")
    assert Quote.parse(data + bytes(70)) == replace(quote, trailing=bytes(70))


def exactly(size):
    return st.binary(min_size=size, max_size=size)


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


def qvl_name(name):
    return name.replace("rtmr", "rt_mr")


@given(quotes(kinds=((4, TeeType.TDX), (5, TeeType.TDX))))
def test_dcap_qvl_reads_the_same_registers(quote):
    theirs = dcap_qvl.Quote.parse(quote.encode()).report
    for field in fields(quote.body):
        ours, found = getattr(quote.body, field.name), getattr(theirs, qvl_name(field.name))
        if isinstance(found, bytes):
            found = found if isinstance(ours, bytes) else int.from_bytes(found, "little")
        assert ours == found, field.name


@given(quotes(), st.data())
def test_every_cut_is_refused(quote, data):
    encoded = replace(quote, trailing=b"").encode()
    with raises("truncated", MalformedError, "why", "remedy"):
        Quote.parse(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@each_genuine
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


@each_genuine
def test_each_cut_of_signature_data_is_refused(name):
    _, quote = genuine(name)
    data = quote.signature.encode(4)
    assert EcdsaSignatureData.parse(data, 4) == quote.signature
    for length in range(len(data)):
        with raises("truncated", MalformedError):
            EcdsaSignatureData.parse(data[:length], 4)
    with raises("excess-bytes", MalformedError):
        EcdsaSignatureData.parse(data + b"\0", 4)


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


@each_genuine
def test_each_changed_byte_is_refused_or_shows(name):
    data, original = genuine(name)
    for offset in range(V5_SIGNATURE + INNER + 40):
        damaged = patched(data, offset, bytes([data[offset] ^ 1]))
        try:
            parsed = Quote.parse(damaged)
        except MalformedError:
            continue
        assert parsed.encode() == damaged
        assert parsed != original


@pytest.mark.parametrize("version", [4, 5])
def test_only_sgx_quotes_of_version_3_are_taken_for_sgx(chain_quote, version):
    sgx = Quote.parse(chain_quote)
    assert require_sgx(sgx) == sgx.body
    reframed = replace(sgx, header=replace(sgx.header, version=version))
    found = Quote.parse(reframed.encode())
    assert (found, found.body.mr_enclave) == (reframed, chain_quote[112:144])
    with raises("unsupported-quote-version", MalformedError, "why", "remedy", naming=str(version)):
        require_sgx(found)
    with raises("tee", MalformedError, "why", "remedy"):
        require_sgx(genuine("tdx_quote")[1])


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


def test_each_field_has_its_size():
    for field in fields(TdReport15Ex):
        body = TdReport15Ex(bytes(16))
        value = getattr(body, field.name)
        code = "wrong-size" if isinstance(value, bytes) else "out-of-range"
        with raises(code, MalformedError):
            replace(body, **{field.name: value + b"\0" if isinstance(value, bytes) else 1 << 64}).encode()


def test_longer_bodies_are_other_bodies():
    short, longer = TdReport10(bytes(16)), TdReport15(bytes(16))
    assert short != longer
    assert longer.encode().startswith(short.encode())
    assert [body_type(body).value for body in (short, longer, TdReport15Ex(bytes(16)))] == [2, 3, 4]


@pytest.mark.parametrize("bit", range(64))
def test_debug_is_any_bit_of_tud(bit):
    assert TdReport10(bytes(16), td_attributes=1 << bit).under_debug is (bit < 8)
    assert TdReport10(bytes(16), td_attributes=TdAttribute.DEBUG | 1 << bit).under_debug
