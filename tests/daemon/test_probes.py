import asyncio
import contextlib
import errno
import itertools
import json
import re
import select
import socket
import stat
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter

from confcom.daemon import probe_server
from confcom.daemon.probe_server import (
    ACCEPTS_PER_SLICE,
    DEADLINE_SECONDS,
    JSON,
    LARGE_BYTES_PER_SLICE,
    MAX_ADDRESSES,
    MAX_HELD,
    MAX_REQUEST_BYTES,
    PROBE_SOCKET_MODE,
    RECENT_SECONDS,
    RENDERING_SECONDS,
    SLICE_SECONDS,
    SMALL_BYTES,
    ProbeAddress,
    ProbeResponse,
    ProbeServer,
    _Connection,
    listen,
    serve_probes,
    standard_routes,
)
from confcom.daemon.readiness_log import NotReady
from confcom.errors import SettingsError, UnavailableError
from testkit.expected_errors import raises
from testkit.passing_descriptors import LingeringSockets, pass_descriptors

LOCAL = ProbeAddress("127.0.0.1", 0)
LIVE = {"/livez": lambda: ProbeResponse(b"ok\n")}


@pytest.fixture
def readiness():
    return SimpleNamespace(problem=NotReady("starting", code="starting"))


@pytest.fixture
async def served(readiness):
    """Start a probe server on a free port; yield the server and its address."""
    registry = CollectorRegistry()
    Counter("quotes", "made", registry=registry).inc(3)
    routes = standard_routes(lambda: readiness.problem, registry) | {
        "/inventory": lambda: ProbeResponse(json.dumps({"epc": 1}).encode(), content_type=JSON),
        "/broken": Mock(side_effect=RuntimeError("boom")),
    }
    async with serving(routes, max_held=4) as one:
        yield one


@pytest.fixture
def address(served):
    return served[1]


@contextlib.asynccontextmanager
async def serving(routes=LIVE, **bounds):
    listener = listen(LOCAL)
    server = ProbeServer(routes, listener, **bounds)
    try:
        yield server, ProbeAddress("127.0.0.1", listener.getsockname()[1])
    finally:
        server.close()


async def talk(address, request):
    if address.path is None:
        reader, writer = await asyncio.open_connection(address.host, address.port)
    else:
        reader, writer = await asyncio.open_unix_connection(address.path)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def get(address, path):
    head, _, body = (await talk(address, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())).partition(b"\r\n\r\n")
    return int(head.split()[1]), body


async def test_liveness_readiness_metrics_and_extra_routes(address, readiness):
    assert await get(address, "/livez") == (200, b"ok\n")
    readiness.problem = NotReady("no quoting enclave yet", code="no-qe")
    assert await get(address, "/readyz") == (503, b"not ready: no quoting enclave yet\n")
    readiness.problem = None
    await asyncio.sleep(2 * SLICE_SECONDS)
    assert await get(address, "/readyz?verbose=1") == (200, b"ok\n")
    status, body = await get(address, "/metrics")
    assert status == 200
    assert b"quotes_total 3.0" in body
    answer = await talk(address, b"GET /inventory HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: application/json\r\n" in answer
    assert answer.endswith(b'\r\n\r\n{"epc": 1}')
    double = await talk(address, b"GET /livez HTTP/1.1\r\n\r\nGET /livez HTTP/1.1\r\n\r\n")
    assert double.count(b"200 OK") == 1, "of two requests at once one is answered"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST /livez HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /nothing HTTP/1.1\r\n\r\n", b"404"),
        (b"GET livez HTTP/1.1\r\n\r\n", b"404"),
        (b"GET  /livez HTTP/1.1\r\n\r\n", b"404"),
        (b"\r\n\r\n", b"404"),
        (b"\xff\xfe\x00\r\n\r\n", b"404"),
        (b"GET /" + b"a" * MAX_REQUEST_BYTES + b" HTTP/1.1\r\n\r\n", b""),
        (b"GET /livez HTTP/1.1\r\nX: " + b"a" * MAX_REQUEST_BYTES, b""),
        (b"GET /broken HTTP/1.1\r\n\r\n", b"500"),
    ],
)
async def test_bad_requests_get_their_status_and_the_server_lives(address, request_bytes, status, caplog):
    answer = await talk(address, request_bytes)
    if status == b"500":
        await asyncio.sleep(2 * SLICE_SECONDS)
        assert (await get(address, "/broken"))[0] == 500
        assert [record.route for record in caplog.records] == ["/broken"], "it is logged once"
    assert answer.split()[1:2] == ([status] if status else [])
    assert (await get(address, "/livez"))[0] == 200


async def test_who_sends_byte_by_byte_is_read_at_a_bounded_rate(served, monkeypatch):
    _, address = served
    reads, slices = [], []
    receive, begin = _Connection._receive, ProbeServer._begin_slice
    monkeypatch.setattr(_Connection, "_receive", lambda self: (reads.append(1), receive(self))[1])
    monkeypatch.setattr(ProbeServer, "_begin_slice", lambda self: (slices.append(1), begin(self)))
    loop = asyncio.get_running_loop()
    clients = [socket.create_connection((address.host, address.port)) for _ in range(4)]
    try:
        for byte in b"GET /livez HTTP/1.1\r\nX: " + 500 * b"a" + b"\r\n\r\n":
            for client in clients:
                client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert len(reads) <= len(clients) * (len(slices) + 1)
        for client in clients:
            client.setblocking(False)
            assert (await loop.sock_recv(client, 1000)).endswith(b"ok\n")
    finally:
        for client in clients:
            client.close()


class HeldSlices:
    """A server's event loop in which a test decides when a time slice of the server ends."""

    def __init__(self, server):
        self._loop = server._loop
        self.end = lambda: None
        server._loop = self

    def __getattr__(self, name):
        return getattr(self._loop, name)

    def call_later(self, delay, callback):
        assert delay == SLICE_SECONDS
        self.end = callback
        return self._loop.call_later(3600, callback)

    async def settle(self):
        for _ in range(20):
            await asyncio.sleep(0.001)

    async def advance(self):
        self.end()
        await self.settle()


HALF = b"GET /livez HTTP/1.1\r\n"


def ask_at_once(address, count, source="127.0.0.1", request=b"GET /livez HTTP/1.1\r\n\r\n"):
    """Open `count` connections and send a request on each; the kernel holds them until the server accepts."""
    clients = []
    for _ in range(count):
        client = socket.socket()
        client.bind((source, 0))
        client.connect((address.host, address.port))
        client.sendall(request)
        client.setblocking(False)
        clients.append(client)
    return clients


def received(client):
    """Bytes that have arrived; b"" at the end or after a reset, and None if no bytes have arrived."""
    try:
        return client.recv(1 << 20)
    except BlockingIOError:
        return None
    except ConnectionResetError:
        return b""
    finally:
        client.close()


async def test_of_many_who_hold_connections_the_heaviest_user_loses():
    async with serving(max_held=4) as (server, address):
        slices = HeldSlices(server)
        quiet = ask_at_once(address, 1, "127.0.0.2", HALF)
        heavy = ask_at_once(address, 2, "127.0.0.3", HALF)
        rare = ask_at_once(address, 2, "127.0.0.4", HALF)
        await slices.settle()
        probes = ask_at_once(address, 10, "127.0.0.3")
        await slices.settle()
        assert all(received(probe).endswith(b"ok\n") for probe in probes), "what is complete needs no place"
        assert received(heavy.pop(0)) == b"", "one too many: the oldest of those who hold most"
        newest = ask_at_once(address, 1, "127.0.0.3", HALF)
        await slices.settle()
        held = [*quiet, *heavy, *rare, *newest]
        for client in held:
            with contextlib.suppress(ConnectionError):
                client.sendall(b"\r\n")
        await slices.advance()
        assert [received(client) == b"" for client in held] == [False, True, False, False, False]


async def test_uses_are_forgotten_after_a_time_and_bounded(monkeypatch):
    now = 100.0
    async with serving(clock=lambda: now) as (server, address):
        slices = HeldSlices(server)
        clients = ask_at_once(address, 3, "127.0.0.2", HALF)
        await slices.settle()
        assert server._uses == {"127.0.0.2": 3}
        now += RECENT_SECONDS
        await slices.advance()
        assert not server._uses
        server._uses.update({f"10.0.0.{number}": 1 for number in range(MAX_ADDRESSES)})
        clients += ask_at_once(address, 1, "127.0.0.2", HALF)
        await slices.settle()
        assert server._uses == {"127.0.0.2": 1}
        for client in clients:
            client.close()


async def test_large_pages_have_a_share_and_probes_go_first():
    page = b"x" * (LARGE_BYTES_PER_SLICE // 4)
    routes = LIVE | {"/large": lambda: ProbeResponse(page)}
    large = b"GET /large HTTP/1.1\r\n\r\n"
    async with serving(routes) as (server, address):
        slices = HeldSlices(server)
        clients = ask_at_once(address, MAX_HELD, "127.0.0.2", large)
        await slices.settle()
        clients += ask_at_once(address, 1, "127.0.0.3", large)
        (probe,) = ask_at_once(address, 1, "127.0.0.2")
        await slices.settle()
        assert received(probe).endswith(b"ok\n")
        answered = [bool(select.select([client], [], [], 0)[0]) for client in clients]
        assert sum(answered) == 4
        assert not answered[-1]
        await slices.advance()
        assert received(clients[-1]), "it has used least"
        for client in clients[:-1]:
            client.close()


async def test_a_flood_of_connections_is_accepted_in_bounded_steps():
    async with serving() as (server, address):
        slices = HeldSlices(server)
        clients = ask_at_once(address, 3 * ACCEPTS_PER_SLICE)
        for step in range(1, 4):
            await slices.settle()
            answered = [client for client in clients if select.select([client], [], [], 0)[0]]
            assert len(answered) == step * ACCEPTS_PER_SLICE
            slices.end()
        for client in clients:
            client.close()


async def test_without_a_descriptor_it_tries_once_in_a_slice():
    async with serving() as (server, address):
        slices, listener = HeldSlices(server), server._listener
        accept = Mock(side_effect=OSError(errno.EMFILE, "Too many open files"))
        server._listener = SimpleNamespace(accept=accept, fileno=listener.fileno)
        (client,) = ask_at_once(address, 1)
        await slices.settle()
        assert accept.call_count == 1
        server._listener = listener
        await slices.advance()
        assert received(client).endswith(b"ok\n")


@pytest.mark.parametrize(("size", "seconds"), [(0, SLICE_SECONDS), (SMALL_BYTES, RENDERING_SECONDS)])
async def test_a_page_is_rendered_once_in_its_time(size, seconds):
    now, renderings = 100.0, itertools.count(1)

    def render():
        return ProbeResponse(b"%d" % next(renderings) + bytes(size))

    async with serving({"/count": render}, clock=lambda: now) as (_, address):
        pages = await asyncio.gather(*(get(address, "/count") for _ in range(30)))
        now += seconds * 0.99
        assert {*pages, await get(address, "/count")} == {(200, b"1" + bytes(size))}
        now += seconds * 0.01
        assert await get(address, "/count") == (200, b"2" + bytes(size))


async def test_an_unread_page_is_dropped_at_its_deadline():
    now, text = 100.0, bytes(1 << 20)
    async with serving({"/large": lambda: ProbeResponse(text)}, clock=lambda: now) as (server, address):
        slices = HeldSlices(server)
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        client.connect((address.host, address.port))
        client.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        await slices.settle()
        now += DEADLINE_SECONDS - 0.1
        await slices.advance()
        assert len(server._held) == 1
        now += 0.1
        await slices.advance()
        assert not server._held
        with pytest.raises(ConnectionResetError):  # noqa: PT012 # reads arrived bytes first
            while client.recv(1 << 20):
                pass
        client.close()


async def test_a_large_page_arrives_whole_whoever_reads_slowly(short_dir):
    text, address = bytes(range(256)) * 20_000, ProbeAddress(path=short_dir / "probe")
    with serve_probes({"/large": lambda: ProbeResponse(text)}, address):
        reader, writer = await asyncio.open_unix_connection(address.path)
        writer.write(b"GET /large HTTP/1.1\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert f"Content-Length: {len(text)}".encode() in head
        await asyncio.sleep(0)
        assert await reader.read() == text
        writer.close()


@pytest.mark.parametrize("sent", [b"", HALF])
async def test_an_incomplete_request_is_closed_at_its_deadline(sent, monkeypatch):
    monkeypatch.setattr(probe_server, "DEADLINE_SECONDS", 0.01)
    with serve_probes(LIVE, LOCAL) as address:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(sent)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()


@pytest.mark.usefixtures("refusal")
def test_a_client_of_a_unix_socket_can_pass_no_descriptors(short_dir):
    address = ProbeAddress(path=short_dir / "probe.sock")
    with listen(address), socket.socket(socket.AF_UNIX) as client, LingeringSockets() as sockets:
        client.connect(str(address.path))
        assert not pass_descriptors(client, b"GET", [sockets.make()])


@pytest.mark.parametrize(
    "text",
    [*("", "8080", "x:", "x:x", "x:65536", "x:-1", "::1:80", "[::1:80", "::1]:80", "unix:", "x:²", "x:" + "9" * 5000)],
)
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match=re.escape(text or "it must be")):
        ProbeAddress.parse(text)


async def test_addresses(short_dir):
    for text in ("127.0.0.1:80", "[::1]:80", ":0", "localhost:65535", "unix:/run/x"):
        assert str(ProbeAddress.parse(text)) == text
    with serve_probes(LIVE, None) as address:
        assert address is None
    for host in ("", "localhost"):
        with serve_probes(LIVE, ProbeAddress(host, 0)) as address:
            assert await get(ProbeAddress("localhost", address.port), "/livez") == (200, b"ok\n")
    path = ProbeAddress.parse(f"unix:{short_dir}/probe.sock")
    with serve_probes(LIVE, path) as address:
        assert address == path
        assert stat.S_IMODE(path.path.stat().st_mode) == PROBE_SOCKET_MODE
        with serve_probes(LIVE, path):
            assert await get(path, "/livez") == (200, b"ok\n"), "an earlier instance's socket is replaced"
        path.path.write_text("precious")
    assert path.path.read_text() == "precious"


def test_an_address_that_cannot_be_is_told(short_dir):
    file = short_dir / "file"
    file.write_text("")
    with raises("probe-address-not-available", UnavailableError, naming=str(file)):
        listen(ProbeAddress(path=file))
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with raises("probe-address-not-available", UnavailableError, naming=f"127.0.0.1:{taken}"):
            listen(ProbeAddress("127.0.0.1", taken))
    with raises("probe-host-unknown", SettingsError):
        listen(ProbeAddress("a host", 0))


@given(st.text())
def test_any_text_is_an_address_or_explained(text):
    try:
        address = ProbeAddress.parse(text)
    except ValueError:
        return
    assert ProbeAddress.parse(str(address)) == address


@given(st.binary())
async def test_any_request_head_gets_an_answer(head):
    async with serving() as (server, _):
        assert 200 <= int(server.answer(head).split()[1]) < 500
