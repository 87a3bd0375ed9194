"""The simulated TD quoting enclave: an SGX enclave that signs TD reports as quotes of version 4 or 5."""

from dataclasses import replace

from confcom.sgx.quote import TDX_QUOTE_VERSION, TYPED_BODY_VERSION, Quote, QuoteHeader
from confcom.sgx.simulation_marks import HEADER_USER_DATA
from confcom.sgx.td_report import TdReport10
from confcom.sgx.tee_type import TeeType
from confcom.simulation.keys import sign
from confcom.simulation.pki import Pki
from confcom.simulation.quoting_enclave import DEFAULT_TD_QE_IDENTITY, certify_attestation_key


def quote_td(seed: bytes, pki: Pki, report: TdReport10) -> bytes:
    """Sign a TD report unchanged: in version 4 if it is of TDX 1.0, otherwise in version 5.

    No MAC is verified, since no processor and no TDX module made the report.
    """
    attestation_key, signature_data = certify_attestation_key(seed, pki, DEFAULT_TD_QE_IDENTITY)
    version = TDX_QUOTE_VERSION if type(report) is TdReport10 else TYPED_BODY_VERSION
    header = QuoteHeader(version, tee_type=TeeType.TDX, user_data=HEADER_USER_DATA)
    quote = Quote(header, report, signature_data)
    signature = sign(attestation_key, quote.signed_part)
    return replace(quote, signature=replace(signature_data, isv_signature=signature)).encode()
