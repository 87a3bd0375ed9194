"""Fetches collateral in four requests, limits time and size, and follows no redirect and no URL from a quote."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import httpx2

from confcom.collateral import fetch_errors
from confcom.collateral.detached_call import run_apart
from confcom.collateral.fetch_errors import FetchError
from confcom.collateral.source import Source
from confcom.errors import MalformedError, WrongTypeError, WrongValueError
from confcom.sgx.collateral_json import CRL_CHAIN, NUMBERS_CHAIN, QE_CHAIN, TCB_CHAINS, PlatformKind, decode_chain
from confcom.sgx.pck.chain import pck_ca
from confcom.sgx.signed_json import MAX_DOCUMENT_SIZE, MAX_INTEGER
from confcom.sgx.tee_type import TeeType
from confcom.verify.argument_types import boolean, number, time_limit
from confcom.verify.files import MAX_COLLATERAL_FILE_SIZE
from confcom.verify.prepared_collateral import Collateral, platform_kind
from confcom.verify.verifier import QuoteInput, bytes_of

FETCH_SECONDS: Final = 30.0
"""Time limit of all requests and retries together: a service needs less, and people would wait longer."""
CONNECT_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 0.5
"""Seconds between an attempt with a failure that may pass and the second, last attempt."""
MAX_HEADER_CHAIN: Final = 16 * 1024
"""Greatest length of an issuer chain in a header. Two percent-encoded certificates take 3 KiB."""
_CHUNK: Final = 64 * 1024


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
        quote: any form of QuoteInput, of SGX or TDX; only its TEE and its PCK certificate are read.
        source: INTEL_PCS, AZURE_CACHE, or another Source. After a failure that may pass, the set is fetched once more.
        early: fetch the early set (Intel: update=early), with the newest TCB recovery, not the standard set.
        evaluation: the TCB evaluation data number of the set to fetch.
        seconds: the time limit of all requests together, with the look-up of the host's name.

    Raises:
        FetchError: the service did not answer, refused the request, or sent no collateral for the quote's platform.
        MalformedError: the quote has no readable PCK certificate.
        SettingsError: an argument has a wrong type or value, or the source's address has no path for TDX; or an event
            loop is running.
    """
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        raise WrongValueError(
            "fetch_collateral would block the event loop",
            remedy="await fetch_collateral_async, or call it by asyncio.to_thread",
        )
    return run_apart(fetch_collateral_async(quote, source, early=early, evaluation=evaluation, seconds=seconds))


async def fetch_collateral_async(
    quote: QuoteInput,
    source: Source,
    *,
    early: bool = False,
    evaluation: int | None = None,
    seconds: float = FETCH_SECONDS,
) -> Collateral:
    """Fetch collateral as `fetch_collateral` does, but for asyncio programs."""
    require_set(source, early, evaluation)
    kind = platform_kind(bytes_of(quote))
    return await fetch_set(kind, source, early=early, evaluation=evaluation, seconds=seconds)


async def fetch_set(
    kind: PlatformKind,
    source: Source,
    check: Callable[[Collateral], None] = lambda _: None,
    *,
    early: bool,
    evaluation: int | None = None,
    seconds: float,
) -> Collateral:
    """Fetch a set that `check` accepts; fetch it once more after a FetchError that may pass."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + time_limit(seconds)
    async with _client(source) as client:
        requests = _Requests(client, source, deadline, kind, early, evaluation)
        try:
            return await requests.fetch(check)
        except FetchError as error:
            if error.error_code in fetch_errors.LASTING or loop.time() + RETRY_SECONDS >= deadline:
                raise
        await asyncio.sleep(RETRY_SECONDS)
        return await requests.fetch(check)


async def fetch_evaluation_numbers(tee: TeeType, source: Source, *, seconds: float) -> tuple[bytes, bytes]:
    """Return the signed list of all sets that a service has, and the chain of its signer; neither is checked."""
    deadline = asyncio.get_running_loop().time() + time_limit(seconds)
    async with _client(source) as client:
        requests = _Requests(client, source, deadline, PlatformKind(b"", "", tee), early=False, evaluation=None)
        url = f"{requests.documents}tcbevaluationdatanumbers"
        document, headers = await requests.get(url, {}, MAX_DOCUMENT_SIZE)
        return document, _chain(headers, source, NUMBERS_CHAIN)


def difference(collateral: Collateral, kind: PlatformKind, evaluation: int | None = None) -> str:
    """Return how collateral differs from what was asked for; empty if it does not."""
    documents = collateral.read()
    numbers = (documents.tcb_info.tcb_evaluation_data_number, documents.qe_identity.tcb_evaluation_data_number)
    if documents.tcb_info.tee is not kind.tee:
        return f"its TCB info is for {documents.tcb_info.tee.name}, not for {kind.tee.name}"
    if documents.tcb_info.fmspc != kind.fmspc:
        return f"its TCB info is for FMSPC {documents.tcb_info.fmspc.hex()}, not for {kind.fmspc.hex()}"
    if (issuer := pck_ca(documents.pck_crl.issuer)) != kind.ca:
        return f"its revocation list is of the {issuer} CA, not of the {kind.ca} CA"
    if numbers[0] != numbers[1]:
        return f"TCB info has the evaluation number {numbers[0]} and the QE identity {numbers[1]}"
    if evaluation is not None and numbers[0] != evaluation:
        return f"it has the evaluation number {numbers[0]}, and {evaluation} was asked for"
    return ""


def require_set(source: object, early: object, evaluation: object) -> None:
    if not isinstance(source, Source):
        raise WrongTypeError("the source", "a Source, such as INTEL_PCS", source)
    boolean("early", early)
    number("the evaluation number", evaluation, MAX_INTEGER)
    if early and evaluation is not None:
        raise WrongValueError("early and an evaluation number exclude each other", remedy="give one of them")


@dataclass(frozen=True, slots=True)
class _Requests:
    client: httpx2.AsyncClient
    source: Source
    deadline: float
    """The instant of the event loop's clock at which all requests end."""
    kind: PlatformKind
    early: bool
    evaluation: int | None

    async def fetch(self, check: Callable[[Collateral], None]) -> Collateral:
        source, ca = self.source, {"ca": self.kind.ca.lower(), "encoding": "der"}
        chosen = {"update": "early"} if self.early else {}
        if self.evaluation is not None:
            chosen = {"tcbEvaluationDataNumber": str(self.evaluation)}
        platform = {"fmspc": self.kind.fmspc.hex(), **chosen}
        tcb_info, tcb_headers = await self.get(f"{self.documents}tcb", platform, MAX_DOCUMENT_SIZE)
        identity, qe_headers = await self.get(f"{self.documents}qe/identity", chosen, MAX_DOCUMENT_SIZE)
        pck_crl, crl_headers = await self.get(f"{source.base}pckcrl", ca, MAX_COLLATERAL_FILE_SIZE)
        root_crl, _ = await self.get(source.root_crl, {}, MAX_COLLATERAL_FILE_SIZE)
        collateral = Collateral(
            tcb_info=tcb_info,
            tcb_info_issuer_chain=_chain(tcb_headers, source, *TCB_CHAINS),
            qe_identity=identity,
            qe_identity_issuer_chain=_chain(qe_headers, source, QE_CHAIN),
            pck_crl=_der(pck_crl),
            pck_crl_issuer_chain=_chain(crl_headers, source, CRL_CHAIN),
            root_ca_crl=_der(root_crl),
        )
        try:
            why = difference(collateral, self.kind, self.evaluation)
        except MalformedError as error:
            raise fetch_errors.unreadable(error, source.base) from error
        if why:
            raise fetch_errors.ANOTHER_SET.error(f"{source.base} served another set", why)
        check(collateral)
        return collateral

    @property
    def documents(self) -> str:
        return self.source.base_of(self.kind.tee)

    async def get(self, url: str, parameters: Mapping[str, str], limit: int) -> tuple[bytes, httpx2.Headers]:
        # Send the API key to the service only, not to the host of the root's revocation list.
        own = self.source.api_key and url.startswith((self.source.base, self.documents))
        headers = {"Ocp-Apim-Subscription-Key": self.source.api_key} if own else {}
        try:
            async with (
                asyncio.timeout_at(self.deadline),
                self.client.stream("GET", url, params=dict(parameters), headers=headers) as response,
            ):
                if response.status_code != httpx2.codes.OK:
                    raise fetch_errors.refusal(response, url)
                return await _body(response, url, limit), response.headers
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:  # OSError: a damaged record of TLS
            raise fetch_errors.failure(error, url) from error


async def _body(response: httpx2.Response, url: str, limit: int) -> bytes:
    # Nothing is decompressed: a small answer cannot become a large one.
    if (encoding := response.headers.get("Content-Encoding", "identity")) != "identity":
        raise fetch_errors.COMPRESSED.error(f"the answer of {url} cannot be read", encoding)
    data = bytearray()
    async for chunk in response.aiter_raw(_CHUNK):
        data += chunk
        if len(data) > limit:
            raise fetch_errors.TOO_LARGE.error(f"the answer of {url} has more than {limit} bytes")
    return bytes(data)


def _client(source: Source) -> httpx2.AsyncClient:
    try:
        context = ssl.create_default_context(cafile=None if source.ca_file is None else str(source.ca_file))
    except (OSError, ValueError) as error:
        raise fetch_errors.CA_FILE.error(f"{source.ca_file} holds no authority", str(error)) from error
    try:
        return httpx2.AsyncClient(
            verify=context,
            headers={"User-Agent": "confcom", "Accept-Encoding": "identity"},
            timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
            follow_redirects=False,
            trust_env=source.base.startswith("https:"),  # plain http is local and takes no proxy
        )
    except (ValueError, ImportError, httpx2.InvalidURL) as error:
        why = str(error).partition(". ")[0]
        raise fetch_errors.PROXY.error(f"{source.base} cannot be asked", why) from error


def _chain(headers: httpx2.Headers, source: Source, *names: str) -> bytes:
    text = next((headers[name] for name in names if name in headers), "")
    if not text or len(text) > MAX_HEADER_CHAIN:
        raise fetch_errors.CONTENT.error(
            f"{source.base} gives no issuer chain", f"{names[0]} has {len(text)} characters"
        )
    return decode_chain(text)


def _der(body: bytes) -> bytes:
    """Return a revocation list as DER. PCS sends DER; a PCCS sends DER as hexadecimal text."""
    text = body.strip()
    return bytes.fromhex(text.decode()) if len(text) % 2 == 0 and re.fullmatch(rb"[0-9a-fA-F]+", text) else body
