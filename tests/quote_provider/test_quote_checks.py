"""Quotes by Intel's quoting enclave on real processors, judged as the relay to aesmd judges each quote.

The files are fixtures of the crate dcap-ql (see vectors/PROVENANCE.md).
"""

from dataclasses import replace
from pathlib import Path

import pytest

from confcom.quote_provider.base import QuoteProviderError, QuotingIdentity
from confcom.quote_provider.expected_root import INTEL_ROOT, ExpectedRoot
from confcom.quote_provider.quote_checks import ENCRYPTED_PPID_QUOTE_SIZE, QuoteChecker
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import open_platform
from confcom.sgx.certificates import key_id, load_certificate
from confcom.sgx.quote import Quote
from confcom.sgx.report import TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
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


@pytest.fixture
def platform(tmp_path):
    return SimulatedQuoteProvider.open_or_create(tmp_path / "platform")


class TestSuccessors:
    """Quotes after one that was checked in full."""

    @pytest.fixture(autouse=True)
    def _checked(self, tmp_path, platform):
        self.platform = platform
        self.identity = platform.identity()
        pem = open_platform(tmp_path / "platform").pki.root.pem
        self.checker = QuoteChecker(ExpectedRoot(key_id(load_certificate(pem, "the root"))))
        self.first, _ = self.quote(0)
        self.checker.check(self.first, size=len(self.first), identity=self.identity)

    def quote(self, number):
        """Return a quote and its report body."""
        enclave = SimulatedEnclave.from_name("application")
        report = enclave.create_report(self.identity.target_info, bytes([number]) * 64)
        return self.platform.quote(report, None).quote, report.encoded_body

    def passes(self, quote, body, **others):
        return self.checker.passes(quote, body, **({"size": len(quote), "identity": self.identity} | others))

    def test_one_over_another_report_passes(self):
        assert self.passes(*self.quote(1))
        assert not QuoteChecker(INTEL_ROOT).passes(*self.quote(1), size=len(self.first), identity=self.identity)

    def test_the_report_that_was_asked_for_decides(self):
        (quote, _), (_, other) = self.quote(1), self.quote(2)
        assert not self.passes(quote, other)

    def test_no_byte_may_differ(self):
        quote, body = self.quote(1)
        for position in (0, 4, 12, 47, 48, 431, 432, 435, 436, 499, 500, 563, 564, 947, 948, 1012, 1014, 1050, -1):
            altered = bytearray(quote)
            altered[position] ^= 1
            changed = bytes(altered[48:432]) if 48 <= position < 432 else body
            assert not self.passes(bytes(altered), changed), position

    def test_nothing_may_be_added_or_be_missing(self):
        quote, body = self.quote(1)
        assert not self.passes(quote + b"\0", body)
        assert not self.passes(quote[:-1], body)
        assert not self.passes(quote, body, size=len(quote) + 1)

    def test_what_init_told_may_not_have_changed(self):
        quote, body = self.quote(1)
        others = (replace(self.identity, pub_key_id=bytes(32)), QuotingIdentity(TargetInfo(bytes(32), 0, 0), b""))
        for identity in others:
            assert not self.passes(quote, body, identity=identity)

    def test_a_refused_one_changes_nothing(self):
        quote, body = self.quote(1)
        with pytest.raises(QuoteProviderError):
            self.checker.check(quote[:-1], size=len(quote), identity=self.identity)
        assert self.passes(quote, body)


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
