"""Reading, names and key ids of X.509 certificates of SGX's PKI. Intel's root key is pinned here."""

import contextlib
import hashlib
import re
import warnings
from collections.abc import Iterator
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from confcom.errors import MalformedError, printable
from confcom.sgx.certification import UNREADABLE_X509

INTEL_ROOT_KEY_ID = bytes.fromhex(
    "46e403bd34f05a3f2817ab9badcaacc7ffc98e0f261008cd30dae936cace18d5dcf58eef31463613de1570d516200993"
)
"""SHA-384 of the public point of Intel's SGX Root CA, the root of genuine quotes; dcap-qvl pins the same key."""

PEM_BEGIN = b"-----BEGIN "
MAX_ROOT_SIZE = 64 * 1024
"""Largest root certificate file in bytes. A root has under 1 KiB. A chain fits, so its error is helpful."""


def load_certificate(data: bytes, what: str) -> x509.Certificate:
    """Read one certificate (PEM or DER) with a P-256 key; SGX's PKI has only such keys.

    A certificate that the package cryptography warns about (serial number below 1, country of three letters)
    is refused, so that neither this call nor later use of the certificate warns. Errors call it `what`.
    """
    load = x509.load_pem_x509_certificate if data.startswith(PEM_BEGIN) else x509.load_der_x509_certificate
    try:
        with warnings_as_errors(__name__):
            certificate = load(data)
            key = certificate.public_key()
            # Fields that cryptography decodes at first use: malformed ones fail here, not later.
            _ = certificate.subject.public_bytes(), certificate.issuer.public_bytes(), certificate.serial_number
            _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.extensions
    except (Warning, *UNREADABLE_X509) as error:
        raise MalformedError(
            f"{what} is not a readable X.509 certificate",
            error_code="not-a-certificate",
            why=str(error),
            remedy="pass a certificate in PEM or DER form",
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MalformedError(
            f"{what} has a key that is not on the curve P-256",
            error_code="wrong-curve",
            why="all keys of SGX's certificate chains are",
            remedy="check that it is an SGX certificate",
        )
    return certificate


@contextlib.contextmanager
def warnings_as_errors(module: str) -> Iterator[None]:
    """Raise what cryptography warns about when this module calls it, whatever the program's warning filters are."""
    with warnings.catch_warnings():
        # Filters are global, and other threads may restore this filter, so it matches only one module.
        warnings.filterwarnings("error", module=f"{re.escape(module)}$")
        yield


def name_text(name: x509.Name) -> str:
    """Return a distinguished name for people (RFC 4514), escaped because the RFC permits control characters."""
    return printable(name.rfc4514_string())


def common_name(name: x509.Name) -> str:
    """Return a name's common name; empty if there is none, or several, which verifiers could read differently."""
    values = [attribute.value for attribute in name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    return str(values[0]) if len(values) == 1 else ""


def is_self_issued(certificate: x509.Certificate) -> bool:
    """Return whether subject and issuer are the same bytes; to verifiers, another encoding is another name."""
    return certificate.subject.public_bytes() == certificate.issuer.public_bytes()


def key_id(certificate: x509.Certificate) -> bytes:
    """Return the SHA-384 (48 bytes) of the key's uncompressed point. dcap-qvl finds roots by this hash."""
    numbers = cast(ec.EllipticCurvePublicKey, certificate.public_key()).public_numbers()
    return hashlib.sha384(b"\4" + numbers.x.to_bytes(32) + numbers.y.to_bytes(32)).digest()
