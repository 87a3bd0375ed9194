"""Access to the API server: login with lightkube, bounded requests, and informers that list and watch objects."""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from lightkube import KubeConfig
from lightkube.config import client_adapter
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError
from msgspec import Raw, Struct, field

from confcom.controller.metrics import ControllerMetrics
from confcom.daemon.backoff import retry_pause
from confcom.errors import SettingsError, UnavailableError
from confcom.kubernetes.objects import KubernetesObject, name_of, number, text

ANSWER_BYTES = 10 * 1024 * 1024
"""Read limit of an answer, and of an event of a watch. A larger page is requested again with half as many objects.
By default, etcd accepts objects of 1.5 MiB. As JSON this is 9 MiB if all characters are `<`: Go writes `\\u003c`."""
REQUEST_SECONDS = 15.0
"""Timeout of a request to the API server. A page of a list takes 0.2 s. The API server's timeout is 60 s."""
QUIET_SECONDS = 75.0
"""Seconds without an event after which a watch is restarted. The API server sends a bookmark each minute."""
GATHER_SECONDS = 0.5
"""Pause of a watch after an event that it had to wait for. Events that arrive in the pause are read together,
which takes a third of the CPU per event. 5,000 kubelets send 17 reports per second."""
WAITED_SECONDS = 0.005
"""If a read of a watch takes longer, it waited for an event. Other reads of events take a millisecond."""

PAGE = 250
"""Number of objects (nodes or our Pods) in a page of a list. A page of nodes takes 3 MB (12 kB per node)."""
SHORT_WATCH_SECONDS = 10.0
"""A pause follows a watch that ends sooner. An API server lets a watch last for at least half an hour."""

_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}  # a compressed answer could have any size
_WATCH = {"watch": "true", "allowWatchBookmarks": "true"}
_logger = logging.getLogger(__name__)
GONE, CONFLICT, NOT_FOUND, TOO_MANY, INTERNAL = 410, 409, 404, 429, 500


class RelistError(UnavailableError):
    """A list or a watch cannot continue: its version has expired, or the answer is not the expected JSON."""

    error_code = "api-server-unreadable"


class TooLargeError(RelistError):
    """An answer, or an event of a watch, is larger than the read limit."""


class ConflictError(UnavailableError):
    """The object of a request has changed since it was read, or no longer exists."""

    error_code = "object-changed"


class _ListMetadata(Struct):
    version: str = field(name="resourceVersion", default="")
    token: str = field(name="continue", default="")


class _Page(Struct):
    metadata: _ListMetadata
    items: list[Raw] | None = None


class _Event(Struct):
    type: str
    object: dict[str, Any]


_PAGE, _EVENT = msgspec.json.Decoder(_Page), msgspec.json.Decoder(_Event)


def connect(kubeconfig: Path | None) -> httpx2.AsyncClient:
    """Return a client for the API server that the kubeconfig file names, or else for this Pod's cluster."""
    try:
        found = KubeConfig.from_file(kubeconfig) if kubeconfig else KubeConfig.from_service_account()
        if (config := found.get()) is None:
            raise ConfigError("it names no current context")
        # trust_env is off: proxies in the environment are for traffic that leaves the cluster, not for this client.
        user = config.user or User()
        verify = client_adapter.verify_cluster(config.cluster, user, config.abs_file, trust_env=False)
        transport: Any = httpx2.AsyncHTTPTransport(verify=verify, trust_env=False)  # the annotation lacks asyncio
        timeout = httpx2.Timeout(REQUEST_SECONDS)
        parameters = client_adapter.ConnectionParams(timeout, trust_env=False, transport=transport)
        return client_adapter.AsyncClient(config, parameters)
    except (ConfigError, OSError, ValueError, LookupError, AssertionError) as error:
        raise SettingsError(
            "the controller does not find the API server",
            error_code="no-api-server",
            why=str(error) or type(error).__name__,
            remedy="run it in a Pod with its ServiceAccount, or give --kubeconfig a file",
        ) from error


@dataclass(frozen=True, slots=True)
class Connection:
    """HTTP requests to the API server. All methods raise UnavailableError, or a subclass."""

    client: httpx2.AsyncClient

    async def request(
        self, method: str, path: str, query: Mapping[str, str], document: KubernetesObject | None = None
    ) -> bytearray:
        content = msgspec.json.encode(document) if document else None
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {**_HEADERS, "Content-Type": kind} if document else _HEADERS
        with translated():
            async with self.client.stream(method, path, params=query, headers=headers, content=content) as response:
                return await _body(response)

    async def list(self, path: str, query: Mapping[str, str], limit: int, take: Callable[[Raw], None]) -> str:
        """Call `take` with each object, and return the list's version. At most `limit` objects are kept."""
        token = ""
        while True:
            page = {**query, "limit": str(limit)} | ({"continue": token} if token else {})
            try:
                version, token = _take(await self.request("GET", path, page), take)
            except TooLargeError:
                if limit == 1:
                    raise
                limit //= 2  # a continue token contains no limit, so the limit may change
                continue
            if not token:
                return version

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[tuple[str, KubernetesObject], None]:
        """Yield each event's type (such as ADDED) and object, until the watch ends or is quiet for long."""
        query, timeout = {**query, **_WATCH}, httpx2.Timeout(REQUEST_SECONDS, read=None)
        with translated():
            async with self.client.stream("GET", path, params=query, headers=_HEADERS, timeout=timeout) as response:
                if not response.is_success:
                    await _body(response)
                async with contextlib.aclosing(response.aiter_bytes()) as parts:
                    async for line in _lines(parts):
                        event = _EVENT.decode(line)
                        if event.type == "ERROR":
                            what = f"the API server ended a watch with {number(event.object, 'code')}"
                            raise RelistError(what, error_code="watch-expired", why=text(event.object, "message"))
                        yield event.type, event.object


async def _lines(parts: AsyncIterator[bytes]) -> AsyncIterator[bytearray]:
    """Yield the lines of a watch's answer; the last line may be incomplete."""
    line, clock = bytearray(), asyncio.get_running_loop().time
    while True:
        begun = clock()
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                part = await anext(parts)
        except (TimeoutError, StopAsyncIteration):
            break
        waited = clock() - begun > WAITED_SECONDS
        # Split bytes, not text: str.splitlines() would also split at U+0085, which JSON need not escape.
        *ends, rest = part.split(b"\n")
        for end in ends:
            line += end
            yield line
            line = bytearray()
        line += rest
        _require_bounded(line)
        if waited:
            await asyncio.sleep(GATHER_SECONDS)
    if line:
        yield line


def _take(answer: bytearray, take: Callable[[Raw], None]) -> tuple[str, str]:
    with translated():
        page = _PAGE.decode(answer)
        for thing in page.items or ():
            take(thing)
    return page.metadata.version, page.metadata.token


async def _body(response: httpx2.Response) -> bytearray:
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        _require_bounded(body)
    if response.is_success:
        return body
    message = ""
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # a proxy's answer
        message = text(msgspec.json.decode(body, type=dict), "message")
    status, why = response.status_code, message or response.reason_phrase
    what = f"the API server answered {status}"
    if status == GONE:
        raise RelistError(what, error_code="watch-expired", why=why)
    if status in {CONFLICT, NOT_FOUND}:
        raise ConflictError(what, why=why)
    if status < INTERNAL and status != TOO_MANY:
        raise UnavailableError(what, error_code="api-server-refused", why=why)
    raise UnavailableError(what, error_code="api-server-unavailable", why=why)


def _require_bounded(body: bytearray) -> None:
    if len(body) > ANSWER_BYTES:
        raise TooLargeError("the API server's answer is too large", why=f"{ANSWER_BYTES} bytes are the limit")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn errors of msgspec, the HTTP library and lightkube (also of its login programs) into our errors."""
    try:
        yield
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise RelistError("the API server's answer cannot be read", why=str(error)) from error
    except (httpx2.HTTPError, httpx2.StreamError, OSError, ConfigError, LookupError) as error:
        why = str(error) or type(error).__name__
        raise UnavailableError(
            "the API server does not answer", error_code="api-server-unavailable", why=why
        ) from error


@dataclass(slots=True)
class Informer:
    """Lists and watches objects of one kind; calls `take` for existing objects, `gone` for removed objects.

    `known` has the objects that were taken and are not gone, keyed by name. `changed` follows each change.
    """

    name: str
    path: str
    listed: str
    """The label selector of the list request; empty to list all objects."""
    watched: str
    take: Callable[[KubernetesObject], None]
    gone: Callable[[str], None]
    known: Mapping[str, object]
    connection: Connection
    metrics: ControllerMetrics
    changed: Callable[[], None]
    clock: Callable[[], float]
    jitter: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    synced: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    problem: str = ""
    """The reason why the last list or watch failed; empty after a success."""
    last_contact: float = dataclasses.field(init=False)
    _version: str = ""

    def __post_init__(self) -> None:
        self.last_contact = self.clock()

    async def run(self) -> None:
        short = 0
        while True:
            begun = self.clock()
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except UnavailableError as error:
                if isinstance(error, RelistError):
                    self._version = ""  # the next watch must not begin with the same event
                self.problem = str(error)
                self.metrics.api_failures.labels(error.error_code).inc()
                failure = {"feed": self.name, "reason": self.problem, "code": error.error_code}
                _logger.warning("the API server cannot be followed", extra=failure)
            short = short + 1 if self.clock() - begun < SHORT_WATCH_SECONDS else 0
            if short:
                await self.sleep(retry_pause(short - 1, self.jitter))

    async def _list(self) -> None:
        names: set[str] = set()

        def take(raw: Raw) -> None:
            thing = msgspec.json.decode(raw, type=dict)
            names.add(name_of(thing))
            self.take(thing)

        query = {"labelSelector": self.listed}
        self._version = await self.connection.list(self.path, query, PAGE, take)
        for name in self.known.keys() - names:
            self.gone(name)
        self.synced.set()
        self._follow()

    async def _watch(self) -> None:
        query = {"resourceVersion": self._version, "labelSelector": self.watched}
        async for kind, thing in self.connection.watch(self.path, query):
            if kind == "DELETED":
                self.gone(name_of(thing))
            elif kind != "BOOKMARK":
                with translated():
                    self.take(thing)
            self._version = text(thing, "metadata", "resourceVersion") or self._version
            self._follow()
        self._follow()  # the watch was accepted, and has ended or was quiet

    def _follow(self) -> None:
        self.last_contact, self.problem = self.clock(), ""
        self.changed()
