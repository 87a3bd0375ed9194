"""All bytes give a verdict, never an exception; a changed quote is verified only if the change is harmless."""

import random
import warnings
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from confcom.sgx.collateral_bundle import COLLATERAL_FILES
from confcom.sgx.pck.chain import PckChain
from confcom.sgx.quote import Quote
from confcom.simulation.keys import P256_ORDER
from confcom.verify.checks.authenticity import MAX_QUOTE_SIZE
from confcom.verify.inspection import inspect_quote
from confcom.verify.trust import TrustedRoot
from confcom.verify.verdict import VerdictKind
from confcom.verify.verifier import verify_quote
from testkit.verify.td_lab import BODIES, POLICY, TdxLab
from testkit.verify.verify_lab import NOW, Lab

LAB = Lab()
EVIDENCE = LAB.evidence()
QUOTES = {"SGX": (EVIDENCE, LAB.policy)} | {
    f"TD report {body}": (TdxLab().evidence(codec=codec), POLICY) for body, codec in BODIES.items()
}
ROOT = TrustedRoot.load(LAB.platform.pki.root.der)
CHAIN_START = 1052
BLANKS = b" \t\r\n\0"
REJECTED = {VerdictKind.NOT_AUTHENTIC, VerdictKind.UNUSABLE}

edits = st.lists(st.tuples(st.integers(0, 8191), st.integers(0, 255)), min_size=1, max_size=4)


def edited(data, changes):
    result = bytearray(data)
    for offset, value in changes:
        result[offset % len(data)] = value
    return bytes(result)


def meaning(quote):
    """The meaning of a quote: all but white space around and between the lines of its certificates."""
    parsed = Quote.parse(quote)
    certificates = tuple(c.public_bytes(Encoding.DER) for c in PckChain.from_quote(parsed).certificates)
    data = replace(parsed.signature.certification, data=b"")
    return replace(parsed, signature=replace(parsed.signature, certification=data)), certificates


def judge(quote, collateral=EVIDENCE.collateral, policy=LAB.policy):
    verdict = verify_quote(quote, ROOT, collateral, policy, NOW)
    assert verdict.ok == (verdict.kind is VerdictKind.VERIFIED)
    return verdict.kind


@given(st.binary(max_size=2000))
def test_any_bytes(data):
    assert judge(data) in REJECTED
    assert inspect_quote(data).size == len(data)


@pytest.mark.parametrize("kind", QUOTES)
@given(changes=edits)
def test_edited_quotes(kind, changes):
    good, policy = QUOTES[kind]
    quote = edited(good.quote, changes)
    assert inspect_quote(quote).size == len(quote)
    assert judge(quote, good.collateral, policy) in REJECTED or meaning(quote) == meaning(good.quote)


@given(st.integers(0, 2), edits)
def test_edited_certificates(number, changes):
    """The edits are in DER, so that the text around a certificate stays valid."""
    quote = LAB.with_edited_certificate(EVIDENCE, number, lambda der: edited(der, changes)).quote
    inspect_quote(quote)
    assert judge(quote) in REJECTED or meaning(quote) == meaning(EVIDENCE.quote)


def with_negative_serial(der):
    at = der.index(b"\xa0\x03\x02\x01\x02\x02") + 7  # after the version: tag and length of the serial number
    return edited(der, [(at, der[at] | 0x80)])


def with_long_country(der):
    """The organization (2.5.4.10) becomes the country (2.5.4.6), which must have two letters."""
    return edited(der, [(der.index(b"\x55\x04\x0a") + 2, 0x06)])


@pytest.mark.parametrize("filters", ["error", "always", "default"])
@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("odd", [with_negative_serial, with_long_country])
def test_what_cryptography_warns_about_is_refused(recwarn, odd, number, filters):
    quote = LAB.with_edited_certificate(EVIDENCE, number, odd).quote
    warnings.simplefilter(filters)
    assert judge(quote) in REJECTED
    assert inspect_quote(quote).stopped.error_code == "not-a-certificate"
    assert not recwarn.list
    assert warnings.filters[0][0] == filters


@pytest.mark.parametrize("part", COLLATERAL_FILES)
@settings(max_examples=20)
@given(changes=edits)
def test_edited_collateral(part, changes):
    files = EVIDENCE.collateral.to_files()
    data = edited(files[part], changes)
    if part == "pck_crl_issuer_chain.pem" or data.translate(None, BLANKS) == files[part].translate(None, BLANKS):
        return  # no verifier looks at this chain, and blanks in and between certificates mean nothing
    # The directory reader, bypassed here, refuses most of these: other builders of collateral must be safe too.
    assert judge(EVIDENCE.quote, replace(EVIDENCE.collateral, **{part.partition(".")[0]: data})) in REJECTED


def test_a_flipped_bit_is_never_verified():
    """Every 32nd byte, from an offset by the seed that pytest prints, so that several runs cover all bytes."""
    for offset in range(random.randrange(32), len(EVIDENCE.quote), 32):
        assert judge(edited(EVIDENCE.quote, [(offset, EVIDENCE.quote[offset] ^ 0x01)])) in REJECTED, offset


def test_a_quotes_bytes_are_no_name_for_it():
    """No signature covers white space within a certificate, and an ECDSA signature (r, s) has a twin (r, n - s)."""
    offset = EVIDENCE.quote.index(b"\n", EVIDENCE.quote.index(b"\n", CHAIN_START) + 1)
    assert judge(edited(EVIDENCE.quote, [(offset, ord("\t"))])) is VerdictKind.VERIFIED
    assert judge(edited(EVIDENCE.quote, [(len(EVIDENCE.quote) - 1, 0)])) is VerdictKind.VERIFIED
    quote = EVIDENCE.quote
    twin = P256_ORDER - int.from_bytes(quote[468:500], "big")
    assert judge(quote[:468] + twin.to_bytes(32, "big") + quote[500:]) is VerdictKind.VERIFIED


def test_more_bytes_than_any_quote_has_are_not_read():
    verdict = verify_quote(EVIDENCE.quote + bytes(MAX_QUOTE_SIZE), ROOT, EVIDENCE.collateral, LAB.policy, NOW)
    assert verdict.kind is VerdictKind.UNUSABLE
    assert [check.code for check in verdict.checks] == ["format"]
