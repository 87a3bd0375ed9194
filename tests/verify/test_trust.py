import base64
from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.errors import MalformedError
from confcom.quote_provider.export import FINGERPRINT_FILE, export_platform
from confcom.sgx.certificates import INTEL_ROOT_KEY_ID, name_text
from confcom.sgx.pck.chain import PckChain, is_issued_by
from confcom.sgx.simulation_marks import root_is_marked
from confcom.verify.trust import Platform, TrustedRoot, intel_root, platform_of
from testkit.expected_errors import raises
from testkit.verify import tampering
from testkit.verify.verify_lab import NOW


def test_pem_and_der_are_the_same_root(lab):
    root = lab.platform.pki.root
    assert TrustedRoot.load(root.pem) == TrustedRoot.load(root.der)


def test_what_is_no_root(lab):
    """dcap-qvl aborts the process over a certificate of another issuer, so it must not get this one."""
    pki = lab.platform.pki
    begin, *lines, end = pki.root.pem.splitlines(keepends=True)
    for data, code, naming in (
        (b"", "not-a-certificate", ""),
        (b"garbage", "not-a-certificate", ""),
        (b"-----BEGIN CERTIFICATE-----\n", "not-pem", ""),
        (b"".join([begin, lines[0], b"\n", *lines[1:], end]), "not-a-certificate", ""),
        (begin + base64.encodebytes(pki.root.pem) + end, "not-a-certificate", ""),
        (pki.pck.pem + pki.root.pem, "not-a-root", ""),
        (pki.pck_ca.pem, "not-a-root", "SGX PCK Platform CA - NOT INTEL"),
    ):
        with raises(code, MalformedError, "remedy", naming=naming):
            TrustedRoot.load(data)


def test_an_intermediate_that_may_not_issue(lab):
    """Key, names, dates and signatures are unchanged."""
    no_ca = tampering.reissued_intermediate(lab, replacing=x509.BasicConstraints(ca=False, path_length=None))
    silent = tampering.reissued_intermediate(lab, without=x509.BasicConstraints.oid)
    for intermediate in (no_ca, silent):
        reason = PckChain(lab.chain[0], (intermediate,), lab.chain[2]).broken_link(lab.chain[2])
        assert name_text(intermediate.subject) in reason


def test_a_chain_of_another_length_is_broken(lab):
    """Each link of the chain holds."""
    leaf, intermediate, root = lab.chain
    assert PckChain(leaf, (intermediate,), root).broken_link(root) is None
    for chain in (
        PckChain(leaf, (), root),
        PckChain(leaf, (intermediate,), None),
        PckChain(leaf, (intermediate,) * 2, root),
    ):
        assert chain.broken_link(root) is not None


def test_a_signature_algorithm_that_nobody_knows_issues_nothing(lab):
    ecdsa_sha256, unknown = bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("06082a8648ce3d04037f")
    der = lab.chain[0].public_bytes(Encoding.DER).replace(ecdsa_sha256, unknown)
    assert not is_issued_by(x509.load_der_x509_certificate(der), lab.chain[1])


def test_a_root_on_another_curve_is_refused():
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "SGX Root CA")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW)
    with raises("wrong-curve", MalformedError, "why", "remedy"):
        TrustedRoot.load(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))


def test_the_same_name_in_another_encoding_is_another_issuer(lab):
    der = lab.platform.pki.root.der
    name = lab.chain[2].issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value.encode()
    utf8, printable_string = (bytes([tag, len(name)]) + name for tag in (0x0C, 0x13))
    mixed = der.replace(utf8, printable_string, 1)
    certificate = x509.load_der_x509_certificate(mixed)
    assert certificate.subject == certificate.issuer
    with raises("not-a-root", MalformedError):
        TrustedRoot.load(mixed)
    parsed = x509.load_der_x509_certificate(mixed).public_bytes(Encoding.PEM)
    assert PckChain.from_pem((lab.platform.pki.pck.pem, lab.platform.pki.pck_ca.pem, parsed)).root is None


def test_marks_make_no_key_genuine_and_intels_never_simulated():
    assert platform_of(INTEL_ROOT_KEY_ID, root_is_marked=True) is Platform.GENUINE
    assert platform_of(INTEL_ROOT_KEY_ID, root_is_marked=False) is Platform.GENUINE
    assert platform_of(bytes(48), root_is_marked=True) is Platform.SIMULATED
    assert platform_of(bytes(48), root_is_marked=False) is Platform.UNKNOWN


def test_which_roots_are_marked(lab):
    pki, key = lab.platform.pki, ec.generate_private_key(ec.SECP256R1())
    assert root_is_marked(pki.root.certificate)
    name = pki.root.certificate.subject
    assert not root_is_marked(
        x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW).sign(key, hashes.SHA256())
    )
    assert not root_is_marked(intel_root().certificate)
    assert not root_is_marked(lab.reissue(pki.root, pki.root, common_name="Intel SGX Root CA"))


def test_verify_names_roots_by_the_exported_fingerprint(lab, evidence, tmp_path):
    """The message also names the root that is not trusted."""
    exported = {}
    for trusted in (lab.platform, lab.stranger):
        directory = tmp_path / trusted.root_fingerprint
        export_platform(trusted, directory, NOW)
        exported[trusted] = (directory / FINGERPRINT_FILE).read_text().strip()
        verdict = replace(evidence, root=trusted.pki.root.certificate).verdict(lab.policy)
        (check,) = [one for one in verdict.checks if one.code == "root"]
        assert check.found.split()[0] == exported[lab.platform]
        assert exported[trusted] in check.required.split()
