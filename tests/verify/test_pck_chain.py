"""The chain from the leaf to the trusted root, link by link: each test breaks one thing and nothing else."""

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.sgx.certificates import name_text
from confcom.sgx.pck.chain import PckChain, is_issued_by
from testkit.verify.tampering import reissued_intermediate
from testkit.verify.verify_lab import NOW

BASIC_CONSTRAINTS = x509.BasicConstraints.oid


def broken_link(lab, intermediate):
    return PckChain(lab.chain[0], (intermediate,), lab.chain[2]).broken_link(lab.chain[2], NOW)


def test_an_intermediate_that_may_not_issue(lab):
    """Key, names, dates and signatures are as before: only the certificate does not allow it to issue others."""
    no_ca = reissued_intermediate(lab, replacing=x509.BasicConstraints(ca=False, path_length=None))
    silent = reissued_intermediate(lab, without=BASIC_CONSTRAINTS)
    for intermediate in (no_ca, silent):
        reason = broken_link(lab, intermediate)
        assert reason is not None
        assert reason.startswith(name_text(intermediate.subject))


def test_a_signature_algorithm_that_nobody_knows_issues_nothing(lab):
    ecdsa_sha256, unknown = bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("06082a8648ce3d04037f")
    der = lab.chain[0].public_bytes(Encoding.DER).replace(ecdsa_sha256, unknown)
    assert not is_issued_by(x509.load_der_x509_certificate(der), lab.chain[1])
