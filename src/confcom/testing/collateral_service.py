"""A service of collateral by http on the loopback, with the paths of a PCCS; it needs the extra `collateral`.

with serve_collateral(attestation, tcb="OutOfDate") as source:
    collateral = fetch_collateral(quote, source)
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from confcom.collateral import Source
from confcom.sgx.collateral_json import CRL_CHAIN, QE_CHAIN, TCB_CHAINS
from confcom.sgx.simulation_marks import FMSPC, FMSPC_PREFIX
from confcom.simulated_pcs.answers import API_PATH, Answer
from confcom.simulated_pcs.server import Server
from confcom.testing.attestation import Attestation
from confcom.verify import Collateral

__all__ = ["serve_collateral"]


@contextlib.contextmanager
def serve_collateral(
    attestation: Attestation,
    **settings: Any,  # noqa: ANN401 # those of Attestation.collateral
) -> Iterator[Source]:
    """Serve the collateral of an Attestation's platforms on 127.0.0.1 in a thread, as Intel's PCS does.

    This is a context manager, whose value is the Source for `fetch_collateral` and caches. `settings` are arguments of
    `Attestation.collateral` except `platform` and `fmspc`, which requests choose. `revoked` is about the machine
    without a name, and without `now` each answer is current when it is sent.

    Raises:
        SettingsError: an argument has a value that cannot be meant.
    """
    served = attestation.collateral(**settings).evaluation_number

    def collateral_of(fmspc: bytes) -> Collateral:
        return attestation.collateral(fmspc=fmspc, **settings)

    log = logging.getLogger(__name__).error
    server = Server("127.0.0.1:0", lambda target: _answer(target, collateral_of, served), log=log)
    with server.serving():
        yield Source(server.url)


def _answer(target: str, collateral_of: Callable[[bytes], Collateral], evaluation: int) -> Answer:
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
