"""Intel's own verification library (QVL), an independent implementation in C++, by its Python binding."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.sgx.quote import Quote

ACCEPTED = "STATUS_OK"


def intels_status(evidence):
    """Return the first status other than STATUS_OK of four: certificates, TCB info, QE identity, quote."""
    return next((status for status in intels_statuses(evidence) if status != ACCEPTED), ACCEPTED)


def intels_statuses(evidence):
    """Return the statuses of certificates, TCB info, QE identity and quote."""
    why = "Intel's QVL (sgx-dcap-quote-verify-python) exists for CPython 3.11 on x86-64 Linux only"
    qvl = pytest.importorskip("sgx_dcap_quote_verify", reason=why)
    result = qvl.verify(**arguments(evidence.quote, evidence.collateral, evidence.root, evidence.now))
    parts = (result.pck_certificate_status, result.tcb_info_status, result.qe_identity_status, result.quote_status)
    return [part.name for part in parts]


def arguments(quote, collateral, root, now):
    """Return the arguments of the binding's `verify`; the certificates are those of the quote."""
    leaf, *signers = Quote.parse(quote).signature.certification.pem_chain()
    return {
        "trusted_root_ca_certificate": _pem(root),
        "pck_certificate": leaf.decode(),
        "pck_signing_chain": b"".join(signers).decode(),
        "root_ca_crl": _pem(x509.load_der_x509_crl(collateral.root_ca_crl)),
        "intermediate_ca_crl": _pem(x509.load_der_x509_crl(collateral.pck_crl)),
        "tcb_info": collateral.tcb_info.decode(),
        "tcb_signing_chain": collateral.tcb_info_issuer_chain.decode(),
        "quote": quote,
        "qe_identity": collateral.qe_identity.decode(),
        "expiration_date": now.astimezone().replace(tzinfo=None),  # it reads naive time as the machine's local
    }


def _pem(one):
    return one.public_bytes(Encoding.PEM).decode()
