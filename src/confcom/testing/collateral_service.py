"""Serves collateral by http on the loopback, with the paths of Intel's PCS API version 4 and of a PCCS."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from http import HTTPStatus
from urllib.parse import parse_qsl, quote, urlsplit

from confcom.collateral import Source
from confcom.sgx.collateral_bundle import CollateralBundle
from confcom.sgx.collateral_json import CRL_CHAIN, QE_CHAIN, TCB_CHAINS
from confcom.sgx.simulation_marks import FMSPC, FMSPC_PREFIX
from confcom.simulated_pcs.answers import API_PATH, Answer
from confcom.simulated_pcs.server import Server


@contextlib.contextmanager
def serve(collateral_of: Callable[[bytes], CollateralBundle], evaluation: int) -> Iterator[Source]:
    """Serve the collateral that the function returns for an FMSPC, and that has this evaluation number."""
    server = Server(
        "127.0.0.1:0",
        lambda target: _answer(target, collateral_of, evaluation),
        log=logging.getLogger(__name__).error,
    )
    with server.serving():
        yield Source(server.url)


def _answer(target: str, collateral_of: Callable[[bytes], CollateralBundle], evaluation: int) -> Answer:
    parts = urlsplit(target)
    parameters = dict(parse_qsl(parts.query))
    try:
        fmspc = bytes.fromhex(parameters.get("fmspc", FMSPC.hex()))
    except ValueError:
        return Answer(HTTPStatus.BAD_REQUEST, b"")
    if len(fmspc) != len(FMSPC) or not fmspc.startswith(FMSPC_PREFIX):
        return Answer(HTTPStatus.NOT_FOUND, b"")
    if parameters.get("tcbEvaluationDataNumber", str(evaluation)) != str(evaluation):
        return Answer(HTTPStatus.NOT_FOUND, b"")
    collateral = collateral_of(fmspc)
    answers = {
        "tcb": (collateral.tcb_info, TCB_CHAINS[0], collateral.tcb_info_issuer_chain),
        "qe/identity": (collateral.qe_identity, QE_CHAIN, collateral.qe_identity_issuer_chain),
        "pckcrl": (collateral.pck_crl, CRL_CHAIN, collateral.pck_crl_issuer_chain),
        "rootcacrl": (collateral.root_ca_crl.hex().encode(), "", b""),
    }
    body, header, chain = answers.get(parts.path.removeprefix(API_PATH), (None, "", b""))
    if body is None:
        return Answer(HTTPStatus.NOT_FOUND, b"")
    return Answer(HTTPStatus.OK, body, headers={header: quote(chain)} if header else {})
