"""A service of collateral by http on the loopback, with the paths of a PCCS; it needs the extra `collateral`.

with serve_collateral(attestation, tcb="OutOfDate") as source:
    collateral = fetch_collateral(quote, source)
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from confcom.collateral import Source
from confcom.errors import WrongValueError
from confcom.sgx.collateral_json import CRL_CHAIN, QE_CHAIN, TCB_CHAINS
from confcom.sgx.simulation_marks import FMSPC
from confcom.sgx.tee_type import TeeType
from confcom.simulated_pcs.answers import API_PATH, TDX_API_PATH, Answer
from confcom.simulated_pcs.server import Server
from confcom.testing.attestation import Attestation

__all__ = ["serve_collateral"]

_LISTS = ("pckcrl", "rootcacrl")


@contextlib.contextmanager
def serve_collateral(
    attestation: Attestation,
    **settings: Any,  # noqa: ANN401 # those of Attestation.collateral
) -> Iterator[Source]:
    """Serve the collateral of an Attestation's platforms on 127.0.0.1 in a thread, as Intel's PCS does.

    This is a context manager, whose value is the Source for `fetch_collateral` and caches. `settings` are arguments of
    `Attestation.collateral` except `tee`, `platform` and `fmspc`, which requests choose. `revoked` is about the machine
    without a name, and without `now` each answer is current when it is sent. With a `tcb` of TDX alone, collateral for
    SGX is not found.

    Raises:
        SettingsError: an argument has an impossible value.
    """
    attestation.collateral(tee=TeeType.TDX, **settings)  # raises SettingsError for impossible values
    log = logging.getLogger(__name__).error
    server = Server("127.0.0.1", 0, lambda target: _answer(target, attestation, settings), log=log)
    with server.serving():
        yield Source(server.url)


def _answer(target: str, attestation: Attestation, settings: dict[str, Any]) -> Answer:
    parts = urlsplit(target)
    parameters = dict(parse_qsl(parts.query))
    tee, path = (TeeType.TDX, TDX_API_PATH) if parts.path.startswith(TDX_API_PATH) else (TeeType.SGX, API_PATH)
    name = parts.path.removeprefix(path)
    try:
        fmspc = bytes.fromhex(parameters.get("fmspc", FMSPC.hex()))
        # Both TEEs have the same revocation lists, which must be served with a status of TDX alone, too.
        of = TeeType.TDX if name in _LISTS else tee
        collateral = attestation.collateral(tee=of, fmspc=fmspc, **settings)
    except WrongValueError:
        return Answer(HTTPStatus.NOT_FOUND, b"")
    except ValueError:
        return Answer(HTTPStatus.BAD_REQUEST, b"")
    shared = {
        "pckcrl": (collateral.pck_crl, CRL_CHAIN, collateral.pck_crl_issuer_chain),
        "rootcacrl": (collateral.root_ca_crl.hex().encode(), "", b""),
    }
    answers = (shared if tee is TeeType.SGX else {}) | {
        "tcb": (collateral.tcb_info, TCB_CHAINS[0], collateral.tcb_info_issuer_chain),
        "qe/identity": (collateral.qe_identity, QE_CHAIN, collateral.qe_identity_issuer_chain),
    }
    number = str(collateral.evaluation_number)
    if name not in answers or parameters.get("tcbEvaluationDataNumber", number) != number:
        return Answer(HTTPStatus.NOT_FOUND, b"")
    body, header, chain = answers[name]
    return Answer(HTTPStatus.OK, body, headers={header: quote(chain)} if header else {})
