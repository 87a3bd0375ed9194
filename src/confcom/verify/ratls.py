"""RA-TLS: the certificate of a TLS peer carries a quote that binds the peer's key, and the policy decides about it.

with httpx2.Client(transport=RatlsTransport(policy, collateral)) as client:
    client.post("https://enclave.example/secrets", json=secret)

The quote takes the place of certificate authorities. It is verified when the handshake has ended, which proves that the
peer has the key, and before the first byte of application data is sent. Needs the extra `ratls`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, TypeAlias, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confcom.errors import ConfcomError, MalformedError, UnavailableError, WrongTypeError, WrongValueError
from confcom.extras import require
from confcom.sgx.certificate_parts import CertificateParts
from confcom.sgx.quote import Quote, has_open_enclave_header, strip_open_enclave_header
from confcom.sgx.report import report_data
from confcom.verify.argument_types import time_limit
from confcom.verify.collateral import Collateral, PreparedCollateral
from confcom.verify.policy import Policy
from confcom.verify.trust import KnownRoot, Platform, TrustedRoot
from confcom.verify.verdict import Check, Verdict, VerdictKind, failed, judged, kind_of, passed, unusable
from confcom.verify.verifier import verify

for _module in ("cbor2", "httpx2"):
    require(_module, "ratls")

import cbor2  # noqa: E402 # after what tells who brings it
import httpx2  # noqa: E402

__all__ = [
    "AsyncRatlsTransport",
    "AttestedSocket",
    "CollateralInput",
    "ConnectError",
    "Evidence",
    "Form",
    "KeyBindingError",
    "RatlsError",
    "RatlsTransport",
    "client_context",
    "connect",
    "make_certificate",
    "read_evidence",
    "verify_certificate",
]

CONNECT_SECONDS: Final = 10.0
"""For each step of `connect`: more than a handshake takes with a quote made for it, less than a person waits."""
CERTIFICATE_LIFE: Final = timedelta(days=365)
"""Of a certificate that is made here. Nobody's trust rests on it, so it only must not end while the service runs."""
_CLOCK_DIFFERENCE: Final = timedelta(days=1)
"""How much slower than ours the clock of a peer that looks at the dates may be."""

CollateralInput: TypeAlias = Collateral | PreparedCollateral | Callable[[bytes], Collateral | PreparedCollateral] | None
"""Collateral; or a function that returns that of a quote, such as `lambda quote: cache.get(quote).collateral`."""

_TAGGED_QUOTE: Final = bytes.fromhex("d9ea60 82")
"""How an interoperable extension begins: CBOR tag 60000 (a TEE's quote), on an array of two."""
_QUOTE_TAG: Final = 60000
_HASH_ENTRY: Final = b"\x82"
_MAPS: Final = range(0xA1, 0xB8)
"""First bytes of CBOR maps with 1 to 23 pairs. There are two standard claims; rats-tls lets programs add some."""
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT = range(4)
"""CBOR's major types without structure (RFC 8949, 3.1). No other item is decoded, so that nothing nests."""
_PEM_COLUMNS: Final = 64
_ECDSA_EVIDENCE: Final = bytes.fromhex("03000000 a3a21e871b4d4014b70aa125d2fbcd8c")
"""How Open Enclave's evidence of a quote begins (oe_attestation_header_t: version 3, OE_FORMAT_UUID_SGX_ECDSA)."""
_EVIDENCE_HEADER_SIZE: Final = 28
"""Of this and the size of what follows, 8 bytes."""
_HASHES: Final = {1: hashlib.sha256, 7: hashlib.sha384, 8: hashlib.sha512}
"""By their numbers in IANA's "Named Information Hash Algorithm Registry"."""

_BINDING: Final = "each quote's report data binds the key of the certificate"
_READABLE: Final = "a certificate that carries an SGX quote"


class RatlsError(MalformedError):
    """A certificate carries no evidence that could be read.

    The code is `no-evidence` if it has no such extension, `evidence-malformed` if one cannot be read.
    """

    error_code = "no-evidence"


class KeyBindingError(RatlsError):
    """Evidence in a certificate was made for another key."""

    error_code = "key-binding"


class ConnectError(UnavailableError):
    """There is no TLS connection to the peer."""

    error_code = "ratls-not-connected"


class Form(StrEnum):
    """The extensions that carry evidence, each by who defined it."""

    INTEROPERABLE = "interoperable"
    """2.23.133.5.4.9 (TCG DICE, tagged evidence), as the Confidential Computing Consortium's projects write it."""
    GRAMINE = "gramine"
    """Gramine's older one, whose OID is malformed: its octets contain tag and length."""
    INTEL_SDK = "intel-sdk"
    """1.2.840.113741.1.13.1, the older one of Intel's SDK."""
    OPEN_ENCLAVE = "open-enclave"
    """1.3.6.1.4.1.311.105.1, of EGo, and of Open Enclave's older function."""
    OPEN_ENCLAVE_EVIDENCE = "open-enclave-evidence"
    """1.3.6.1.4.1.311.105.2, of Open Enclave: a quote with the key as its custom claims."""


_OIDS: Final = {
    Form.INTEROPERABLE: bytes.fromhex("678105050409"),
    Form.GRAMINE: bytes.fromhex("06092a864886f84d8a3906"),
    Form.INTEL_SDK: bytes.fromhex("2a864886f84d010d01"),
    Form.OPEN_ENCLAVE: bytes.fromhex("2b0601040182376901"),
    Form.OPEN_ENCLAVE_EVIDENCE: bytes.fromhex("2b0601040182376902"),
}
"""Content octets."""
_INTEROPERABLE_OID: Final = x509.ObjectIdentifier("2.23.133.5.4.9")


@dataclass(frozen=True, slots=True)
class Evidence:
    """A quote of a certificate that binds the certificate's key, if the quote is authentic: nothing verified it."""

    quote: bytes
    """The quote of the extension."""
    form: Form
    """The kind of extension."""
    report_data: bytes
    """64 bytes that follow from the key; the quote has them."""
    nonce: bytes | None = None
    """The nonce among the claims, which only the interoperable form has."""


def read_evidence(certificate: bytes) -> tuple[Evidence, ...]:
    """Return the evidence in a certificate: one for each extension, all bound to the certificate's key.

    Args:
        certificate: one, PEM or DER, at most 64 KiB. Its signature and its dates are not looked at.

    Raises:
        KeyBindingError: an extension was made for another key.
        RatlsError: there is no such extension, or one cannot be read.
        MalformedError: the certificate or a quote cannot be read.
    """
    if not isinstance(certificate, bytes):
        raise WrongTypeError("the certificate", "bytes, PEM or DER", certificate)
    parts = CertificateParts.parse(certificate)
    pem = _pem(parts.public_key) + b"\0"
    by_key, by_pem = _hashed(parts.public_key), _hashed(pem)
    claimed: tuple[bytes, ...] = ()
    bound: tuple[bytes, ...]
    found = []
    for form, oid in _OIDS.items():
        if (value := parts.extensions.get(oid)) is None:
            continue
        quote, nonce = value, None
        if form is Form.INTEROPERABLE:
            quote, claims = _tagged_quote(value)
            nonce = _bound_claims(claims, parts.public_key)
            bound = claimed = (_hashed(claims),)
        elif form is Form.GRAMINE:
            bound = (by_key,)
        elif form is Form.INTEL_SDK:
            # The SDK repeats the interoperable quote here; before it had that, it hashed the key's PEM.
            bound = (by_pem, *claimed)
        elif form is Form.OPEN_ENCLAVE_EVIDENCE:
            quote, bound = _quote_with_claims(value, pem), (by_pem,)
        else:
            quote, bound = _quote_of_report(value), (by_key, by_pem)
        report_data = Quote.parse(quote).body.report_data
        if report_data not in bound:
            raise _other_key(form, "the quote's report data is not the hash of this key, nor of claims that name it")
        found.append(Evidence(quote, form, report_data, nonce))
    if not found:
        raise RatlsError(
            "the certificate carries no SGX quote",
            why="it has none of the extensions " + ", ".join(form.value for form in Form),
            remedy="connect to the enclave itself: a proxy before it, or an authority's certificate, proves no enclave",
        )
    return tuple(found)


def _tagged_quote(value: bytes) -> tuple[bytes, bytes]:
    items = _Items(value)
    items.expect(_TAGGED_QUOTE)
    quote, claims = items.take(_BYTES), items.take(_BYTES)
    items.finish()
    return quote, claims


def _bound_claims(buffer: bytes, public_key: bytes) -> bytes | None:
    """Return the nonce among the claims, which must name the key."""
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


def _quote_of_report(value: bytes) -> bytes:
    if not has_open_enclave_header(value):
        raise _not_evidence("it has not Open Enclave's report header")
    return strip_open_enclave_header(value)


def _quote_with_claims(value: bytes, pem: bytes) -> bytes:
    """Return the quote of Open Enclave's evidence, whose custom claims must be the key."""
    header, content = value[:_EVIDENCE_HEADER_SIZE], value[_EVIDENCE_HEADER_SIZE:]
    if header != _ECDSA_EVIDENCE + len(content).to_bytes(8, "little"):
        raise _not_evidence("it has not Open Enclave's header of version 3 for ECDSA quotes, or another size")
    if not content.endswith(pem):
        raise _other_key(Form.OPEN_ENCLAVE_EVIDENCE, "its custom claims are not the PEM of this key")
    return content.removesuffix(pem)


class _Items:
    """Takes items from CBOR in preferred serialization (RFC 8949, 4.1), which is the only one that is read."""

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


def verify_certificate(
    certificate: bytes,
    policy: Policy,
    collateral: CollateralInput,
    root: TrustedRoot | KnownRoot | None = None,
    now: datetime | None = None,
    *,
    nonce: bytes | None = None,
) -> Verdict:
    """Decide whether the holder of a certificate's key is an enclave as the policy demands it.

    That the peer is the holder is proven by its TLS handshake alone: certificates are public. No content of a
    certificate raises. All quotes of the certificate must be verified; the verdict is the first one's that is not, else
    that of the first quote. Besides the checks of `verify` it has `key-binding`, and `nonce` if one is given; or
    `certificate` alone if nothing can be read.

    Args:
        certificate: one, PEM or DER, at most 64 KiB.
        policy: your demands but for `report_data`, which follows from the key.
        collateral: as `verify` takes it, or a function that returns the collateral of a quote.
        root: as `verify` takes it.
        now: as `verify` takes it; the dates of the certificate play no part.
        nonce: what the claims must have as their nonce.

    Raises:
        SettingsError: the policy has `report_data`, or as `verify` raises it.
        ConfcomError: the function that returns collateral raised it.
    """
    _require_arguments(policy, nonce)
    try:
        evidence = read_evidence(certificate)
    except KeyBindingError as error:
        check = failed(_BINDING, error.what, error.why, VerdictKind.NOT_AUTHENTIC, code="key-binding")
        return Verdict(VerdictKind.NOT_AUTHENTIC, Platform.UNKNOWN, (check,))
    except MalformedError as error:
        return unusable(_READABLE, error, code="certificate")
    own = [passed(_BINDING, ", ".join(one.form.value for one in evidence), code="key-binding")]
    if nonce is not None:
        own.append(_nonce_check(nonce, [one.nonce for one in evidence if one.nonce is not None]))
    verdicts = []
    for quote, bound in dict.fromkeys((one.quote, one.report_data) for one in evidence):
        chosen = collateral(quote) if callable(collateral) else collateral
        verdicts.append(verify(quote, replace(policy, report_data=bound), chosen, root, now))
    verdict = next((one for one in verdicts if not one.ok), verdicts[0])
    checks = (*own, *verdict.checks)
    return replace(verdict, kind=kind_of(checks), checks=checks)


def _nonce_check(nonce: bytes, found: list[bytes]) -> Check:
    shown = ", ".join(one.hex() for one in found) or "none among the claims"
    why = "the certificate answers another challenge, or is replayed"
    kind = VerdictKind.AUTHENTIC_NOT_AUTHORISED
    return judged(f"the nonce {nonce.hex()}", shown, why, kind, holds=nonce in found, code="nonce")


def _require_arguments(policy: object, nonce: object) -> None:
    if not isinstance(policy, Policy):
        raise WrongTypeError("the policy", "a Policy", policy)
    if policy.report_data is not None:
        raise WrongValueError(
            "the policy has report data",
            why="in RA-TLS they follow from the certificate's key",
            remedy="leave report_data out; for a challenge of your own, pass it as `nonce`",
        )
    if not isinstance(nonce, bytes | None):
        raise WrongTypeError("the nonce", "bytes, or None", nonce)


class _Context(ssl.SSLContext):
    """Knows how to decide about a peer's certificate."""

    decide: Callable[[bytes], Verdict]


class AttestedSocket(ssl.SSLSocket):
    """An `ssl.SSLSocket` over which nothing is sent or read before the peer's certificate was verified."""

    _verdict: Verdict | None = None

    @property
    def verdict(self) -> Verdict:
        """The verdict on the peer. Raises WrongValueError before the handshake."""
        return _required(self._verdict)

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, D102 # as ssl has it
        super().do_handshake(block)
        try:
            self._verdict = _decide(self)
        except BaseException:
            self.close()
            raise

    def send(self, data: Any, flags: int = 0) -> int:  # noqa: ANN401, D102 # sendall and sendfile call it
        _required(self._verdict)
        return super().send(data, flags)

    def write(self, data: Any) -> int:  # noqa: ANN401, D102 # as ssl has it
        _required(self._verdict)
        return super().write(data)

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002, ANN401, D102 # recv calls it
        _required(self._verdict)
        return super().read(len, buffer)


class _AttestedObject(ssl.SSLObject):
    """The same for event loops, which move the bytes themselves."""

    _verdict: Verdict | None = None

    def do_handshake(self) -> None:
        super().do_handshake()
        self._verdict = _decide(self)

    def write(self, data: Any) -> int:  # noqa: ANN401 # as ssl has it
        _required(self._verdict)
        return super().write(data)

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002, ANN401 # as ssl has it
        _required(self._verdict)
        return super().read(len, buffer)


def _decide(connection: ssl.SSLSocket | ssl.SSLObject) -> Verdict:
    verdict = cast("_Context", connection.context).decide(connection.getpeercert(binary_form=True) or b"")
    verdict.require_ok()
    return verdict


def _required(verdict: Verdict | None) -> Verdict:
    # OpenSSL would make the handshake by itself at the first write.
    if verdict is None:
        raise WrongValueError("the peer was not verified yet", remedy="call do_handshake first")
    return verdict


def client_context(
    policy: Policy,
    collateral: CollateralInput,
    root: TrustedRoot | KnownRoot | None = None,
    now: datetime | None = None,
    *,
    nonce: bytes | None = None,
) -> ssl.SSLContext:
    """Return a context for TLS clients that verifies the peer's quote at the end of each handshake.

    It trusts no certificate authority, and compares no host name; its attributes can demand both too. Sockets and
    asyncio's connections that are made with it raise NotVerifiedError from the handshake, whose `verdict` says why,
    unless the peer is verified. The arguments are those of `verify_certificate`; a function for collateral is called
    during the handshake, which waits for it.

    Raises:
        SettingsError: as `verify_certificate` raises it.
    """
    _require_arguments(policy, nonce)
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.options |= ssl.OP_NO_RENEGOTIATION  # in TLS 1.2 it could bring another certificate
    context.sslsocket_class, context.sslobject_class = AttestedSocket, _AttestedObject
    context.decide = lambda certificate: verify_certificate(certificate, policy, collateral, root, now, nonce=nonce)
    return context


def connect(
    host: str,
    port: int,
    policy: Policy,
    collateral: CollateralInput,
    root: TrustedRoot | KnownRoot | None = None,
    *,
    now: datetime | None = None,
    nonce: bytes | None = None,
    seconds: float = CONNECT_SECONDS,
) -> AttestedSocket:
    """Return a TLS connection to a peer that was verified.

    Args:
        host: its name or address.
        port: its TCP port.
        policy: as `verify_certificate` takes it, like the next four.
        collateral: None lets no peer pass.
        root: None means INTEL, or the root of prepared collateral.
        now: None means the present.
        nonce: None means that any nonce will do, also none.
        seconds: for each step, and then the time limit of the socket.

    Raises:
        ConnectError: nobody answers there, or it does not speak TLS 1.2 or later.
        NotVerifiedError: the peer was not verified; `verdict` says why.
        SettingsError: as `verify_certificate` raises it.
    """
    context = client_context(policy, collateral, root, now, nonce=nonce)
    if not isinstance(host, str):
        raise WrongTypeError("the host", "text", host)
    limit = time_limit(seconds)
    try:
        plain = socket.create_connection((host, port), limit)
        try:
            return cast("AttestedSocket", context.wrap_socket(plain, server_hostname=host))
        finally:
            plain.close()  # wrap_socket took its descriptor, unless it failed before
    except ConfcomError:
        raise
    except (OSError, ValueError, OverflowError) as error:
        raise ConnectError(
            f"there is no TLS connection to {host}:{port}",
            why=str(error),
            remedy="check the address, and that a TLS service listens there",
        ) from error


class RatlsTransport(httpx2.HTTPTransport):
    """A transport for `httpx2.Client` whose connections are to verified peers alone.

    A request raises NotVerifiedError, and nothing of it is sent, if its peer is not verified. URLs must begin with
    https. The arguments are those of `verify_certificate`. A connection is verified once, when it is made.
    """

    def __init__(
        self,
        policy: Policy,
        collateral: CollateralInput,
        root: TrustedRoot | KnownRoot | None = None,
        now: datetime | None = None,
        *,
        nonce: bytes | None = None,
    ) -> None:
        context = client_context(policy, collateral, root, now, nonce=nonce)
        super().__init__(verify=context, trust_env=False)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request, over TLS alone."""
        _require_tls(request)
        return super().handle_request(request)


class AsyncRatlsTransport(httpx2.AsyncHTTPTransport):
    """`RatlsTransport` for `httpx2.AsyncClient`.

    Verifying takes about a millisecond. It blocks the loop, and so does a function for collateral.
    """

    def __init__(
        self,
        policy: Policy,
        collateral: CollateralInput,
        root: TrustedRoot | KnownRoot | None = None,
        now: datetime | None = None,
        *,
        nonce: bytes | None = None,
    ) -> None:
        context = client_context(policy, collateral, root, now, nonce=nonce)
        super().__init__(verify=context, trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request, over TLS alone."""
        _require_tls(request)
        return await super().handle_async_request(request)


def _require_tls(request: httpx2.Request) -> None:
    if request.url.scheme != "https":
        raise WrongValueError(
            f"a request to {request.url.host} would be sent without TLS",
            why="only a TLS handshake proves who the peer is",
            remedy="write https://, and follow no redirect to http://",
        )


def make_certificate(
    quote_for: Callable[[bytes], bytes],
    key: ec.EllipticCurvePrivateKey,
    *,
    nonce: bytes | None = None,
    common_name: str = "RA-TLS",
    now: datetime | None = None,
) -> bytes:
    """Return a self-signed certificate with interoperable evidence, PEM, for tests and for services.

    Args:
        quote_for: returns a quote with the 64 bytes of report data that it is given.
        key: the service's key, on P-256, which must not leave the enclave.
        nonce: a client's challenge, for the claims.
        common_name: subject and issuer; 1 to 64 characters.
        now: it is valid from a day before until a year later; None means the present.

    Raises:
        WrongTypeError: the key is of another kind.
        WrongValueError: the name has another length.
    """
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise WrongTypeError("the key", "an elliptic curve key on P-256", key)
    digest = hashlib.sha256(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    claims: dict[str, bytes] = {"pubkey-hash": cbor2.dumps([1, digest])}
    if nonce is not None:
        claims["nonce"] = nonce
    buffer = cbor2.dumps(claims)
    value = cbor2.dumps(cbor2.CBORTag(_QUOTE_TAG, [quote_for(_hashed(buffer)), buffer]))
    try:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    except ValueError as error:
        raise WrongValueError(
            "the common name cannot be written", why=str(error), remedy="pass 1 to 64 characters"
        ) from error
    begin = datetime.now(UTC) if now is None else now
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - _CLOCK_DIFFERENCE)
        .not_valid_after(begin + CERTIFICATE_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.UnrecognizedExtension(_INTEROPERABLE_OID, value), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
