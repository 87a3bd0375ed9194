"""The trust anchor: one certificate, chosen by the relying party, genuine by its key alone."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from verify.verify_lab import NOW, Lab

from confcom.errors import MalformedError
from confcom.verify.files import intel_root
from confcom.verify.marks import root_is_marked
from confcom.verify.trust import INTEL_ROOT_KEY_ID, MAX_ROOT_SIZE, Platform, TrustedRoot, platform_of


def test_pem_and_der_are_the_same_root(lab: Lab) -> None:
    root = lab.platform.pki.root
    assert TrustedRoot.load(root.pem) == TrustedRoot.load(root.der)
    assert not TrustedRoot.load(root.der).is_intel
    assert intel_root().is_intel


def test_a_bundle_is_no_root(lab: Lab) -> None:
    with pytest.raises(MalformedError, match="3 certificates instead of one"):
        TrustedRoot.load(lab.platform.pki.pck_chain)


@pytest.mark.parametrize("data", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\n", bytes(MAX_ROOT_SIZE + 1)])
def test_other_bytes_are_no_root(data: bytes) -> None:
    with pytest.raises(MalformedError) as raised:
        TrustedRoot.load(data)
    assert raised.value.remedy


def test_a_root_on_another_curve_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "SGX Root CA")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW)
    with pytest.raises(MalformedError, match="P-256"):
        TrustedRoot.load(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))


def test_marks_never_make_intels_key_simulated_nor_another_key_genuine() -> None:
    assert platform_of(INTEL_ROOT_KEY_ID, root_is_marked=True) is Platform.GENUINE
    assert platform_of(INTEL_ROOT_KEY_ID, root_is_marked=False) is Platform.GENUINE
    assert platform_of(bytes(48), root_is_marked=True) is Platform.SIMULATED
    assert platform_of(bytes(48), root_is_marked=False) is Platform.UNKNOWN


def test_which_roots_are_marked(lab: Lab) -> None:
    pki = lab.platform.pki
    assert root_is_marked(pki.root.certificate)
    assert not root_is_marked(intel_root().certificate)
    assert not root_is_marked(lab.reissue(pki.root, pki.root, common_name="Intel SGX Root CA"))
