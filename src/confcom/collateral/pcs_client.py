"""Fetches collateral in four requests, limits time and size, and follows no redirect and no URL from a quote."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from confcom.collateral.source import Source
from confcom.errors import MalformedError, UnavailableError, WrongTypeError, WrongValueError, shortened
from confcom.extras import require
from confcom.sgx.collateral_json import CRL_CHAIN, QE_CHAIN, TCB_CHAINS, PlatformKind, decode_chain
from confcom.sgx.signed_json import MAX_DOCUMENT_SIZE, MAX_INTEGER
from confcom.verify.argument_types import boolean, number, time_limit
from confcom.verify.files import MAX_COLLATERAL_FILE_SIZE
from confcom.verify.prepared_collateral import Collateral, platform_kind
from confcom.verify.verifier import QuoteInput, bytes_of

require("httpx2", "collateral")

import httpx2  # noqa: E402 # require() must run first: its error names the extra

FETCH_SECONDS: Final = 30.0
"""Time limit of all requests and retries together: a service needs less, and people would wait longer."""
CONNECT_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 0.5
"""Seconds between an attempt that failed at the service or the network and the second, last attempt."""
MAX_HEADER_CHAIN: Final = 16 * 1024
"""Greatest length of an issuer chain in a header. Two percent-encoded certificates take 3 KiB."""
_CHUNK: Final = 64 * 1024


class FetchError(UnavailableError):
    """A service did not answer, refused the request or sent no collateral, or the cache cannot be written."""

    error_code = "collateral-not-fetched"


@dataclass(frozen=True, slots=True)
class _Answer:
    body: bytes
    headers: Mapping[str, str]


def fetch_collateral(
    quote: QuoteInput,
    source: Source,
    *,
    early: bool = False,
    evaluation: int | None = None,
    seconds: float = FETCH_SECONDS,
) -> Collateral:
    """Fetch the collateral of a quote's platform.

    The requests use the proxy that the environment sets (HTTPS_PROXY, NO_PROXY). The answers are untrusted:
    they are only parsed here, and `verify` decides whether the collateral is authentic and current.

    Args:
        quote: any form of QuoteInput; only the quote's PCK certificate is read.
        source: INTEL_PCS, AZURE_CACHE, or another Source. After a server or network error, a request is retried once.
        early: fetch the early set (Intel: update=early), with the newest TCB recovery, not the standard set.
        evaluation: the TCB evaluation data number of the set to fetch.
        seconds: the time limit of all requests together; the look-up of the host's name does not count.

    Raises:
        FetchError: the service did not answer, refused the request, or sent no collateral.
        MalformedError: the quote has no readable PCK certificate, or the answer is not its platform's collateral.
        SettingsError: an argument has a wrong type or value; or an event loop is running.
    """
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        raise WrongValueError(
            "fetch_collateral would block the event loop",
            remedy="await fetch_collateral_async, or call it by asyncio.to_thread",
        )
    return asyncio.run(fetch_collateral_async(quote, source, early=early, evaluation=evaluation, seconds=seconds))


async def fetch_collateral_async(
    quote: QuoteInput,
    source: Source,
    *,
    early: bool = False,
    evaluation: int | None = None,
    seconds: float = FETCH_SECONDS,
) -> Collateral:
    """Fetch collateral as `fetch_collateral` does, but for asyncio programs."""
    if not isinstance(source, Source):
        raise WrongTypeError("the source", "a Source, such as INTEL_PCS", source)
    require_set(early, evaluation)
    kind = platform_kind(bytes_of(quote))
    chosen = {"update": "early"} if early else {}
    if evaluation is not None:
        chosen = {"tcbEvaluationDataNumber": str(evaluation)}
    try:
        async with asyncio.timeout(time_limit(seconds)), _client(source) as client:
            tcb_info = await _get(client, source, "tcb", {"fmspc": kind.fmspc.hex()} | chosen, MAX_DOCUMENT_SIZE)
            identity = await _get(client, source, "qe/identity", chosen, MAX_DOCUMENT_SIZE)
            names = {"ca": kind.ca.lower(), "encoding": "der"}
            pck_crl = await _get(client, source, "pckcrl", names, MAX_COLLATERAL_FILE_SIZE)
            root_crl = await _get(client, source, source.root_crl, {}, MAX_COLLATERAL_FILE_SIZE)
    except TimeoutError as error:
        raise FetchError(
            f"{source.base} took more than {seconds:g} s",
            why="it is overloaded, or a proxy or firewall holds the connection",
            remedy="try again; `curl -v` to the same address shows where it waits",
        ) from error
    collateral = Collateral(
        tcb_info=tcb_info.body,
        tcb_info_issuer_chain=_chain(tcb_info, source, *TCB_CHAINS),
        qe_identity=identity.body,
        qe_identity_issuer_chain=_chain(identity, source, QE_CHAIN),
        pck_crl=_der(pck_crl.body),
        pck_crl_issuer_chain=_chain(pck_crl, source, CRL_CHAIN),
        root_ca_crl=_der(root_crl.body),
    )
    collateral.require_well_formed()
    _require_asked_for(collateral, kind, evaluation)
    return collateral


def require_set(early: object, evaluation: object) -> None:
    """Raise SettingsError unless `early` and `evaluation` are valid and select one set of collateral."""
    boolean("early", early)
    number("the evaluation number", evaluation, MAX_INTEGER)
    if early and evaluation is not None:
        raise WrongValueError("early and an evaluation number exclude each other", remedy="give one of them")


def _require_asked_for(collateral: Collateral, kind: PlatformKind, evaluation: int | None) -> None:
    documents = collateral.read()
    numbers = (documents.tcb_info.tcb_evaluation_data_number, documents.qe_identity.tcb_evaluation_data_number)
    if documents.tcb_info.fmspc != kind.fmspc:
        why = f"its TCB info is for FMSPC {documents.tcb_info.fmspc.hex()}, not for {kind.fmspc.hex()}"
    elif numbers[0] != numbers[1]:
        why = f"TCB info has the evaluation number {numbers[0]} and the QE identity {numbers[1]}"
    elif evaluation is not None and numbers[0] != evaluation:
        why = f"it has the evaluation number {numbers[0]}, and {evaluation} was asked for"
    else:
        return
    raise MalformedError(
        "the service served another set than the one that was asked for",
        error_code="collateral-of-another-set",
        why=why,
        remedy="try again, since sets may change between two requests; else ask Intel's own service",
    )


def _client(source: Source) -> httpx2.AsyncClient:
    try:
        context = ssl.create_default_context(cafile=None if source.ca_file is None else str(source.ca_file))
    except (OSError, ValueError) as error:
        raise FetchError(f"{source.ca_file} holds no authority", why=str(error), remedy="give a file of PEM") from error
    try:
        return httpx2.AsyncClient(
            verify=context,
            headers={"User-Agent": "confcom"},
            timeout=httpx2.Timeout(FETCH_SECONDS, connect=CONNECT_SECONDS),
            follow_redirects=False,
            trust_env=source.base.startswith("https:"),  # plain http is local and takes no proxy
        )
    except (ValueError, ImportError, httpx2.InvalidURL) as error:
        raise FetchError(
            "the proxy of the environment cannot be used",
            why=str(error).partition(". ")[0],
            remedy="correct HTTPS_PROXY, which takes http://HOST:PORT, or name the service in NO_PROXY",
        ) from error


async def _get(
    client: httpx2.AsyncClient, source: Source, path: str, parameters: Mapping[str, str], limit: int
) -> _Answer:
    url = path if "://" in path else source.base + path
    # Send the API key to the service only, not to the host of the root's revocation list.
    headers = {"Ocp-Apim-Subscription-Key": source.api_key} if source.api_key and url.startswith(source.base) else {}
    for last in (False, True):
        try:
            async with client.stream("GET", url, params=dict(parameters), headers=headers) as response:
                if response.status_code == httpx2.codes.OK:
                    return _Answer(await _body(response, url, limit), dict(response.headers))
                failure = _refusal(response, url)
        except (httpx2.HTTPError, OSError) as error:  # ssl.SSLError: the server sent a damaged TLS record
            failure = _failure(error, url)
        if last or not failure.transient:
            raise failure
        await asyncio.sleep(RETRY_SECONDS)
    raise AssertionError


class _AttemptError(FetchError):
    def __init__(self, what: str, *, why: str, remedy: str, transient: bool) -> None:
        super().__init__(what, why=why, remedy=remedy)
        self.transient = transient


async def _body(response: httpx2.Response, url: str, limit: int) -> bytes:
    data = bytearray()
    async for chunk in response.aiter_bytes(_CHUNK):
        data += chunk
        if len(data) > limit:
            raise FetchError(
                f"the answer of {url} has more than {limit} bytes",
                why="no such document is that large",
                remedy="check that it is a service of collateral",
            )
    return bytes(data)


def _refusal(response: httpx2.Response, url: str) -> _AttemptError:
    if response.is_redirect:
        return _AttemptError(
            f"{url} redirects to {shortened(response.headers.get('location', 'no address'))}",
            why="redirects are not followed: they could lead to another host",
            remedy="give the address that the service really has",
            transient=False,
        )
    remedies = {
        401: "give a key by --api-key-file (Source.api_key)",
        403: "give a key by --api-key-file (Source.api_key)",
        404: "the service does not know this platform or this set; a PCCS may have to fetch it first",
        410: "this set is no longer served: ask for a newer number, or for the standard set",
        429: "ask less often; keep what was fetched (CollateralCache)",
    }
    return _AttemptError(
        f"{url} answered {response.status_code}",
        why=shortened(response.headers.get("Error-Message", response.reason_phrase)),
        remedy=remedies.get(response.status_code, "try again later; ask the service's operator if it happens again"),
        transient=response.is_server_error,
    )


def _failure(error: httpx2.HTTPError | OSError, url: str) -> _AttemptError:
    certificate = "CERTIFICATE_VERIFY_FAILED" in str(error)
    return _AttemptError(
        f"{url} cannot be asked",
        why=str(error) or type(error).__name__,
        remedy="give the authority of its certificate by --ca (Source.ca_file)"
        if certificate
        else "check the network and HTTPS_PROXY",
        transient=isinstance(error, httpx2.TransportError | OSError) and not certificate,
    )


def _chain(answer: _Answer, source: Source, *names: str) -> bytes:
    text = next((answer.headers[name.lower()] for name in names if name.lower() in answer.headers), "")
    if not text or len(text) > MAX_HEADER_CHAIN:
        raise FetchError(
            f"{source.base} gives no issuer chain",
            why=f"the header {names[0]} is missing" if not text else f"the header {names[0]} is too long",
            remedy="check that a proxy does not drop headers, and that it is a service of collateral",
        )
    return decode_chain(text)


def _der(body: bytes) -> bytes:
    """Return a revocation list as DER. PCS sends DER; a PCCS sends DER as hexadecimal text."""
    text = body.strip()
    return bytes.fromhex(text.decode()) if len(text) % 2 == 0 and re.fullmatch(rb"[0-9a-fA-F]+", text) else body
