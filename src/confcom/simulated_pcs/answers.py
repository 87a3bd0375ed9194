"""Answers to the requests of Intel's PCS API version 4 for SGX and TDX, and to requests that a PCCS adds. No I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.sgx import simulation_marks as marks
from confcom.sgx.collateral_bundle import CollateralBundle
from confcom.sgx.collateral_json import CRL_CHAIN, NUMBERS_CHAIN, QE_CHAIN, TCB_CHAINS
from confcom.sgx.pck.chain import PCK_CAS
from confcom.sgx.tee_type import TeeType
from confcom.simulation.collateral_staging import FIRST_NUMBER, Staging
from confcom.simulation.pki import PCK_CRL_URL, ROOT_CRL_URL
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.simulated_collateral import create_evaluation_numbers

API_PATH: Final = "/sgx/certification/v4/"
TDX_API_PATH: Final = "/tdx/certification/v4/"
MAX_PARAMETERS: Final = 8
"""Limit of query parameters in one request. The API has three parameters; further ones are ignored."""

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
CRL: Final = "application/pkix-crl"
PEM: Final = "application/x-pem-file"

_FMSPC = re.compile(r"[0-9a-fA-F]{12}")
_NUMBER = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Answer:
    status: HTTPStatus
    body: bytes
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)


def answer(
    target: str,
    platform: SimulatedPlatform,
    now: datetime,
    staging: Staging = Staging.NONE,
    *,
    pccs: bool = False,
) -> Answer:
    """Answer a GET request for `target` (path and query) with the collateral that is signed at `now`.

    All requests in one renewal period get the same bytes. With `pccs`, an answer to `pckcrl` without `encoding` is
    hexadecimal, as from a PCCS, and not PEM.
    """
    try:
        parts = urlsplit(target)
        pairs = parse_qsl(
            parts.query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS, encoding="ascii"
        )
    except ValueError:
        return _refused(HTTPStatus.BAD_REQUEST, "the path or the query cannot be read")
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        return _refused(HTTPStatus.BAD_REQUEST, "a parameter is given twice")
    tee, base = (TeeType.TDX, TDX_API_PATH) if parts.path.startswith(TDX_API_PATH) else (TeeType.SGX, API_PATH)
    return _Request(parameters, platform, now, staging, pccs, tee).answer(base, parts.path)


@dataclass(frozen=True, slots=True)
class _Request:
    parameters: Mapping[str, str]
    platform: SimulatedPlatform
    now: datetime
    staging: Staging
    pccs: bool
    tee: TeeType

    def answer(self, base: str, path: str) -> Answer:
        routes = {
            "tcb": self._tcb,
            "qe/identity": lambda: self._document("qe_identity", QE_CHAIN),
            "tcbevaluationdatanumbers": self._evaluation_numbers,
        }
        if self.tee is TeeType.SGX:  # revocation lists have no path of TDX
            routes |= {
                "pckcrl": self._pck_crl,
                "rootcacrl": lambda: Answer(HTTPStatus.OK, self._collateral().root_ca_crl.hex().encode(), CRL),
                "crl": self._crl,
            }
        name = path.removeprefix(base)
        if name == path or name not in routes:
            return _refused(HTTPStatus.NOT_FOUND, f"unknown path; known under {base}: {' '.join(routes)}")
        return routes[name]()

    def _tcb(self) -> Answer:
        fmspc = self.parameters.get("fmspc", "")
        if not _FMSPC.fullmatch(fmspc):
            return _refused(HTTPStatus.BAD_REQUEST, "fmspc must be 12 hexadecimal digits")
        if bytes.fromhex(fmspc) != marks.FMSPC:
            return _refused(HTTPStatus.NOT_FOUND, f"no such FMSPC; the simulated one is {marks.FMSPC.hex().upper()}")
        return self._document("tcb_info", TCB_CHAINS[0])

    def _document(self, part: str, header: str) -> Answer:
        collateral = self._set()
        if isinstance(collateral, Answer):
            return collateral
        return _signed(getattr(collateral, part), header, getattr(collateral, f"{part}_issuer_chain"))

    def _set(self) -> CollateralBundle | Answer:
        update, number = self.parameters.get("update"), self.parameters.get("tcbEvaluationDataNumber")
        if update is not None and number is not None:
            return _refused(HTTPStatus.BAD_REQUEST, "update and tcbEvaluationDataNumber exclude each other")
        if update not in {None, "standard", "early"}:
            return _refused(HTTPStatus.BAD_REQUEST, "update must be standard or early")
        if number is None:
            return self._collateral(early=update == "early")
        if not _NUMBER.fullmatch(number):
            return _refused(HTTPStatus.BAD_REQUEST, "tcbEvaluationDataNumber must be a number")
        if int(number) in self.staging.numbers:
            return self._collateral(early=int(number) == self.staging.numbers[0])
        served = f"the sets have the numbers {', '.join(map(str, self.staging.numbers))}"
        gone = FIRST_NUMBER <= int(number) < min(self.staging.numbers)
        return _refused(HTTPStatus.GONE if gone else HTTPStatus.NOT_FOUND, served)

    def _pck_crl(self) -> Answer:
        wanted, encoding = self.parameters.get("ca", "").upper(), self.parameters.get("encoding", "").lower()
        if wanted not in PCK_CAS:
            return _refused(HTTPStatus.BAD_REQUEST, "ca must be processor or platform")
        if encoding not in {"", "der", "pem"}:
            return _refused(HTTPStatus.BAD_REQUEST, "encoding must be der or pem")
        collateral = self.platform.under(wanted).collateral(self.now, staging=self.staging)
        headers = {CRL_CHAIN: quote(collateral.pck_crl_issuer_chain, safe="")}
        if encoding == "der" or (self.pccs and not encoding):
            body = collateral.pck_crl if encoding else collateral.pck_crl.hex().encode()
            return Answer(HTTPStatus.OK, body, CRL, headers)
        pem = x509.load_der_x509_crl(collateral.pck_crl).public_bytes(Encoding.PEM)
        return Answer(HTTPStatus.OK, pem, PEM, headers)

    def _crl(self) -> Answer:
        uri = self.parameters.get("uri")
        if uri is None:
            return _refused(HTTPStatus.BAD_REQUEST, "uri is missing")
        collateral = self._collateral()
        bodies = {ROOT_CRL_URL: collateral.root_ca_crl, PCK_CRL_URL: collateral.pck_crl}
        if uri not in bodies:
            return _refused(HTTPStatus.NOT_FOUND, f"no such list; known: {' '.join(bodies)}")
        return Answer(HTTPStatus.OK, bodies[uri], CRL)

    def _evaluation_numbers(self) -> Answer:
        pki = self.platform.pki
        body = create_evaluation_numbers(pki, self.now, self.staging, self.tee)
        return _signed(body, NUMBERS_CHAIN, pki.tcb_signer.pem + pki.root.pem)

    def _collateral(self, *, early: bool = False) -> CollateralBundle:
        return self.platform.collateral(self.now, staging=self.staging, early=early, tee=self.tee)


def _signed(body: bytes, header: str, chain: bytes) -> Answer:
    return Answer(HTTPStatus.OK, body, JSON, {header: quote(chain, safe="")})


def _refused(status: HTTPStatus, why: str) -> Answer:
    return Answer(status, f"{why}\n".encode(), headers={"Error-Message": why})
