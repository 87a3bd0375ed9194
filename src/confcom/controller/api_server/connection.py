"""Sends requests to the API server, and reads answers and the lines of watches within limits.

A tenant decides what is in a Pod, so limits hold for what a well-behaved API server sends too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from typing import TypeVar

import httpx2
import msgspec
from lightkube.core.exceptions import ConfigError

from confcom.controller.api_server.decoding import message_of
from confcom.controller.api_server.errors import TooLargeError, error_of
from confcom.controller.limits_and_deadlines import ANSWER_BYTES, ANSWERS_AT_ONCE, QUIET_SECONDS, REQUEST_SECONDS
from confcom.errors import UnavailableError
from confcom.kubernetes.objects import KubernetesObject

T = TypeVar("T")

JSON, MERGE_PATCH = "application/json", "application/merge-patch+json"
NO_QUERY: Mapping[str, str] = {}
# A few compressed bytes could become any number.
_HEADERS = {"Accept": JSON, "Accept-Encoding": "identity"}


class Connection:
    """The API server's HTTP. All methods raise UnavailableError, or its subclass that says more.

    Args:
        client: knows the API server's address, and how to log in.
    """

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client
        self._reading = asyncio.Semaphore(ANSWERS_AT_ONCE)

    async def get(self, path: str, read: Callable[[bytearray], T], query: Mapping[str, str] = NO_QUERY) -> T:
        """Return what `read` makes of an answer; only so many are in memory at the same time."""
        async with self._reading:
            return read(await self._answer(path, query))

    async def send(
        self, method: str, path: str, document: KubernetesObject, content_type: str = JSON, **query: str
    ) -> None:
        """Send a document; what is answered is not looked at."""
        headers = _HEADERS | {"Content-Type": content_type}
        content = msgspec.json.encode(document)
        with _translated():
            async with self._client.stream(method, path, params=query, headers=headers, content=content) as response:
                await _require_success(response)
                async for _ in response.aiter_bytes():  # so that the connection can be used again
                    pass

    async def lines(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[bytearray, None]:
        """Yield the lines of a watch, until the API server ends it or there was nothing for QUIET_SECONDS.

        The last one may have been cut.
        """
        timeout = httpx2.Timeout(REQUEST_SECONDS, read=None)
        with _translated():
            async with self._client.stream(
                "GET", path, params=dict(query), headers=_HEADERS, timeout=timeout
            ) as response:
                await _require_success(response)
                line = bytearray()
                async with contextlib.aclosing(response.aiter_bytes()) as parts:
                    while part := await _next(parts):
                        # Not as text: its other ends of lines, such as U+0085, stand unescaped in strings of JSON.
                        *ends, rest = part.split(b"\n")
                        for end in ends:
                            line += end
                            yield line
                            line = bytearray()
                        line += rest
                        if len(line) > ANSWER_BYTES:
                            raise _too_large("an event")
                if line:
                    yield line

    async def _answer(self, path: str, query: Mapping[str, str]) -> bytearray:
        with _translated():
            async with self._client.stream("GET", path, params=dict(query), headers=_HEADERS) as response:
                await _require_success(response)
                return await _body(response)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()


async def _next(parts: AsyncIterator[bytes]) -> bytes:
    """Return the next part; empty if there is none for QUIET_SECONDS, or no more at all."""
    try:
        async with asyncio.timeout(QUIET_SECONDS):
            return await anext(parts, b"")
    except TimeoutError:
        return b""


async def _body(response: httpx2.Response) -> bytearray:
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > ANSWER_BYTES:
            raise _too_large("the answer")
    return body


async def _require_success(response: httpx2.Response) -> None:
    if not response.is_success:
        raise error_of(response.status_code, message_of(await _body(response)) or response.reason_phrase)


def _too_large(what: str) -> TooLargeError:
    return TooLargeError(
        "what the API server answered cannot be read", why=f"{what} has more than {ANSWER_BYTES} bytes"
    )


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Translate what the HTTP library raises, and lightkube, which logs in: also by what programs of others print."""
    try:
        yield
    except (httpx2.HTTPError, httpx2.StreamError, OSError, ConfigError, LookupError, ValueError) as error:
        raise UnavailableError(
            "the API server does not answer",
            error_code="api-server-unavailable",
            why=str(error) or type(error).__name__,
        ) from error
