"""The simulated platform's own PKI, shaped like Intel's: root, PCK CA, TCB signer, and one PCK certificate.

Verifiers ask for the names, key usages and extensions that Intel's certificates have; all of that is here. What
Intel's certificates never have is here too: every name, and a comment in every certificate, says what it is. Names
are checked where certificates are issued, so that none can be made that claims to be Intel's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, unique
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from confcom.errors import MalformedError
from confcom.sgx import marks
from confcom.sgx.pck_extension import SGX_EXTENSION_OID
from confcom.sgx.x509_errors import UNREADABLE_X509
from confcom.simulation.keys import derive_bytes, derive_private_key
from confcom.simulation.tcb import pck_extension

BACKDATE = timedelta(hours=24)
"""How long before their making certificates and collateral begin: dcap-qvl refuses an issue date in the future, and
clocks of test machines, and time zones of code that forgets them, differ by up to a day."""

CERTIFICATE_VALIDITY = timedelta(days=20 * 365)
"""A simulated root is never replaced, since relying parties pin it, so it outlives any installation; and it ends
before 2050 (when made before 2030), where X.509 changes its time format."""

ROOT_CRL_URL = "https://simulated-sgx.invalid/rootCA.crl"
PCK_CRL_URL = "https://simulated-sgx.invalid/pckCRL.der"
"""Verifiers want a distribution point in every certificate. `.invalid` never resolves (RFC 2606)."""

_SERIAL_NUMBER_BYTES = 19
"""20 bytes at most, of which one is kept clear so that the number is positive (RFC 5280, 4.1.2.2)."""

_IA5_STRING = 0x16


class IntelNameError(MalformedError):
    """A certificate for a simulated platform whose name does not say that it is simulated."""


@unique
class PckCaType(Enum):
    """Which of the two kinds of CA issues the PCK certificate; the value is what collateral services call it."""

    PROCESSOR = "processor"
    PLATFORM = "platform"


@unique
class Role(Enum):
    """The four certificates; the value labels their derived keys and serial numbers."""

    ROOT = "root"
    PCK_CA = "pck-ca"
    TCB_SIGNER = "tcb-signer"
    PCK = "pck"


@dataclass(frozen=True, slots=True)
class CertifiedKey:
    """A certificate and the key it certifies."""

    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)
    """Left out of comparisons: key objects have no equality, and the certificate names the key."""

    @property
    def pem(self) -> bytes:
        """The certificate as PEM, ending in a newline."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The certificate as DER."""
        return self.certificate.public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class Pki:
    """All certificates and keys of one simulated platform."""

    root: CertifiedKey
    pck_ca: CertifiedKey
    tcb_signer: CertifiedKey
    pck: CertifiedKey

    @classmethod
    def create(cls, seed: bytes, now: datetime, *, ca_type: PckCaType = PckCaType.PLATFORM) -> Self:
        """Make a PKI; the same arguments give the same bytes.

        Args:
            seed: 32 random bytes.
            now: when it is made (an aware time); certificates are valid from 24 h before.
            ca_type: a platform CA's PCK certificate also has a platform instance id and a configuration.

        Raises:
            MalformedError: the seed is not 32 bytes.
        """
        issuing = _Issuing(seed, now - BACKDATE)
        platform_ca = ca_type is PckCaType.PLATFORM
        root = issuing.certify(Role.ROOT, "SGX Root CA", None, ROOT_CRL_URL, ca_path_length=1)
        pck_ca_name = f"SGX PCK {ca_type.value.capitalize()} CA"
        pck_ca = issuing.certify(Role.PCK_CA, pck_ca_name, root, ROOT_CRL_URL, ca_path_length=0)
        tcb_signer = issuing.certify(Role.TCB_SIGNER, "SGX TCB Signing", root, ROOT_CRL_URL)
        extension = x509.UnrecognizedExtension(SGX_EXTENSION_OID, pck_extension(platform_ca=platform_ca).encode())
        pck = issuing.certify(Role.PCK, "SGX PCK Certificate", pck_ca, PCK_CRL_URL, extra=(extension,))
        return cls(root, pck_ca, tcb_signer, pck)

    @classmethod
    def load(cls, seed: bytes, certificates: Mapping[Role, x509.Certificate]) -> Self:
        """Put stored certificates together with their keys.

        Raises:
            MalformedError: a certificate is not for the seed's key, was not issued by the one above it, or does not
                say that it is simulated.
        """
        keys = {role: CertifiedKey(certificates[role], derive_private_key(seed, role.value)) for role in Role}
        pki = cls(keys[Role.ROOT], keys[Role.PCK_CA], keys[Role.TCB_SIGNER], keys[Role.PCK])
        issuers = {Role.ROOT: pki.root, Role.PCK_CA: pki.root, Role.TCB_SIGNER: pki.root, Role.PCK: pki.pck_ca}
        for role, issuer in issuers.items():
            try:
                _require_certified(role, keys[role], issuer)
            except UNREADABLE_X509 as error:
                # cryptography reads a certificate's parts only when they are asked for.
                raise MalformedError(f"the {role.value} certificate cannot be read", why=str(error)) from error
        return pki

    @property
    def certificates(self) -> Mapping[Role, x509.Certificate]:
        """What has to be stored besides the seed."""
        return {
            Role.ROOT: self.root.certificate,
            Role.PCK_CA: self.pck_ca.certificate,
            Role.TCB_SIGNER: self.tcb_signer.certificate,
            Role.PCK: self.pck.certificate,
        }

    @property
    def pck_chain(self) -> bytes:
        """Leaf, intermediate, root as PEM: what goes into quotes."""
        return self.pck.pem + self.pck_ca.pem + self.root.pem


@dataclass(frozen=True, slots=True)
class _Issuing:
    seed: bytes = field(repr=False)
    not_before: datetime

    def certify(
        self,
        role: Role,
        name: str,
        issuer: CertifiedKey | None,
        crl_url: str,
        *,
        ca_path_length: int | None = None,
        extra: tuple[x509.UnrecognizedExtension, ...] = (),
    ) -> CertifiedKey:
        key = derive_private_key(self.seed, role.value)
        subject = simulated_name(name)
        authority_key = issuer.private_key if issuer else key
        serial = int.from_bytes(derive_bytes(self.seed, f"serial number of {role.value}", _SERIAL_NUMBER_BYTES), "big")
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(serial | 1 << (8 * _SERIAL_NUMBER_BYTES - 1))
            .not_valid_before(self.not_before)
            .not_valid_after(self.not_before + CERTIFICATE_VALIDITY)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .add_extension(_distribution_point(crl_url), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(_key_usage(ca=ca_path_length is not None), critical=True)
            .add_extension(
                x509.BasicConstraints(ca=ca_path_length is not None, path_length=ca_path_length), critical=True
            )
            .add_extension(_comment(), critical=False)
        )
        for extension in extra:
            builder = builder.add_extension(extension, critical=False)
        return CertifiedKey(sign_certificate(builder, authority_key), key)


def simulated_name(common_name: str) -> x509.Name:
    """The distinguished name of a simulated certificate.

    Args:
        common_name: the part that verifiers look for, such as `SGX Root CA`.
    """
    return x509.Name(
        [
            x509.NameAttribute(
                NameOID.COMMON_NAME, f"{marks.COMMON_NAME_PREFIX}{common_name}{marks.COMMON_NAME_SUFFIX}"
            ),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, marks.ORGANIZATION),
            x509.NameAttribute(NameOID.COUNTRY_NAME, marks.COUNTRY),
        ]
    )


def sign_certificate(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Sign a certificate, but only one that says it is simulated.

    Raises:
        IntelNameError: subject or issuer does not say so; nothing is handed out.
    """
    certificate = builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    _require_simulated_names(certificate)
    return certificate


def _require_simulated_names(certificate: x509.Certificate) -> None:
    for name in (certificate.subject, certificate.issuer):
        if not marks.has_simulated_name(name):
            raise IntelNameError(
                f"a certificate with the name {name.rfc4514_string()} is refused",
                why="every name of a simulated platform must say that it is simulated and not Intel's",
                remedy="name it with confcom.simulation.pki.simulated_name",
            )


def _require_certified(role: Role, key: CertifiedKey, issuer: CertifiedKey) -> None:
    _require_simulated_names(key.certificate)
    if key.private_key.public_key() != key.certificate.public_key():
        raise MalformedError(f"the {role.value} certificate is not for the key that the seed gives")
    try:
        key.certificate.verify_directly_issued_by(issuer.certificate)
    except InvalidSignature as error:
        raise MalformedError(f"the {role.value} certificate was not signed by its issuer") from error


def _distribution_point(url: str) -> x509.CRLDistributionPoints:
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)
    return x509.CRLDistributionPoints([point])


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=not ca,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _comment() -> x509.UnrecognizedExtension:
    text = marks.NS_COMMENT.encode("ascii")
    return x509.UnrecognizedExtension(marks.NS_COMMENT_OID, bytes([_IA5_STRING, len(text)]) + text)
