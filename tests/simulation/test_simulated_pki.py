from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from confcom.errors import MalformedError
from confcom.sgx import simulation_marks as marks
from confcom.sgx.pck.chain import PCK_CAS
from confcom.sgx.pck.extension import PckExtension, PlatformConfiguration
from confcom.simulation.pki import (
    PCE_SVN,
    PLATFORM_CA,
    TCB_COMPONENTS,
    issue_pki,
    sign_certificate,
    simulated_name,
)
from confcom.simulation.simulated_collateral import Validity, create_crl
from testkit.expected_errors import raises

INTEL = {"O": "Intel Corporation", "C": "US", "ST": "CA", "L": "Santa Clara"}


def extension(certificate, oid):
    return certificate.extensions.get_extension_for_oid(oid)


def test_sgx_extension_says_simulated_and_agrees_with_the_tcb(seed, now):
    for ca in PCK_CAS:
        certificate = issue_pki(seed, now, ca=ca).pck.certificate
        sgx = PckExtension.from_certificate(certificate)
        assert (sgx.fmspc, sgx.ppid[:10]) == (b"SIMSGX", b"SIMULATED-")
        assert (sgx.tcb.components, sgx.tcb.pce_svn) == (TCB_COMPONENTS, PCE_SVN)
        assert f"SGX PCK {ca.capitalize()} CA" in certificate.issuer.rfc4514_string()
        if ca == PLATFORM_CA:
            assert sgx.platform_instance_id.startswith(marks.PLATFORM_ID_PREFIX)
            assert sgx.configuration == PlatformConfiguration(False, False, False)
        else:
            assert (sgx.platform_instance_id, sgx.configuration) == (None, None)


def test_nodes_differ_in_their_pck_alone(seed, now):
    pkis = [issue_pki(seed, now, node=node) for node in ("", "worker-1", "worker-2")]
    for part in ("root", "pck_ca", "tcb_signer"):
        assert len({getattr(pki, part).der for pki in pkis}) == 1
    extensions = [PckExtension.from_certificate(pki.pck.certificate) for pki in pkis]
    for name in ("ppid", "platform_instance_id"):
        assert len({getattr(one, name) for one in extensions}) == 3
    assert len({pki.pck.certificate.serial_number for pki in pkis}) == 3
    assert len({pki.pck.certificate.public_key().public_numbers() for pki in pkis}) == 3
    assert issue_pki(seed, now, node="worker-1").pck.der == pkis[1].pck.der


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
        with raises("not-named-simulated", MalformedError, "why", "remedy"):
            sign_certificate(builder, key)


def test_a_later_list_has_a_larger_number(platform, now):
    lists = [
        create_crl(platform.pki.pck_ca, Validity(now + timedelta(days=age), now + timedelta(days=30)))
        for age in (0, 15)
    ]
    first, second = (extension(one, ExtensionOID.CRL_NUMBER) for one in lists)
    assert first.value.crl_number < second.value.crl_number
    assert not any(one.critical for one in lists[0].extensions), "dcap-qvl refuses critical extensions"
