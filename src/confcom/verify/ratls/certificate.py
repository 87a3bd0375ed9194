"""Certificates of RA-TLS: the verdict on a peer's certificate, and a new certificate for a service's key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confcom.errors import MalformedError, WrongTypeError, WrongValueError
from confcom.sgx.report import report_data
from confcom.verify.policy import Policy, require_policy
from confcom.verify.prepared_collateral import Collateral, PreparedCollateral
from confcom.verify.ratls.evidence import OIDS, Form, KeyBindingError, read_evidence
from confcom.verify.trust import INTEL, KnownRoot, Platform, TrustedRoot, trusted_root
from confcom.verify.verdict import (
    TeeClaimsT_co,
    Verdict,
    VerdictKind,
    failed,
    judged,
    kind_of,
    passed,
    unusable,
)
from confcom.verify.verifier import refusal_without_collateral, verify

CERTIFICATE_LIFE: Final = timedelta(days=365)
"""Lifetime of a certificate; no verifier relies on it, but a service must not outlive its certificate."""
_CLOCK_DIFFERENCE: Final = timedelta(days=1)
"""How late the clock of a peer that checks dates can be: certificates are valid from this long ago."""

_QUOTE_TAG: Final = 60000

CollateralInput: TypeAlias = Collateral | PreparedCollateral | Callable[[bytes], Collateral | PreparedCollateral] | None
"""Collateral, or a function that returns a quote's collateral, such as `lambda quote: cache.get(quote).collateral`.
The function is called only for quotes whose own signatures hold."""

_BINDING: Final = "each quote's report data binds the key of the certificate"


def verify_certificate(
    certificate: bytes,
    policy: Policy[TeeClaimsT_co],
    collateral: CollateralInput,
    root: TrustedRoot | KnownRoot | None = None,
    now: datetime | None = None,
    *,
    nonce: bytes | None = None,
) -> Verdict[TeeClaimsT_co]:
    """Decide whether the holder of a certificate's key is an enclave or TD that meets the policy.

    Certificates are public; only the TLS handshake proves that the peer holds the key. No content of a certificate
    raises an error. Every quote in the certificate must be verified. The verdict is that of the first quote that is not
    verified, after which no other quote is looked at, or else that of the first quote. Besides the checks of `verify`,
    the verdict has `key-binding`, and `nonce` if a nonce is given. If the certificate cannot be read, the only check
    is `certificate`.

    Args:
        certificate: one certificate, PEM or DER, at most 64 KiB.
        policy: your demands without `report_data`, which follows from the key.
        collateral: as for `verify`, or a function that returns the collateral of a quote. The function is called only
            for a quote whose own signatures hold under `root`.
        root: as for `verify`; with a function, None means INTEL.
        now: as for `verify`; the dates of the peer's certificate are not checked.
        nonce: the nonce that the claims must have, not empty; None means that no nonce is checked.

    Raises:
        SettingsError: the policy has `report_data`, the nonce is empty, or `verify` raised the error.
        ConfcomError: the function that returns collateral raised this error.
    """
    require_arguments(policy, nonce)
    try:
        evidence = read_evidence(certificate)
    except KeyBindingError as error:
        check = failed(_BINDING, error.what, error.why, VerdictKind.NOT_AUTHENTIC, code="key-binding")
        return Verdict(VerdictKind.NOT_AUTHENTIC, Platform.UNKNOWN, (check,))
    except MalformedError as error:
        return unusable("a certificate that carries a quote", error, code="certificate")
    own = [passed(_BINDING, ", ".join(item.form.value for item in evidence), code="key-binding")]
    if nonce is not None:
        nonces = [item.nonce for item in evidence if item.nonce is not None]
        found = ", ".join(item.hex() for item in nonces) or "none among the claims"
        why, kind = "the certificate answers another challenge, or is replayed", VerdictKind.AUTHENTIC_NOT_AUTHORISED
        own.append(judged(f"the nonce {nonce.hex()}", found, why, kind, holds=nonce in nonces, code="nonce"))
    verdicts: list[Verdict[Any]] = []
    for quote, bound in dict.fromkeys((item.quote, item.report_data) for item in evidence):
        verdicts.append(_quote_verdict(quote, replace(policy, report_data=bound), collateral, root, now))
        if not verdicts[-1].ok:
            break
    verdict = verdicts[0] if verdicts[-1].ok else verdicts[-1]
    checks = (*own, *verdict.checks)
    return replace(verdict, kind=kind_of(checks), checks=checks)


def _quote_verdict(
    quote: bytes,
    policy: Policy,
    collateral: CollateralInput,
    root: TrustedRoot | KnownRoot | None,
    now: datetime | None,
) -> Verdict[Any]:
    if not callable(collateral):
        return verify(quote, policy, collateral, root, now)
    trusted = trusted_root(INTEL if root is None else root)
    refusal = refusal_without_collateral(quote, policy, trusted, datetime.now(UTC) if now is None else now)
    return verify(quote, policy, collateral(quote), trusted, now) if refusal is None else refusal


def require_arguments(policy: Policy[Any], nonce: object) -> None:
    require_policy(policy)
    if policy.report_data is not None:
        raise WrongValueError(
            "the policy has report data",
            why="in RA-TLS they follow from the certificate's key",
            remedy="leave report_data out; for a challenge of your own, pass it as `nonce`",
        )
    _require_nonce(nonce)


def _require_nonce(nonce: object) -> None:
    if not isinstance(nonce, bytes | None):
        raise WrongTypeError("the nonce", "bytes, or None", nonce)
    if nonce == b"":
        raise WrongValueError(
            "the nonce is empty",
            why="an empty nonce shows nothing about when the certificate was made",
            remedy="pass random bytes, for example secrets.token_bytes(32), or None for no nonce",
        )


def make_certificate(
    quote_for: Callable[[bytes], bytes],
    key: ec.EllipticCurvePrivateKey,
    *,
    nonce: bytes | None = None,
    now: datetime | None = None,
) -> bytes:
    """Return a self-signed PEM certificate with interoperable evidence, for tests and for services.

    Args:
        quote_for: a function that takes 64 bytes of report data and returns a quote with this report data.
        key: the service's P-256 key, which must not leave the enclave.
        nonce: a client's challenge, not empty, which is put into the claims.
        now: the certificate is valid from a day before `now` until a year after; None means the present.

    Raises:
        WrongTypeError: the key is no P-256 key.
        WrongValueError: the nonce is empty.
    """
    _require_nonce(nonce)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise WrongTypeError("the key", "an elliptic curve key on P-256", key)
    digest = hashlib.sha256(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    claims = {"pubkey-hash": cbor2.dumps([1, digest])} | ({} if nonce is None else {"nonce": nonce})
    buffer = cbor2.dumps(claims)
    value = cbor2.dumps(cbor2.CBORTag(_QUOTE_TAG, [quote_for(report_data(hashlib.sha256(buffer).digest())), buffer]))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "RA-TLS")])
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
        .add_extension(x509.UnrecognizedExtension(OIDS[Form.INTEROPERABLE], value), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
