from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import MalformedError, WrongValueError
from confcom.sgx.key_id import ATT_KEY_ID_COMPARED, ECDSA_P256_KEY_ID, AttKeyAlgorithm, AttKeyId
from confcom.sgx.quote import QuoteHeader
from confcom.sgx.report import (
    QeReportInfo,
    Report,
    ReportBody,
    TargetInfo,
    attribute_names,
    mr_enclave_of,
    report_data,
)
from confcom.sgx.td_report import TdReport10, TdReport15, TdReport15Ex
from testkit.expected_errors import raises

CODECS = [
    (ReportBody, 384, "an SGX report body"),
    (Report, 432, "an SGX report"),
    (TargetInfo, 512, "SGX target info"),
    (QeReportInfo, 960, "qe_report_info"),
    (AttKeyId, 256, "an attestation key id"),
    (QuoteHeader, 48, "a quote header"),
    (TdReport10, 584, "a TD report 1.0"),
    (TdReport15, 648, "a TD report 1.5"),
    (TdReport15Ex, 885, "an extended TD report 1.5"),
]


@pytest.mark.parametrize(("codec", "size", "name"), CODECS)
@given(st.data())
def test_any_bytes_of_the_right_size_survive_a_round_trip(codec, size, name, data):
    raw = data.draw(st.binary(min_size=size, max_size=size))
    assert codec.parse(raw).encode() == raw


@pytest.mark.parametrize(("codec", "size", "name"), CODECS)
def test_every_other_length_is_refused(codec, size, name):
    for length in {*range(size), size + 1, 2 * size}:
        with raises("wrong-size", naming=f"{name} "):
            codec.parse(bytes(length))


def test_mr_enclave_is_taken_out_of_a_report():
    report = bytes(range(256)) + bytes(176)
    assert mr_enclave_of(report) == Report.parse(report).body.mr_enclave == bytes(range(64, 96))
    with raises("wrong-size", naming="an SGX report "):
        mr_enclave_of(report[:-1])


def test_qe_report_info_layout():
    info = QeReportInfo.parse(b"\x01" * 16 + b"\x02" * 512 + b"\x03" * 432)
    assert info.nonce == b"\x01" * 16
    assert info.app_enclave_target_info.encode() == b"\x02" * 512
    assert info.qe_report == b"\x03" * 432


@pytest.mark.parametrize(("codec", "size", "name"), CODECS)
def test_a_field_out_of_size_or_range_is_not_written(codec, size, name):
    parsed = codec.parse(bytes(size))
    for field in fields(codec):
        value = getattr(parsed, field.name)
        if isinstance(value, bytes):
            for wrong in (b"", value[:-1], value + b"\0"):
                with raises("wrong-size", MalformedError, naming=f"{field.name.removeprefix('encoded_')} of {name} "):
                    replace(parsed, **{field.name: wrong}).encode()
        elif isinstance(value, int):
            for wrong in (-1, 1 << 64):
                with raises("out-of-range", MalformedError, "why"):
                    replace(parsed, **{field.name: wrong}).encode()


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (0, ()),
        (0x05, ("INITTED", "MODE64BIT")),
        (0x15, ("INITTED", "MODE64BIT", "PROVISION_KEY")),
        (0x87, ("INITTED", "DEBUG", "MODE64BIT", "KSS")),
        (0x08, ("0x8",)),
        (1 << 63 | 2, ("DEBUG", "0x8000000000000000")),
    ],
)
def test_attribute_names(flags, names):
    assert attribute_names(flags) == names
    assert replace(ReportBody.parse(bytes(384)), flags=flags).debug == ("DEBUG" in names)


def test_report_data_is_the_challenge_and_zeros():
    assert report_data(b"a") == b"a" + bytes(63)
    assert report_data(b"\xab" * 64) == b"\xab" * 64
    for size in (0, 65):
        with raises("report-data-size", WrongValueError, "why", "remedy", naming=f" {size}"):
            report_data(bytes(size))


def test_our_key_is_the_one_that_intels_server_advertises(vector):
    message = vector("resp_intel229_ids")
    assert message[13:] == ECDSA_P256_KEY_ID.encode()
    assert AttKeyId.parse(message[13:]) == ECDSA_P256_KEY_ID
    assert ECDSA_P256_KEY_ID.algorithm_id == AttKeyAlgorithm.ECDSA_P256 == 2


def test_the_callers_own_fields_are_not_compared():
    assert ECDSA_P256_KEY_ID.encode()[ATT_KEY_ID_COMPARED:] == bytes(98)
    changed = AttKeyId.parse(ECDSA_P256_KEY_ID.encode()[:158] + b"\xff" * 98)
    assert changed.spid == b"\xff" * 16
    assert changed.algorithm_id == 2


def test_algorithms_have_intels_numbers():
    assert {a.name: a.value for a in AttKeyAlgorithm} == {
        "EPID_UNLINKABLE": 0,
        "EPID_LINKABLE": 1,
        "ECDSA_P256": 2,
        "ECDSA_P384": 3,
    }
