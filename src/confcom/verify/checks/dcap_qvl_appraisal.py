"""The adapter to dcap-qvl, and the only module that imports it."""

from __future__ import annotations

import functools
import importlib
import json
from dataclasses import dataclass, fields
from datetime import datetime
from types import ModuleType
from typing import Any, Final

from confcom.errors import UnavailableError
from confcom.sgx.collateral_bundle import CollateralBundle, CollateralDocuments
from confcom.sgx.tcb_documents import TcbLevel, TcbStatus
from confcom.sgx.td_report import TdReport10, TdReport15, TdReport15Ex
from confcom.verify.checks.tcb_level import PlatformTcb

_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "SgxEnclave": (
        *("cpu_svn", "misc_select", "reserved1", "attributes", "mr_enclave", "reserved2", "mr_signer", "reserved3"),
        *("isv_prod_id", "isv_svn", "reserved4", "report_data"),
    ),
    **{
        kind: tuple(field.name.replace("rtmr", "rt_mr") for field in fields(report))
        for kind, report in {"TD10": TdReport10, "TD15": TdReport15, "TD15Ex": TdReport15Ex}.items()
    },
}
"""The fields of each report body, in its order, as dcap-qvl names them. An enclave's reserved fields include those of
Key Separation and Sharing."""
_INTEGER_SIZES = {"misc_select": 4, "isv_prod_id": 2, "isv_svn": 2, "vmid": 1}
"""Sizes in bytes of the fields that dcap-qvl returns as numbers, while others are hexadecimal text."""
_DECODER: Final = json.JSONDecoder()
_REPORT: Final = '"report":'
"""Text before the quote's report, which stands last in dcap-qvl's claims; no JSON string contains it, because of its
quotation marks."""
MAX_KNOWN_CLAIMS: Final = 256
"""Limit of cached entries of parsed claims without report. A platform has one entry, under 4 KiB of text."""


@dataclass(frozen=True, slots=True)
class Appraisal:
    """dcap-qvl's acceptance of a quote. dcap-qvl accepts out-of-date platforms; our policy checks the status."""

    report_body: bytes
    """The report body of the enclave or TD, put together from the fields that dcap-qvl read."""
    root_key_id: bytes
    tcb: PlatformTcb


@dataclass(frozen=True, slots=True)
class Rejection:
    text: str
    """dcap-qvl's error text, and below it the cause, if dcap-qvl gives one."""


def load_dcap_qvl() -> ModuleType:
    """Import dcap-qvl at the first appraisal, because the quote helper's image does not have it.

    Raises:
        UnavailableError: dcap-qvl is not installed.
    """
    try:
        return importlib.import_module("dcap_qvl")
    except ModuleNotFoundError as missing:
        raise UnavailableError(
            "quotes cannot be verified",
            error_code="dcap-qvl-missing",
            why="the package dcap-qvl is not installed",
            remedy="install it; the daemons' images leave it out, since no daemon verifies quotes",
        ) from missing


class Appraiser:
    """Verifies quotes with dcap-qvl, one set of collateral and one root."""

    def __init__(self, root_der: bytes, collateral: CollateralBundle, documents: CollateralDocuments) -> None:
        self._root_der = root_der
        self._collateral = collateral
        self._signed = documents.tcb_info.signed, documents.qe_identity.signed
        self._prepared: tuple[Any, Any] | None = None
        """dcap-qvl's objects for verifier and collateral; None before the first appraisal."""
        self._known_claims = functools.lru_cache(MAX_KNOWN_CLAIMS)(_claims)

    def appraise(self, quote: bytes, now: datetime) -> Appraisal | Rejection:
        """Verify a quote at `now`, a time that `require_instant` returned."""
        dcap_qvl = load_dcap_qvl()
        seconds = int(now.timestamp())
        verifier, collateral = self._prepared = self._prepared or self._prepare(dcap_qvl)
        # claims_only turns every check of dcap-qvl's own policy off, so that only our policy decides.
        policy = dcap_qvl.QuotePolicy.claims_only(seconds)
        try:
            text = verifier.verify_with_policy(quote, collateral, seconds, policy).to_json()
        except ValueError as error:
            # Only this function gives the cause below the outermost context.
            try:
                dcap_qvl.verify_with_root_ca(quote, collateral, self._root_der, seconds)
            except ValueError as cause:
                texts = (str(reason).removeprefix("Verification failed: ") for reason in (error, cause))
                return Rejection(": ".join(dict.fromkeys(texts)))
            return Rejection(str(error))
        # Only the report differs among the quotes of a platform: the rest of the claims is cached.
        begin = text.rindex(_REPORT) + len(_REPORT)
        report, end = _DECODER.raw_decode(text, begin)
        return Appraisal(_report_body(report), *self._known_claims(f"{text[:begin]}null{text[end:]}"))

    def _prepare(self, dcap_qvl: ModuleType) -> tuple[Any, Any]:
        collateral, (tcb_info, qe_identity) = self._collateral, self._signed
        return dcap_qvl.QuoteVerifier(self._root_der), dcap_qvl.QuoteCollateralV3(
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


def _report_body(report: dict[str, Any]) -> bytes:
    ((kind, values),) = report.items()
    while (base := values.pop("base", None)) is not None:
        values |= base
    for name in _INTEGER_SIZES.keys() & values.keys():
        values[name] = values[name].to_bytes(_INTEGER_SIZES[name], "little").hex()
    return bytes.fromhex("".join([values[name] for name in _FIELDS[kind]]))


def _claims(text: str) -> tuple[bytes, PlatformTcb]:
    """Return the fields of an appraisal after the report body."""
    claims = json.loads(text)
    platform, quoting_enclave, both = claims["platform"], claims["qe"]["tcb_level"], claims["tcb"]
    current = platform["current_tcb_level"]
    tcb = PlatformTcb(
        _platform_level(platform["tcb_level"]),
        _level(quoting_enclave, (quoting_enclave["tcb"]["isvsvn"],)),
        TcbStatus(both["status"]),
        tuple(both["advisory_ids"]),
        None if current is None else _platform_level(current),
    )
    return bytes(platform["root_key_id"]), tcb


def _platform_level(level: dict[str, Any]) -> TcbLevel:
    tcb = level["tcb"]
    sgx, tdx = ([component["svn"] for component in tcb[f"{tee}tcbcomponents"]] for tee in ("sgx", "tdx"))
    return _level(level, (*sgx, tcb["pcesvn"], *tdx))


def _level(level: dict[str, Any], svns: tuple[int, ...]) -> TcbLevel:
    date = datetime.fromisoformat(level["tcbDate"])
    return TcbLevel(svns, date, TcbStatus(level["tcbStatus"]), tuple(level["advisoryIDs"]))
