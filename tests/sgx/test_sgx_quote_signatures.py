"""Genuine quotes carry genuine signatures over exactly the bytes that our parser says they are over."""

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from confcom.sgx.quote import Quote

ECDSA = ec.ECDSA(SHA256())


def as_der(raw: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))


@pytest.fixture
def chain(chain_quote):
    pems = Quote.parse(chain_quote).signature.certification.pem_chain()
    return [x509.load_pem_x509_certificate(pem) for pem in pems]


@pytest.mark.parametrize("name", ["chain_quote", "ppid_quote"])
def test_the_attestation_key_signs_the_signed_part(name, request):
    quote = Quote.parse(request.getfixturevalue(name))
    point = b"\x04" + quote.signature.attestation_key
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    key.verify(as_der(quote.signature.isv_signature), quote.signed_part, ECDSA)
    with pytest.raises(InvalidSignature):
        key.verify(as_der(quote.signature.isv_signature), quote.signed_part[:-1] + b"\xff", ECDSA)


def test_the_pck_signs_the_qe_report_body(chain_quote, chain):
    signature = Quote.parse(chain_quote).signature
    key = chain[0].public_key()
    key.verify(as_der(signature.qe_report_signature), signature.qe_report_body.encode(), ECDSA)
    with pytest.raises(InvalidSignature):
        key.verify(as_der(signature.isv_signature), signature.qe_report_body.encode(), ECDSA)


def test_the_chain_is_complete_though_its_order_is_not_the_usual_one(chain):
    leaf, root, intermediate = chain
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)
    assert "Intel SGX PCK Certificate" in leaf.subject.rfc4514_string()
