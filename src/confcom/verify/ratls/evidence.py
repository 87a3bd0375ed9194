"""Reads the evidence in a certificate: quotes, in every known form, that bind the certificate's key."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import cbor2
from cryptography import x509

from confcom.errors import MalformedError, WrongTypeError
from confcom.sgx.certificate_parts import CertificateParts
from confcom.sgx.quote import Quote
from confcom.sgx.report import report_data

_TAGGED_QUOTE: Final = bytes.fromhex("d9ea60 82")
"""First bytes of an interoperable extension: CBOR tag 60000 (a TEE's quote), then an array of two."""
_HASH_ENTRY: Final = b"\x82"
_MAPS: Final = range(0xA1, 0xB8)
"""First bytes of CBOR maps with 1 to 23 pairs. Two claims are standard; rats-tls lets programs add claims."""
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT = range(4)
"""CBOR's major types without structure (RFC 8949, 3.1). Other types are refused to prevent nesting."""
_PEM_COLUMNS: Final = 64
_REMOTE_REPORT: Final = bytes.fromhex("01000000 02000000")
"""First bytes of Open Enclave's remote report (oe_report_header_t: version 1, type 2)."""
_ECDSA_EVIDENCE: Final = bytes.fromhex("03000000 a3a21e871b4d4014b70aa125d2fbcd8c")
"""First bytes of Open Enclave's quote evidence (oe_attestation_header_t: version 3, OE_FORMAT_UUID_SGX_ECDSA)."""
_HASHES: Final = {1: hashlib.sha256, 7: hashlib.sha384, 8: hashlib.sha512}
"""Hash functions, keyed by their numbers in IANA's "Named Information Hash Algorithm Registry"."""


class RatlsError(MalformedError):
    """A certificate carries no readable evidence.

    The error code is `no-evidence` if no extension has evidence, `evidence-malformed` if the evidence is unreadable.
    """

    error_code = "no-evidence"


class KeyBindingError(RatlsError):
    """Evidence in a certificate was made for another key."""

    error_code = "key-binding"


class Form(StrEnum):
    """The certificate extensions that carry evidence, named after the projects that define them."""

    INTEROPERABLE = "interoperable"
    """2.23.133.5.4.9 (TCG DICE, tagged evidence), as the Confidential Computing Consortium's projects write it."""
    GRAMINE = "gramine"
    """Gramine's older extension, whose OID is malformed: the OID's octets contain tag and length."""
    INTEL_SDK = "intel-sdk"
    """1.2.840.113741.1.13.1, the older extension of Intel's SDK."""
    OPEN_ENCLAVE = "open-enclave"
    """1.3.6.1.4.1.311.105.1, written by EGo and by Open Enclave's older function."""
    OPEN_ENCLAVE_EVIDENCE = "open-enclave-evidence"
    """1.3.6.1.4.1.311.105.2, written by Open Enclave: a quote, with the public key as custom claims."""


OIDS: Final = {
    Form.INTEROPERABLE: x509.ObjectIdentifier("2.23.133.5.4.9"),
    Form.GRAMINE: x509.ObjectIdentifier("0.6.9.42.840.113741.1337.6"),
    Form.INTEL_SDK: x509.ObjectIdentifier("1.2.840.113741.1.13.1"),
    Form.OPEN_ENCLAVE: x509.ObjectIdentifier("1.3.6.1.4.1.311.105.1"),
    Form.OPEN_ENCLAVE_EVIDENCE: x509.ObjectIdentifier("1.3.6.1.4.1.311.105.2"),
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """A quote from a certificate, not yet verified. If the quote is authentic, it binds the certificate's key."""

    quote: bytes
    """The quote of the extension."""
    form: Form
    """The kind of extension."""
    report_data: bytes
    """The quote's 64 bytes of report data, which were checked against the certificate's key."""
    nonce: bytes | None = None
    """The nonce in the claims; only the interoperable form has claims with a nonce."""


def read_evidence(certificate: bytes) -> tuple[Evidence, ...]:
    """Return the evidence in every extension of a certificate; each quote binds the certificate's key.

    Args:
        certificate: one certificate (PEM or DER, at most 64 KiB), whose signature and dates are not checked.

    Raises:
        KeyBindingError: an extension was made for another key.
        RatlsError: no extension carries evidence, or the evidence cannot be read.
        MalformedError: the certificate or a quote cannot be read.
    """
    if not isinstance(certificate, bytes):
        raise WrongTypeError("the certificate", "bytes, PEM or DER", certificate)
    parts = CertificateParts.parse(certificate)
    pem = _pem(parts.public_key) + b"\0"
    by_key, by_pem = _hashed(parts.public_key), _hashed(pem)
    claimed: tuple[bytes, ...] = ()
    bound: tuple[bytes, ...]
    evidence = []
    for form, oid in OIDS.items():
        if (value := parts.extensions.get(oid)) is None:
            continue
        quote, nonce = value, None
        if form is Form.INTEROPERABLE:
            items = _Items(value)
            items.expect(_TAGGED_QUOTE)
            quote, claims = items.take(_BYTES), items.take(_BYTES)
            items.finish()
            nonce = _bound_claims(claims, parts.public_key)
            bound = claimed = (_hashed(claims),)
        elif form is Form.GRAMINE:
            bound = (by_key,)
        elif form is Form.INTEL_SDK:
            # The SDK repeats the interoperable quote here; older SDKs' quotes have the hash of the key's PEM.
            bound = (by_pem, *claimed)
        elif form is Form.OPEN_ENCLAVE_EVIDENCE:
            quote, bound = _quote_with_claims(value, pem), (by_pem,)
        else:
            quote, bound = _after_header(value, _REMOTE_REPORT), (by_key, by_pem)
        report_data = Quote.parse(quote).body.report_data
        if report_data not in bound:
            raise _other_key(form, "the quote's report data is not the hash of this key, nor of claims that name it")
        evidence.append(Evidence(quote, form, report_data, nonce))
    if not evidence:
        raise RatlsError(
            "the certificate carries no SGX quote",
            why="it has none of the extensions " + ", ".join(form.value for form in Form),
            remedy="connect to the enclave itself: a proxy before it, or an authority's certificate, proves no enclave",
        )
    return tuple(evidence)


def _bound_claims(buffer: bytes, public_key: bytes) -> bytes | None:
    """Return the nonce in the claims, or None; raise KeyBindingError if the claims do not name the key."""
    claims = _claims(buffer)
    entry, nonce = claims.get("pubkey-hash"), claims.get("nonce")
    if not isinstance(entry, bytes) or not isinstance(nonce, bytes | None):
        raise _not_evidence("`pubkey-hash` is missing, or it or `nonce` is not a byte string")
    items = _Items(entry)
    items.expect(_HASH_ENTRY)
    algorithm, digest = items.take(_UNSIGNED), items.take(_BYTES)
    items.finish()
    if algorithm not in _HASHES:
        raise _not_evidence(f"hash algorithm {algorithm} is neither SHA-256 (1) nor SHA-384 (7) nor SHA-512 (8)")
    if digest != _HASHES[algorithm](public_key).digest():
        raise _other_key(Form.INTEROPERABLE, "its claims name another key")
    return nonce


def _claims(buffer: bytes) -> dict[str, object]:
    items = _Items(buffer)
    if buffer[:1] == b"" or buffer[0] not in _MAPS:
        raise _not_evidence("the claims are not a map of 1 to 23 pairs")
    items.expect(buffer[:1])
    claims: dict[str, object] = {}
    for _ in range(_MAPS.index(buffer[0]) + 1):
        name = items.take(_TEXT)
        if name in claims:
            raise _not_evidence("the claims have one name twice")
        claims[name] = items.take(_UNSIGNED, _NEGATIVE, _BYTES, _TEXT)
    items.finish()
    return claims


def _after_header(value: bytes, beginning: bytes) -> bytes:
    """Return what follows Open Enclave's header: its beginning, then in 8 bytes the size of the rest."""
    end = len(beginning) + 8
    header, content = value[:end], value[end:]
    if header != beginning + len(content).to_bytes(8, "little"):
        raise _not_evidence("it lacks Open Enclave's header of a remote report or ECDSA quote, or has another size")
    return content


def _quote_with_claims(value: bytes, pem: bytes) -> bytes:
    """Return the quote of Open Enclave's evidence, whose custom claims must be the key's PEM."""
    content = _after_header(value, _ECDSA_EVIDENCE)
    if not content.endswith(pem):
        raise _other_key(Form.OPEN_ENCLAVE_EVIDENCE, "its custom claims are not the PEM of this key")
    return content.removesuffix(pem)


class _Items:
    """Reads CBOR items, and accepts only preferred serialization (RFC 8949, 4.1)."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def expect(self, encoded: bytes) -> None:
        if not self._rest.startswith(encoded):
            raise _not_evidence("its CBOR has another structure")
        self._rest = self._rest[len(encoded) :]

    def take(self, *kinds: int) -> Any:  # noqa: ANN401 # an item of one of the major types
        if not self._rest or self._rest[0] >> 5 not in kinds:
            raise _not_evidence("an item of its CBOR is missing, or has another type")
        try:
            item = cbor2.CBORDecoder(io.BytesIO(self._rest)).decode()
            encoded = cbor2.dumps(item)
        except cbor2.CBORError as error:
            raise _not_evidence(f"its CBOR cannot be decoded: {error}") from error
        self.expect(encoded)
        return item

    def finish(self) -> None:
        if self._rest:
            raise _not_evidence(f"{len(self._rest)} bytes follow its CBOR")


def _hashed(data: bytes) -> bytes:
    return report_data(hashlib.sha256(data).digest())


def _pem(public_key: bytes) -> bytes:
    """Return the key's PEM as OpenSSL and Mbed TLS write it."""
    text = base64.b64encode(public_key)
    lines = [text[at : at + _PEM_COLUMNS] for at in range(0, len(text), _PEM_COLUMNS)]
    return b"\n".join([b"-----BEGIN PUBLIC KEY-----", *lines, b"-----END PUBLIC KEY-----\n"])


def _not_evidence(why: str) -> RatlsError:
    return RatlsError(
        "evidence in the certificate cannot be read",
        error_code="evidence-malformed",
        why=why,
        remedy="compare it with what the peer's software writes; docs/how-to/ra-tls.md has each form",
    )


def _other_key(form: Form, why: str) -> KeyBindingError:
    return KeyBindingError(
        f"the evidence of the form {form.value} was made for another key",
        why=why,
        remedy="trust it with nothing: somebody may stand between you and the enclave",
    )
