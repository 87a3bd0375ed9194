import struct
from dataclasses import replace

import pytest

from confcom.errors import MalformedError
from confcom.sgx.quote import Quote, QuoteFrame
from testkit.expected_errors import raises


def test_trailing_bytes_are_kept_apart(ppid_quote):
    padded = ppid_quote + bytes(8192 - len(ppid_quote))
    quote = Quote.parse(padded)
    assert quote.trailing == bytes(8192 - len(ppid_quote))
    assert QuoteFrame.parse(padded).size == len(ppid_quote) == 1456
    assert quote.encode() == padded
    assert Quote(quote.header, quote.body, quote.signature) == Quote.parse(ppid_quote)


def refusal_of(code, data):
    with raises(code, MalformedError, "why", "remedy") as caught:
        Quote.parse(data)
    return caught.value


@pytest.mark.parametrize(
    ("code", "offset", "known", "unknown"),
    [("unsupported-quote-version", 0, (1, 2), (0, 0x7B)), ("unsupported-key-type", 2, (0, 1, 3), (4, 5))],
)
def test_other_versions_and_key_types_are_named(ppid_quote, code, offset, known, unknown):
    reasons = {}
    for number in (*known, *unknown):
        data = ppid_quote[:offset] + number.to_bytes(2, "little") + ppid_quote[offset + 2 :]
        error = refusal_of(code, data)
        assert str(number) in error.what
        reasons[number] = error.why
    assert reasons[unknown[0]] == reasons[unknown[1]]
    assert all(str(number) in reasons[number] for number in known)


def stub_quote():
    """Output of sgx_get_quote in the SDK's libsgx_uae_service_sim: sgx_quote_t, then padding and random bytes."""
    header = struct.pack("<HHIHHI", 2, 1, 0x0B, 0xEF, 0xEF, 0xEFEFEFEF) + bytes(range(16)) + bytes(16)
    return header + bytes(384) + (680).to_bytes(4, "little") + b"\xee" * 680


def test_what_the_sdks_stubs_give_is_named():
    for data in (stub_quote(), stub_quote()[:436], bytes(4096)):
        refusal_of("sdk-stub-quote", data)
    epid = bytearray(stub_quote())
    epid[8] = 0xEE
    for data in (bytes(epid), b"\x06\x00"):
        refusal_of("unsupported-quote-version", data)


def test_a_signature_size_that_disagrees_is_refused(ppid_quote):
    refusal_of("sdk-stub-quote", ppid_quote[:432] + bytes(4))  # the SDK's simulation makes these quotes
    error = refusal_of("truncated", ppid_quote[:432] + b"\xff" * 4 + ppid_quote[436:])
    assert "4294967295" in error.why
    assert "1020" in error.why
    size = int.from_bytes(ppid_quote[432:436], "little")
    for change, code in ((-1, "truncated"), (1, "excess-bytes")):
        with raises(code, MalformedError, "why"):
            Quote.parse(ppid_quote[:432] + (size + change).to_bytes(4, "little") + ppid_quote[436:] + b"\0")


def test_auth_data_of_any_size_is_carried(ppid_quote):
    quote = Quote.parse(ppid_quote)
    for size in (0, 0xFFFF):
        longer = replace(quote, signature=replace(quote.signature, auth_data=bytes(size)))
        assert Quote.parse(longer.encode()) == longer
    with raises("out-of-range", MalformedError):
        replace(quote.signature, auth_data=bytes(0x10000)).encode()


@pytest.mark.parametrize("field", ["isv_signature", "attestation_key", "qe_report_signature"])
def test_a_signature_or_key_of_another_size_is_not_written(ppid_quote, field):
    for size in (63, 65):
        with raises("wrong-size", MalformedError, "remedy"):
            replace(Quote.parse(ppid_quote).signature, **{field: bytes(size)}).encode()
