from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID

from confcom.errors import MalformedError
from confcom.sgx import marks
from confcom.sgx.pck.extension import PckExtension, PlatformConfiguration
from confcom.simulation.collateral import create_crl
from confcom.simulation.issuing import issue_pki, sign_certificate, simulated_name
from confcom.simulation.pki import BACKDATE, PCE_SVN, TCB_COMPONENTS, IntelNameError, PckCaType, Pki, Role
from testkit.raised import raises

KEY_USAGES = [
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign"),
]
INTEL = {"O": "Intel Corporation", "C": "US", "ST": "CA", "L": "Santa Clara"}


def extension(certificate, oid):
    return certificate.extensions.get_extension_for_oid(oid)


def test_names_contain_what_verifiers_look_for(any_platform):
    pki = any_platform.pki
    ca_type = "Platform" if PckExtension.from_certificate(pki.pck.certificate).configuration else "Processor"
    for key, wanted in (
        (pki.root, "Root CA"),
        (pki.pck_ca, f"PCK {ca_type} CA"),
        (pki.tcb_signer, "TCB Signing"),
        (pki.pck, "PCK Certificate"),
    ):
        [common_name] = key.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert common_name.value == f"SIMULATED SGX {wanted} - NOT INTEL"


@pytest.mark.parametrize("role", Role)
def test_every_certificate_has_what_verifiers_need(any_platform, role):
    certificate = any_platform.pki.certificates[role]
    is_ca = role in {Role.ROOT, Role.PCK_CA}

    assert certificate.version is x509.Version.v3
    assert isinstance(certificate.public_key().curve, ec.SECP256R1)
    assert certificate.serial_number.bit_length() == 8 * 19
    critical = {extension.oid for extension in certificate.extensions if extension.critical}
    assert critical == {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE}
    basic = extension(certificate, ExtensionOID.BASIC_CONSTRAINTS).value
    assert (basic.ca, basic.path_length) == (is_ca, {Role.ROOT: 1, Role.PCK_CA: 0}.get(role))
    usage = extension(certificate, ExtensionOID.KEY_USAGE).value
    asserted = {name for name in KEY_USAGES if getattr(usage, name)}
    assert asserted == ({"key_cert_sign", "crl_sign"} if is_ca else {"digital_signature", "content_commitment"})
    assert extension(certificate, ExtensionOID.SUBJECT_KEY_IDENTIFIER).value == (
        x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
    )
    [point] = extension(certificate, ExtensionOID.CRL_DISTRIBUTION_POINTS).value
    assert point.full_name[0].value.startswith("https://simulated-sgx.invalid/")


def test_chain_of_issuers(any_platform):
    pki = any_platform.pki
    for subject, issuer in (
        (pki.root, pki.root),
        (pki.pck_ca, pki.root),
        (pki.tcb_signer, pki.root),
        (pki.pck, pki.pck_ca),
    ):
        subject.certificate.verify_directly_issued_by(issuer.certificate)
        authority = extension(subject.certificate, ExtensionOID.AUTHORITY_KEY_IDENTIFIER).value
        assert authority.key_identifier == (
            extension(issuer.certificate, ExtensionOID.SUBJECT_KEY_IDENTIFIER).value.digest
        )
    assert pki.pck_chain == pki.pck.pem + pki.pck_ca.pem + pki.root.pem
    assert len({certificate.serial_number for certificate in pki.certificates.values()}) == len(Role)
    assert len({certificate.public_key().public_numbers() for certificate in pki.certificates.values()}) == len(Role)


def test_certificates_begin_a_day_before_and_end_long_after(platform, now):
    for certificate in platform.pki.certificates.values():
        assert certificate.not_valid_before_utc == now.replace(microsecond=0) - BACKDATE
        assert certificate.not_valid_after_utc > now + timedelta(days=19 * 365)
        assert certificate.not_valid_after_utc < datetime(2050, 1, 1, tzinfo=UTC)


def test_sgx_extension_says_simulated_and_agrees_with_the_tcb(seed, now):
    for ca_type in PckCaType:
        certificate = issue_pki(seed, now, ca_type=ca_type).pck.certificate
        sgx = PckExtension.from_certificate(certificate)
        assert (sgx.fmspc, sgx.ppid) == (b"SIMSGX", marks.PPID)
        assert (sgx.tcb.components, sgx.tcb.pce_svn) == (TCB_COMPONENTS, PCE_SVN)
        assert f"SGX PCK {ca_type.value.capitalize()} CA" in certificate.issuer.rfc4514_string()
        if ca_type is PckCaType.PLATFORM:
            assert sgx.platform_instance_id == marks.PLATFORM_INSTANCE_ID
            assert sgx.configuration == PlatformConfiguration(False, False, False)
        else:
            assert (sgx.platform_instance_id, sgx.configuration) == (None, None)


def test_making_is_deterministic_and_the_seed_decides(seed, now):
    assert issue_pki(seed, now).certificates == issue_pki(seed, now).certificates
    other = issue_pki(bytes(32), now).certificates
    for role, certificate in issue_pki(seed, now).certificates.items():
        assert certificate.public_key() != other[role].public_key()


def intel_name(common_name):
    return x509.Name.from_rfc4514_string(
        ",".join([f"{key}={value}" for key, value in INTEL.items()] + [f"CN={common_name}"])
    )


@pytest.mark.parametrize(
    "name",
    [
        intel_name("Intel SGX Root CA"),
        intel_name("SIMULATED SGX Root CA - NOT INTEL"),
        x509.Name([*simulated_name("SGX Root CA"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Intel Corporation")]),
        x509.Name([*simulated_name("SGX Root CA"), x509.NameAttribute(NameOID.COMMON_NAME, "Intel SGX Root CA")]),
        x509.Name.from_rfc4514_string(f"CN=SGX Root CA,O={marks.ORGANIZATION},C=ZZ"),
        x509.Name.from_rfc4514_string("CN=SIMULATED SGX Root CA - NOT INTEL"),
        x509.Name([]),
    ],
    ids=["intel", "intel's organization", "two organizations", "two names", "no mark", "no organization", "empty"],
)
def test_a_name_that_does_not_say_simulated_is_never_certified(platform, now, name):
    key, right = platform.pki.root.private_key, simulated_name("SGX Root CA")
    for names in ((right, name), (name, right)):
        builder = x509.CertificateBuilder(*names, key.public_key(), 1, now, now + timedelta(days=1))
        with raises("not-named-simulated", IntelNameError, "why", "remedy"):
            sign_certificate(builder, key)


def test_only_a_platforms_own_certificates_are_loaded(platform, seed, now):
    """The last three have the right keys, as a mix of two copies of a state could."""
    certificates, other = platform.pki.certificates, issue_pki(bytes(32), now)
    assert Pki.load(seed, certificates) == platform.pki
    for role in Role:
        with raises("wrong-key", MalformedError, naming=f" {role.value} "):
            Pki.load(seed, {**certificates, role: other.certificates[role]})

    def again(role, issuer, subject):
        key = certificates[role].public_key()
        return x509.CertificateBuilder(issuer, subject, key, 1, now, now + timedelta(days=1))

    own_key, ca, intel = platform.pki.root.private_key, certificates[Role.PCK_CA], intel_name("Intel SGX Root CA")
    assert other.root.certificate.subject == ca.issuer
    other_issuer = sign_certificate(again(Role.PCK_CA, ca.issuer, ca.subject), other.root.private_key)
    other_name = sign_certificate(again(Role.ROOT, *[simulated_name("SGX Root CA, another")] * 2), own_key)
    intels_name = again(Role.ROOT, intel, intel).sign(own_key, hashes.SHA256())
    for role, certificate, code in (
        (Role.PCK_CA, other_issuer, "wrong-issuer"),
        (Role.ROOT, other_name, "not-a-certificate"),
        (Role.ROOT, intels_name, "not-named-simulated"),
    ):
        with raises(code):
            Pki.load(seed, {**certificates, role: certificate})


def test_crl_has_what_verifiers_need(platform, now):
    issuer, leaf = platform.pki.pck_ca, platform.pki.pck.certificate
    crl = create_crl(issuer, last_update=now, next_update=now + timedelta(days=30), revoked=(leaf.serial_number,))
    assert crl.is_signature_valid(issuer.certificate.public_key())
    assert crl.issuer == issuer.certificate.subject
    assert crl.get_revoked_certificate_by_serial_number(leaf.serial_number)
    assert len(crl) == 1
    later = create_crl(issuer, last_update=now + timedelta(days=15), next_update=now + timedelta(days=45))
    number, later_number = (extension(made, ExtensionOID.CRL_NUMBER).value.crl_number for made in (crl, later))
    assert later_number > number
    assert len(later) == 0
    authority = extension(crl, ExtensionOID.AUTHORITY_KEY_IDENTIFIER).value
    assert authority == x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.certificate.public_key())
    assert not any(extension.critical for extension in crl.extensions)
