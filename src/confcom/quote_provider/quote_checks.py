"""Checks of a hardware quote before the client gets it: even a quote with Intel's success code can be unusable.

Without a quote provider library, Intel's stack makes quotes of certification type 3 and reports success; no verifier
accepts them. Our check of signatures keeps clients from getting quotes of a broken or replaced service. This
module is no verifier: it checks neither revocation nor TCB, and dates of certificates only if a time is given.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import QuotingTarget
from confcom.errors import MalformedError
from confcom.quote_provider.base import WRONG_SERVICE, QuoteProviderError
from confcom.quote_provider.expected_root import ExpectedRoot
from confcom.sgx.certificates import key_id
from confcom.sgx.certification import CertificationDataType
from confcom.sgx.pck.chain import (
    PckChain,
    attestation_key,
    attestation_key_is_bound,
    is_signed_by,
    qe_report_is_certified,
)
from confcom.sgx.quote import QUOTE_HEADER_SIZE, REPORT_BODY, SIGNATURE_SIZE, SIGNED_PART_SIZE, Quote

ENCRYPTED_PPID_QUOTE_SIZE: Final = 1456
"""Bytes of a quote with certification data of type 3 (436 + 576 + 2 + 32 + 6 + 404), which Intel's stack
makes if it has no quote provider library."""

WRONG_SIZE: Final = "quote-wrong-size"
OTHER_KEY: Final = "quote-of-another-key"
OTHER_ENCLAVE: Final = "quote-of-another-enclave"

NO_PROVIDER_LIBRARY: Final = (
    "install the quote provider library (libdcap_quoteprov.so.1) beside aesmd, and check that its configuration, "
    "sgx_default_qcnl.conf, is valid JSON"
)

WRONG_CERTIFICATES: Final = (
    "check which certificates PCCS gives for this platform (pccs_url in aesmd's sgx_default_qcnl.conf): aesmd passes "
    "them on unread, and logs nothing"
)

_SIGNATURE: Final = slice(SIGNED_PART_SIZE + 4, SIGNED_PART_SIZE + 4 + SIGNATURE_SIZE)
"""Position of the attestation key's signature over header and body: after the size of the signature data."""


@dataclass(frozen=True, slots=True)
class _Certified:
    """Parts of a fully checked quote: bytes that later quotes repeat, and the key that signs the quotes."""

    identity: QuotingTarget
    size: int
    frame: tuple[bytes, bytes, bytes]
    key: ec.EllipticCurvePublicKey


def _frame(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the parts of a quote other than the report body and the signature over header and body."""
    return data[:QUOTE_HEADER_SIZE], data[SIGNED_PART_SIZE : _SIGNATURE.start], data[_SIGNATURE.stop :]


class QuoteChecker:
    """Checks quotes of one platform. The attestation key's certification is checked once, since it rarely changes."""

    def __init__(self, root: ExpectedRoot, on_pck: Callable[[x509.Certificate], None] = lambda _: None) -> None:
        """`on_pck` gets the PCK certificate of each quote that passes `check`."""
        self._root = root
        self._on_pck = on_pck
        self._certified: _Certified | None = None

    def check_size(self, size: int) -> None:
        """Raise NO_PLATFORM_CERT_DATA if `size` is the size of a quote that no verifier would accept."""
        if size == ENCRYPTED_PPID_QUOTE_SIZE:
            raise _no_pck_chain(f"its size is {size} bytes, that of a quote without PCK certificate")

    def passes(self, data: bytes, body: bytes, *, size: int, identity: QuotingTarget) -> bool:
        """Return whether a quote has this report body, is signed, and otherwise equals a quote that passed `check`.

        If `passes`, which verifies one signature, returns False, the quote may still be good: call `check`.
        """
        certified = self._certified
        return (
            certified is not None
            and len(data) == size == certified.size
            and data[REPORT_BODY] == body
            and _frame(data) == certified.frame
            and identity == certified.identity
            and is_signed_by(certified.key, data[_SIGNATURE], data[:SIGNED_PART_SIZE])
        )

    def check(self, data: bytes, *, size: int, identity: QuotingTarget, now: datetime | None = None) -> None:
        """Reject a quote with another size, identity or root than expected, or without a valid signature.

        `data` is a quote without padding, with the expected report body. `size` and `identity` come from the
        service. If `now` is given, each certificate must be valid at that time.
        """
        try:
            quote = Quote.parse(data)
            if len(data) != size or quote.trailing:
                raise _refused(f"it has {len(data)} bytes instead of {size}", error_code=WRONG_SIZE)
            kind = quote.signature.certification.type
            if kind != CertificationDataType.PCK_CERT_CHAIN:
                raise _no_pck_chain(f"its certification data has type {kind}")
            if quote.signature.pub_key_id != identity.pub_key_id:
                raise _refused("its key differs from the one that InitQuoteEx returned", error_code=OTHER_KEY)
            if quote.signature.qe_report_body.mr_enclave != identity.target_info.mr_enclave:
                why = "its quoting enclave is not the one whose target info InitQuoteEx returned"
                raise _refused(why, error_code=OTHER_ENCLAVE)
            pck = self._check_certification(quote, now)
        except MalformedError as error:
            raise _refused(str(error), error_code="quote-malformed") from error
        key = attestation_key(quote)
        if key is None or not is_signed_by(key, quote.signature.isv_signature, quote.signed_part):
            raise _refused("the attestation key did not sign it", error_code="quote-not-signed")
        self._certified = _Certified(identity, size, _frame(data), key)
        self._on_pck(pck)

    def _check_certification(self, quote: Quote, now: datetime | None) -> x509.Certificate:
        refused = partial(_refused, remedy=WRONG_CERTIFICATES)
        try:
            chain = PckChain.from_quote(quote)
        except MalformedError as error:
            raise refused(str(error), error_code="quote-malformed") from error
        if chain.root is None or key_id(chain.root) != self._root.key_id:
            found = "has no root" if chain.root is None else f"ends in the key {key_id(chain.root).hex()[:16]}"
            why = f"its certificate chain {found}, and {self._root} was expected"
            raise refused(why, error_code="quote-of-another-root")
        broken = chain.broken_link(chain.root) or (None if now is None else chain.outdated(now))
        if broken is not None:
            raise refused(f"its certificate chain is broken: {broken}", error_code="quote-broken-chain")
        if not (qe_report_is_certified(quote, chain.leaf) and attestation_key_is_bound(quote)):
            raise refused("its PCK does not certify its attestation key", error_code="quote-key-not-certified")
        return chain.leaf


def _no_pck_chain(why: str) -> QuoteProviderError:
    return QuoteProviderError(
        AesmErrorCode.NO_PLATFORM_CERT_DATA,
        "the quoting service makes quotes that no verifier accepts",
        error_code="quote-without-pck-chain",
        why=why,
        remedy=NO_PROVIDER_LIBRARY,
    )


def _refused(why: str, *, error_code: str, remedy: str = WRONG_SERVICE) -> QuoteProviderError:
    return QuoteProviderError(
        AesmErrorCode.ATT_KEY_CERT_DATA_INVALID,
        "the quoting service made a quote that is not relayed",
        error_code=error_code,
        why=why,
        remedy=remedy,
    )
