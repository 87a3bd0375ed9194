from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtensionOID, NameOID

from confcom.errors import MalformedError
from confcom.sgx import marks
from confcom.sgx.pck.extension import PckExtension, PlatformConfiguration
from confcom.simulation.collateral import create_crl
from confcom.simulation.issuing import issue_pki, sign_certificate, simulated_name
from confcom.simulation.pki import PCE_SVN, TCB_COMPONENTS, IntelNameError, PckCaType, Pki, Role
from testkit.raised import raises

INTEL = {"O": "Intel Corporation", "C": "US", "ST": "CA", "L": "Santa Clara"}


def extension(certificate, oid):
    return certificate.extensions.get_extension_for_oid(oid)


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


def test_a_later_list_has_a_larger_number(platform, now):
    lists = [
        create_crl(platform.pki.pck_ca, last_update=now + timedelta(days=age), next_update=now + timedelta(days=30))
        for age in (0, 15)
    ]
    first, second = (extension(one, ExtensionOID.CRL_NUMBER).value.crl_number for one in lists)
    assert first < second
