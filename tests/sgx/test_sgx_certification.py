import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import MalformedError
from confcom.sgx.binary import ByteReader
from confcom.sgx.certification import (
    MAX_CHAIN_CERTIFICATES,
    CertificationData,
    split_pem_chain,
)
from confcom.sgx.quote import Quote
from testkit.expected_errors import raises

PEM = b"-----BEGIN CERTIFICATE-----\nAAECA\nwQ=\n-----END CERTIFICATE-----"
PPID_SIZES = {1: (16, 36), 2: (256, 276), 3: (384, 404)}


@given(st.integers(0, 0xFFFF), st.binary(max_size=1000))
def test_every_certification_data_survives_a_round_trip(kind, data):
    certification = CertificationData(kind, data)
    raw = certification.encode()
    assert raw == kind.to_bytes(2, "little") + len(data).to_bytes(4, "little") + data
    assert CertificationData.read(ByteReader(raw, "")) == certification


def test_every_truncation_is_refused():
    raw = CertificationData(5, PEM).encode()
    for length in range(len(raw)):
        with raises("truncated", MalformedError):
            CertificationData.read(ByteReader(raw[:length], ""))
    for kind in (-1, 0x10000):
        with raises("out-of-range", MalformedError):
            CertificationData(kind, b"").encode()


@pytest.mark.parametrize(("kind", "sizes"), PPID_SIZES.items())
@given(st.data())
def test_every_ppid_is_parsed(kind, sizes, data):
    ppid_size, size = sizes
    raw = data.draw(st.binary(min_size=size, max_size=size))
    ppid = CertificationData(kind, raw).ppid_data()
    assert ppid.ppid == raw[:ppid_size]
    assert ppid.cpu_svn == raw[ppid_size : ppid_size + 16]
    assert ppid.pce_svn == int.from_bytes(raw[-4:-2], "little")
    assert ppid.pce_id == int.from_bytes(raw[-2:], "little")


def test_a_ppid_of_another_size_or_type_is_refused():
    wrong_sizes = [(kind, size) for kind, (_, right) in PPID_SIZES.items() for size in (0, right - 1, right + 1)]
    for kind, size in wrong_sizes:
        with raises("wrong-size", MalformedError, naming=f"type {kind} "):
            CertificationData(kind, bytes(size)).ppid_data()
    for kind in (0, 4, 5, 6, 7, 8):
        assert CertificationData(kind, bytes(36)).ppid_data() is None


def test_the_genuine_encrypted_ppid(ppid_quote):
    ppid = Quote.parse(ppid_quote).signature.certification.ppid_data()
    assert len(ppid.ppid) == 384
    assert ppid.cpu_svn.hex() == "05050205ff8001000000000000000000"
    assert (ppid.pce_svn, ppid.pce_id) == (6, 0)


def test_other_types_carry_no_chain():
    for kind, name in ((3, "3 (PPID_RSA3072_ENCRYPTED) "), (9, "9 ")):
        with raises("no-pck-chain", MalformedError, "why", "remedy", naming=f"type {name}"):
            CertificationData(kind, PEM).pem_chain()


def test_ends_and_separators_as_the_field_has_them():
    between, ends = (b"\n", b"\r\n", b"", b"\n\n"), (b"", b"\n", b"\n\0", b"\r\n", b"\0\0\0")
    for start, separator, end in itertools.product((b"", b"\n", b" \r\n"), between, ends):
        chain = start + PEM + separator + PEM + end
        assert split_pem_chain(chain) == (PEM + b"\n", PEM + b"\n"), chain


def test_no_other_byte_may_stand_around_a_certificate():
    for byte in set(range(256)) - set(b" \t\r\n\0"):
        extra = bytes([byte])
        for data in (extra + PEM, PEM + extra, PEM + extra + PEM):
            with raises("not-pem", MalformedError):
                split_pem_chain(data)


def test_lines_may_end_anywhere_in_the_base64_and_as_on_windows():
    for pem in (PEM.replace(b"AAECA\nwQ=", b"A\nAECAw=\n="), PEM.replace(b"\n", b"\r\n")):
        assert split_pem_chain(pem) == (pem + b"\n",)


def test_an_empty_chain_is_refused():
    for data in (b"", b"\n", b"\0", b" \t\r\n\0"):
        with raises("not-pem", MalformedError, "remedy"):
            split_pem_chain(data)


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"\n junk", 2),
        (PEM + b"\njunk", len(PEM) + 1),
        (b"junk\n" + PEM, 0),
        (PEM[:-1], 0),
        (PEM.replace(b"CERTIFICATE", b"PRIVATE KEY"), 0),
        (PEM.replace(b"AAEC", b"A\xff\0C"), 0),
        (b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----", 0),
        (b"-----BEGIN CERTIFICATE-----" + PEM, 0),
    ],
)
def test_anything_but_pem_certificates_is_refused_with_its_place(data, offset):
    with raises("not-pem", MalformedError, "remedy") as caught:
        split_pem_chain(data)
    assert caught.value.why.endswith(f" {offset}")


def test_a_body_that_is_not_base64_is_refused():
    for body in (b"AAE", b"AA=C", b"A===", b"A", b"AAE=AAAA", b"AA==AAAA"):
        with raises("not-pem", MalformedError) as caught:
            split_pem_chain(PEM + b"\n" + PEM.replace(b"AAECA\nwQ=", body))
        assert "certificate 2 " in caught.value.why


def test_a_chain_has_at_most_eight_certificates():
    assert MAX_CHAIN_CERTIFICATES == 8
    assert len(split_pem_chain(PEM * 8)) == 8
    with raises("not-pem", MalformedError):
        split_pem_chain(PEM * 9)
