"""Issues the certificates of a simulated platform, at each start anew and always the same.

The certificates have what verifiers require and, in addition, the marks of simulation; see `confcom.simulation.pki`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from confcom.sgx import marks
from confcom.sgx.pck.extension import SGX_EXTENSION_OID, PckExtension, PckTcb, PlatformConfiguration, SgxType
from confcom.simulation.keys import derive_bytes, derive_private_key
from confcom.simulation.pki import (
    BACKDATE,
    PCE_ID,
    PCE_SVN,
    TCB_COMPONENTS,
    CertifiedKey,
    PckCaType,
    Pki,
    Role,
    require_simulated_names,
)

CERTIFICATE_VALIDITY = timedelta(days=20 * 365)
"""Relying parties pin a simulated root, so it is never replaced and must outlive any installation. It ends before 2050
(if made before 2030), because X.509 changes its time format in that year."""

ROOT_CRL_URL = "https://simulated-sgx.invalid/rootCA.crl"
PCK_CRL_URL = "https://simulated-sgx.invalid/pckCRL.der"
"""Verifiers require a CRL distribution point in every certificate. `.invalid` never resolves (RFC 2606)."""

_SERIAL_NUMBER_BYTES = 19
"""A serial number has at most 20 bytes; one stays zero so that the number is positive (RFC 5280, 4.1.2.2)."""

_IA5_STRING = 0x16

_PROCESSOR_CA_EXTENSION = PckExtension(
    ppid=marks.PPID,
    tcb=PckTcb(components=TCB_COMPONENTS, pce_svn=PCE_SVN, cpu_svn=bytes(TCB_COMPONENTS)),
    pce_id=PCE_ID,
    fmspc=marks.FMSPC,
    sgx_type=SgxType.STANDARD,
)


def issue_pki(seed: bytes, now: datetime, *, ca_type: PckCaType = PckCaType.PLATFORM) -> Pki:
    """Issue all certificates of a platform; the same arguments give the same bytes.

    They are valid from 24 h before `now` (aware). The seed is 32 random bytes. The PCK certificate of a Platform CA
    also has a platform instance id and a configuration.
    """
    factory = _CertificateFactory(seed, now - BACKDATE)
    platform_ca = ca_type is PckCaType.PLATFORM
    root = factory.certify(Role.ROOT, "SGX Root CA", None, ROOT_CRL_URL, ca_path_length=1)
    pck_ca_name = f"SGX PCK {ca_type.value.capitalize()} CA"
    pck_ca = factory.certify(Role.PCK_CA, pck_ca_name, root, ROOT_CRL_URL, ca_path_length=0)
    tcb_signer = factory.certify(Role.TCB_SIGNER, "SGX TCB Signing", root, ROOT_CRL_URL)
    extension = x509.UnrecognizedExtension(SGX_EXTENSION_OID, _pck_extension(platform_ca=platform_ca).encode())
    pck = factory.certify(Role.PCK, "SGX PCK Certificate", pck_ca, PCK_CRL_URL, extra=(extension,))
    return Pki(root, pck_ca, tcb_signer, pck)


def simulated_name(common_name: str) -> x509.Name:
    """Return the name of a simulated certificate, with the part that verifiers look for, such as `SGX Root CA`."""
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
    """Sign a certificate whose names say that it is simulated."""
    certificate = builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    require_simulated_names(certificate)
    return certificate


@dataclass(frozen=True, slots=True)
class _CertificateFactory:
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


def _pck_extension(*, platform_ca: bool) -> PckExtension:
    """Return the SGX extension of the PCK certificate: seven members if a Platform CA issues it, else five."""
    if not platform_ca:
        return _PROCESSOR_CA_EXTENSION
    return replace(
        _PROCESSOR_CA_EXTENSION,
        platform_instance_id=marks.PLATFORM_INSTANCE_ID,
        configuration=PlatformConfiguration(dynamic_platform=False, cached_keys=False, smt_enabled=False),
    )


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
