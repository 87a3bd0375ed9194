"""Tests how each quote from aesmd is checked before a client gets the quote.

The quotes in the files are from Intel's quoting enclave on real processors (vectors/PROVENANCE.md).
"""

from dataclasses import replace
from pathlib import Path

import pytest

from confcom.aesm.messages import QuotingTarget
from confcom.quote_provider.base import QuoteProviderError
from confcom.quote_provider.expected_root import INTEL_ROOT, ExpectedRoot
from confcom.quote_provider.quote_checks import ENCRYPTED_PPID_QUOTE_SIZE, QuoteChecker
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import open_or_create_platform, open_platform
from confcom.sgx.certificates import key_id, load_certificate
from confcom.sgx.certification import CertificationData, split_pem_chain
from confcom.sgx.pck.chain import PckChain
from confcom.sgx.quote import Quote
from confcom.sgx.report import TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
from testkit.expected_errors import raises

GENUINE = Path(__file__).parents[1] / "vectors" / "genuine-quotes"
CHAIN = (GENUINE / "quote_pck_cert_chain.bin").read_bytes()
ENCRYPTED_PPID = (GENUINE / "quote_raw_tcb.bin").read_bytes()


def identity_of(quote):
    signature = quote.signature
    qe = signature.qe_report_body
    return QuotingTarget(TargetInfo(qe.mr_enclave, qe.flags, qe.xfrm), signature.pub_key_id)


IDENTITY = identity_of(Quote.parse(CHAIN))


def check(data, checker=None, *, size=None, identity=None):
    checker = checker or QuoteChecker(INTEL_ROOT)
    checker.check(data, size=size or len(data), identity=identity or identity_of(Quote.parse(data)))


def with_certification(quote, data):
    parsed = Quote.parse(quote)
    return replace(parsed, signature=replace(parsed.signature, certification=CertificationData(5, data))).encode()


def chain_of(quote):
    return Quote.parse(quote).signature.certification.data


def test_the_nul_that_ends_the_chain_on_hardware_is_no_reason():
    """Intel's library counts the final NUL as certification data; the recorded quote has no such NUL."""
    check(with_certification(CHAIN, chain_of(CHAIN) + b"\0"))


def test_a_genuine_quote_without_a_chain_is_useless():
    assert len(ENCRYPTED_PPID) == ENCRYPTED_PPID_QUOTE_SIZE
    checker = QuoteChecker(INTEL_ROOT)
    with raises("quote-without-pck-chain", QuoteProviderError, "why", "remedy"):
        checker.check_size(len(ENCRYPTED_PPID))
    with raises("quote-without-pck-chain", QuoteProviderError, "why", "remedy"):
        check(ENCRYPTED_PPID, checker)


def flipped(position):
    def alter(quote, _):
        altered = bytearray(quote)
        altered[position] ^= 1
        return bytes(altered)

    return alter


def with_other_leaf(quote, state_dir):
    """A quote with a certificate chain in which no certificate has issued the leaf."""
    open_or_create_platform(state_dir)
    leaf = open_platform(state_dir).pki.pck.pem
    return with_certification(quote, b"".join((leaf, *split_pem_chain(chain_of(quote))[1:])))


@pytest.mark.parametrize(
    ("alter", "error_code"),
    [
        pytest.param(flipped(8), "quote-not-signed", id="header"),
        pytest.param(flipped(48), "quote-not-signed", id="body"),
        pytest.param(flipped(440), "quote-not-signed", id="signature"),
        pytest.param(flipped(504), "quote-of-another-key", id="key"),
        pytest.param(flipped(570), "quote-key-not-certified", id="qe report"),
        pytest.param(flipped(1020), "quote-of-another-key", id="auth data"),
        pytest.param(flipped(-10), "quote-malformed", id="pem"),
        pytest.param(with_other_leaf, "quote-broken-chain", id="leaf"),
    ],
)
def test_an_altered_quote_is_refused_also_after_a_good_one(tmp_path, alter, error_code):
    certificates = []
    checker = QuoteChecker(INTEL_ROOT, certificates.append)
    check(CHAIN, checker)
    altered = alter(CHAIN, tmp_path)
    assert not checker.passes(altered, altered[48:432], size=len(altered), identity=IDENTITY)
    with raises(error_code, QuoteProviderError, "why", "remedy"):
        check(altered, checker, identity=IDENTITY)
    assert checker.passes(CHAIN, CHAIN[48:432], size=len(CHAIN), identity=IDENTITY)
    assert certificates == [PckChain.from_quote(Quote.parse(CHAIN)).leaf]


# Tests of more quotes from a platform after a full check of one of its quotes.


@pytest.fixture
def platform(tmp_path):
    return SimulatedQuoteProvider(open_or_create_platform(tmp_path).platform)


@pytest.fixture
def quote(platform):
    enclave = SimulatedEnclave.from_name("application")

    def make(number):
        report = enclave.create_report(platform.identity().target_info, bytes([number]) * 64)
        return platform.quote(report, None).quote, report.encoded_body

    return make


@pytest.fixture
def passes(tmp_path, platform, quote):
    pem = open_platform(tmp_path).pki.root.pem
    checker = QuoteChecker(ExpectedRoot(key_id(load_certificate(pem, "the root"))))
    check(quote(0)[0], checker)
    usual = {"size": len(quote(0)[0]), "identity": platform.identity()}
    return lambda data, body, **others: checker.passes(data, body, **usual | others)


def test_only_the_report_may_differ(passes, platform, quote):
    (made, body), (_, other) = quote(1), quote(2)
    assert passes(made, body)
    assert not passes(made, other)
    for changed in (made + b"\0", made[:-1]):
        assert not passes(changed, body)
    assert not passes(made, body, size=len(made) + 1)
    for identity in (
        replace(platform.identity(), pub_key_id=bytes(32)),
        QuotingTarget(TargetInfo(bytes(32), 0, 0), b""),
    ):
        assert not passes(made, body, identity=identity)


def test_no_byte_may_differ(passes, quote):
    made, body = quote(1)
    for position in (0, 4, 12, 47, 48, 431, 432, 435, 436, 499, 500, 563, 564, 947, 948, 1012, 1014, 1050, -1):
        altered = flipped(position)(made, None)
        changed = altered[48:432] if 48 <= position < 432 else body
        assert not passes(altered, changed), position
