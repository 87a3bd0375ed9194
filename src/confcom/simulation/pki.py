"""The simulated platform's own PKI, structured like Intel's: root, PCK CA, TCB signer, and one PCK certificate.

Verifiers require the names, key usages and extensions of Intel's certificates, so these certificates have all of them.
Unlike in Intel's PKI, every name and a comment in every certificate say that the platform is simulated. Each
start issues the PKI anew, with the same bytes, and checks its names, so that no name claims to be Intel's.
"""

import functools
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from confcom.errors import MalformedError
from confcom.sgx import simulation_marks as marks
from confcom.sgx.binary import der_element
from confcom.sgx.pck.chain import PCK_CAS
from confcom.sgx.pck.extension import PPID_SIZE, SGX_EXTENSION_OID, PckExtension, PckTcb, PlatformConfiguration, SgxType
from confcom.simulation.keys import derive_bytes, derive_private_key

TCB_COMPONENTS = (2,) * 16
"""SVN of each of the 16 components. It is not the minimum, so that collateral can have a lower level that is out of
date. PCK certificate, quote and collateral must agree on these numbers."""

PCE_SVN = 2
PCE_ID = bytes(2)
"""Id of the only PCE (Intel's PCK certificates all say 0000)."""

BACKDATE = timedelta(hours=24)
"""Certificates and collateral are valid from this long before they are made. dcap-qvl rejects an issue date
in the future, but clocks of test machines, and times without their time zone, are off by up to a day."""

CERTIFICATE_VALIDITY = timedelta(days=20 * 365)
"""Relying parties pin a simulated root, so the root is never replaced and must outlive any installation. It ends
before 2050 (if made before 2030), because X.509 changes its time format in that year."""

ROOT_CRL_URL = "https://simulated-sgx.invalid/rootCA.crl"
PCK_CRL_URL = "https://simulated-sgx.invalid/pckCRL.der"
"""Verifiers require a CRL distribution point in every certificate. `.invalid` never resolves (RFC 2606)."""

PLATFORM_CA = PCK_CAS[0]

_SERIAL_NUMBER_BYTES = 19
"""Serial numbers have at most 20 bytes. The first is 0, as numbers must be positive (RFC 5280, 4.1.2.2)."""

_IA5_STRING = 0x16
_COMMENT = x509.UnrecognizedExtension(marks.NS_COMMENT_OID, der_element(_IA5_STRING, marks.NS_COMMENT.encode()))


@dataclass(frozen=True, slots=True)
class CertifiedKey:
    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)
    """The key is not compared, because key objects lack equality, and the certificate identifies the key."""

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class Pki:
    root: CertifiedKey
    pck_ca: CertifiedKey
    tcb_signer: CertifiedKey
    pck: CertifiedKey


def issue_pki(
    seed: bytes,
    now: datetime,
    *,
    ca: str = PLATFORM_CA,
    node: str = "",
    fmspc: bytes = marks.FMSPC,
) -> Pki:
    """Issue all certificates of a platform; the same arguments give the same bytes. `now` has a time zone.

    `ca` is one of PCK_CAS, the kinds of CA that issue PCK certificates.
    Platforms with one seed and different node names differ only in their PCK certificates: in the key, the
    serial number, the PPID and the platform instance id.
    """
    certify = functools.partial(_certify, seed, now - BACKDATE)
    root = certify("root", "SGX Root CA", None, ca_path_length=1)
    pck_ca_name = f"SGX PCK {ca.capitalize()} CA"
    pck_ca = certify("pck-ca", pck_ca_name, root, ca_path_length=0)
    tcb_signer = certify("tcb-signer", "SGX TCB Signing", root)
    pck_extension = _pck_extension(seed, node, fmspc, platform_ca=ca == PLATFORM_CA).encode()
    extension = x509.UnrecognizedExtension(SGX_EXTENSION_OID, pck_extension)
    pck_role = f"pck of node {node}" if node else "pck"
    pck = certify(pck_role, "SGX PCK Certificate", pck_ca, crl_url=PCK_CRL_URL, sgx_extension=extension)
    return Pki(root, pck_ca, tcb_signer, pck)


def simulated_name(common_name: str) -> x509.Name:
    """Return a name for a simulated certificate; verifiers find `common_name` in it, such as `SGX Root CA`."""
    marked = f"{marks.COMMON_NAME_PREFIX}{common_name}{marks.COMMON_NAME_SUFFIX}"
    oids = (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.COUNTRY_NAME)
    return x509.Name(list(map(x509.NameAttribute, oids, (marked, marks.ORGANIZATION, marks.COUNTRY))))


def sign_certificate(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    certificate = builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    for name in (certificate.subject, certificate.issuer):
        if not marks.has_simulated_name(name):
            raise MalformedError(
                f"a certificate with the name {name.rfc4514_string()} is refused",
                error_code="not-named-simulated",
                why="every name of a simulated platform must say that it is simulated and not Intel's",
                remedy="name it with confcom.simulation.pki.simulated_name",
            )
    return certificate


def _certify(
    seed: bytes,
    not_before: datetime,
    role: str,
    name: str,
    issuer: CertifiedKey | None,
    *,
    crl_url: str = ROOT_CRL_URL,
    ca_path_length: int | None = None,
    sgx_extension: x509.UnrecognizedExtension | None = None,
) -> CertifiedKey:
    """Issue a certificate; its key and its serial number are derived from its role."""
    key = derive_private_key(seed, role)
    subject = simulated_name(name)
    authority_key = issuer.private_key if issuer else key
    serial = int.from_bytes(derive_bytes(seed, f"serial number of {role}", _SERIAL_NUMBER_BYTES), "big")
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl_url)], None, None, None)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(serial | 1 << (8 * _SERIAL_NUMBER_BYTES - 1))
        .not_valid_before(not_before)
        .not_valid_after(not_before + CERTIFICATE_VALIDITY)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .add_extension(x509.CRLDistributionPoints([point]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_key_usage(ca=ca_path_length is not None), critical=True)
        .add_extension(x509.BasicConstraints(ca=ca_path_length is not None, path_length=ca_path_length), critical=True)
        .add_extension(_COMMENT, critical=False)
    )
    if sgx_extension is not None:
        builder = builder.add_extension(sgx_extension, critical=False)
    return CertifiedKey(sign_certificate(builder, authority_key), key)


def _pck_extension(seed: bytes, node: str, fmspc: bytes, *, platform_ca: bool) -> PckExtension:
    """Return the SGX extension of the PCK certificate: seven members for a Platform CA, otherwise five."""
    no_options = PlatformConfiguration(dynamic_platform=False, cached_keys=False, smt_enabled=False)
    return PckExtension(
        ppid=_platform_id(seed, "PPID", node),
        tcb=PckTcb(components=TCB_COMPONENTS, pce_svn=PCE_SVN, cpu_svn=bytes(TCB_COMPONENTS)),
        pce_id=PCE_ID,
        fmspc=fmspc,
        sgx_type=SgxType.STANDARD,
        platform_instance_id=_platform_id(seed, "platform instance id", node) if platform_ca else None,
        configuration=no_options if platform_ca else None,
    )


def _platform_id(seed: bytes, kind: str, node: str) -> bytes:
    prefix = marks.PLATFORM_ID_PREFIX
    return prefix + derive_bytes(seed, f"{kind} of node {node}", PPID_SIZE - len(prefix))


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
