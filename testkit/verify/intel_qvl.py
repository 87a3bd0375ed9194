"""Intel's own verification library, through its Python binding: the second, independent verifier. Tests only."""

import re

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

try:
    import sgx_dcap_quote_verify
except ImportError:
    sgx_dcap_quote_verify = None

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)

AVAILABLE = sgx_dcap_quote_verify is not None
WHY_NOT = "Intel's QVL (sgx-dcap-quote-verify-python) exists for CPython 3.11 on x86-64 Linux only"


def rejections(evidence):
    """What QVL finds wrong, by its four checks (certificates, TCB info, QE identity, quote); nothing if it accepts."""
    collateral = evidence.collateral
    leaf, *signers = _CERTIFICATE.findall(evidence.quote)
    try:
        result = sgx_dcap_quote_verify.verify(
            trusted_root_ca_certificate=evidence.root.public_bytes(Encoding.PEM).decode(),
            pck_certificate=leaf.decode(),
            pck_signing_chain=b"".join(signers).decode(),
            root_ca_crl=_crl_pem(collateral.root_ca_crl),
            intermediate_ca_crl=_crl_pem(collateral.pck_crl),
            tcb_info=collateral.tcb_info.decode(),
            tcb_signing_chain=collateral.tcb_info_issuer_chain.decode(),
            quote=evidence.quote,
            qe_identity=collateral.qe_identity.decode(),
            # The binding takes a naive time and reads it as the machine's local time.
            expiration_date=evidence.now.astimezone().replace(tzinfo=None),
        )
    except (ValueError, RuntimeError) as error:
        return [f"{type(error).__name__}: {error}"]
    statuses = {
        "pck": result.pck_certificate_status,
        "tcb": result.tcb_info_status,
        "qe": result.qe_identity_status,
        "quote": result.quote_status,
    }
    ok = sgx_dcap_quote_verify.VerificationStatus.STATUS_OK
    return [f"{name}: {status.name}" for name, status in statuses.items() if status != ok]


def _crl_pem(der):
    return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM).decode()
