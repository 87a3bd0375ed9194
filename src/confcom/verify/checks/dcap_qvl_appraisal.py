"""The adapter to dcap-qvl, and the only module that imports it."""

import functools
from dataclasses import dataclass
from datetime import datetime

import dcap_qvl

from confcom.sgx.collateral_bundle import CollateralBundle, CollateralDocuments
from confcom.sgx.tcb_documents import TcbStatus


@dataclass(frozen=True, slots=True)
class Appraisal:
    """dcap-qvl's acceptance of a quote. dcap-qvl accepts out-of-date platforms; our policy checks the status."""

    status: TcbStatus
    """The status of platform and quoting enclave together."""
    advisory_ids: tuple[str, ...]


class Appraiser:
    def __init__(self, root_der: bytes, collateral: CollateralBundle, documents: CollateralDocuments) -> None:
        self._root_der = root_der
        self._collateral = collateral
        self._signed = documents.tcb_info.signed, documents.qe_identity.signed

    def appraise(self, quote: bytes, now: datetime) -> Appraisal | str:
        """Verify a quote at `now`, which is in UTC; a text is dcap-qvl's error, with its cause."""
        try:
            # This function applies no policy of dcap-qvl, and its errors give the cause below the outermost context.
            report = dcap_qvl.verify_with_root_ca(quote, self._prepared, self._root_der, int(now.timestamp()))
            return Appraisal(TcbStatus(report.status), tuple(report.advisory_ids))
        except ValueError as error:
            return str(error).removeprefix("Verification failed: ")

    @functools.cached_property
    def _prepared(self) -> object:
        collateral, (tcb_info, qe_identity) = self._collateral, self._signed
        return dcap_qvl.QuoteCollateralV3(
            pck_crl_issuer_chain=collateral.pck_crl_issuer_chain.decode(),
            root_ca_crl=collateral.root_ca_crl,
            pck_crl=collateral.pck_crl,
            tcb_info_issuer_chain=collateral.tcb_info_issuer_chain.decode(),
            tcb_info=tcb_info.body.decode(),
            tcb_info_signature=tcb_info.signature,
            qe_identity_issuer_chain=collateral.qe_identity_issuer_chain.decode(),
            qe_identity=qe_identity.body.decode(),
            qe_identity_signature=qe_identity.signature,
        )
