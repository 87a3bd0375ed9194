"""Quotes by Intel's quoting enclave on real processors, judged as the hardware providers judge each quote.

The files are fixtures of the crate dcap-ql (see vectors/PROVENANCE.md), one of which is read where cargo has the crate.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from confcom.quote_provider.base import QuoteProviderError, QuotingIdentity
from confcom.quote_provider.expected_root import INTEL_ROOT, ExpectedRoot
from confcom.quote_provider.quote_checks import ENCRYPTED_PPID_QUOTE_SIZE, QuoteChecker
from confcom.sgx.quote import Quote
from confcom.sgx.report import TargetInfo
from testkit.crates import crate_source
from testkit.raised import raises

GENUINE = Path(__file__).parents[1] / "vectors" / "genuine-quotes"
CHAIN = (GENUINE / "quote_pck_cert_chain.bin").read_bytes()
ENCRYPTED_PPID = (GENUINE / "quote_raw_tcb.bin").read_bytes()


def identity_of(quote):
    """What InitQuoteEx of this quote's platform gave."""
    signature = quote.signature
    qe = signature.qe_report_body
    return QuotingIdentity(TargetInfo(qe.mr_enclave, qe.flags, qe.xfrm), signature.pub_key_id)


def check(data, checker=None, **others):
    told = {"size": len(data), "identity": identity_of(Quote.parse(data))} | others
    (checker or QuoteChecker(INTEL_ROOT)).check(data, **told)


def test_a_genuine_quote_is_relayed():
    checker = QuoteChecker(INTEL_ROOT)
    checker.check_size(len(CHAIN))
    for _ in range(2):
        check(CHAIN, checker)


def test_the_nul_that_ends_the_chain_on_hardware_is_no_reason():
    """Intel's library counts it to the certification data; the fixture was made without."""
    quote = Quote.parse(CHAIN)
    certification = replace(quote.signature.certification, data=quote.signature.certification.data + b"\0")
    check(replace(quote, signature=replace(quote.signature, certification=certification)).encode())


def test_a_genuine_quote_without_a_chain_is_useless():
    assert len(ENCRYPTED_PPID) == ENCRYPTED_PPID_QUOTE_SIZE
    checker = QuoteChecker(INTEL_ROOT)
    with raises("quote-without-pck-chain", QuoteProviderError):
        checker.check_size(len(ENCRYPTED_PPID))
    with raises("quote-without-pck-chain", QuoteProviderError):
        check(ENCRYPTED_PPID, checker)


def test_a_genuine_quote_is_none_of_a_test_root():
    with raises("quote-of-another-root", QuoteProviderError):
        check(CHAIN, QuoteChecker(ExpectedRoot(bytes(48))))


@pytest.mark.parametrize(
    ("changed", "error_code"),
    [("key", "quote-of-another-key"), ("enclave", "quote-of-another-enclave"), ("size", "quote-wrong-size")],
)
def test_a_genuine_quote_of_another_platform(changed, error_code):
    identity = identity_of(Quote.parse(CHAIN))
    others = {
        "key": {"identity": replace(identity, pub_key_id=bytes(32))},
        "enclave": {"identity": replace(identity, target_info=replace(identity.target_info, mr_enclave=bytes(32)))},
        "size": {"size": len(CHAIN) + 1},
    }
    with raises(error_code, QuoteProviderError):
        check(CHAIN, **others[changed])


@pytest.mark.parametrize(
    ("position", "error_code"),
    [(4, "quote-not-signed"), (48, "quote-not-signed"), (436, "quote-not-signed"), (564, "quote-key-not-certified")],
    ids=["header", "body", "signature", "qe report"],
)
def test_an_altered_genuine_quote(position, error_code):
    altered = bytearray(CHAIN)
    altered[position] ^= 1
    with raises(error_code, QuoteProviderError):
        check(bytes(altered), identity=identity_of(Quote.parse(CHAIN)))


def test_the_crates_own_corrupted_quote_is_not_relayed():
    tests = crate_source("dcap-ql", "0.4.3") / "tests"
    assert (tests / "quote_pck_cert_chain.bin").read_bytes() == CHAIN
    assert (tests / "quote_raw_tcb.bin").read_bytes() == ENCRYPTED_PPID
    corrupted = (tests / "quote_pck_cert_chain_corrupted.bin").read_bytes()
    with pytest.raises(QuoteProviderError):
        check(corrupted, identity=identity_of(Quote.parse(CHAIN)))
