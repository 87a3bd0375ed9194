import asyncio
import http.client
import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter

from confcom.daemon.probes import (
    JSON,
    MAX_REQUEST_BYTES,
    ProbeAddress,
    ProbeResponse,
    ProbeServer,
    Readiness,
    standard_routes,
)
from confcom.errors import SettingsError, UnavailableError

LOCAL = ProbeAddress("127.0.0.1", 0)


@pytest.fixture
def readiness():
    return Readiness()


@pytest.fixture
async def served(readiness):
    """A probe server on a free port: (server, address)."""
    registry = CollectorRegistry()
    Counter("quotes", "made", registry=registry).inc(3)

    def broken():
        raise RuntimeError("boom")

    routes = standard_routes(readiness, registry) | {
        "/inventory": lambda: ProbeResponse(json.dumps({"epc": 1}).encode(), content_type=JSON),
        "/broken": broken,
    }
    server = ProbeServer(routes, deadline=20, max_connections=4)
    address = await server.start(LOCAL)
    yield server, address
    await server.close()


async def talk(address, request):
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def get(address, path):
    head, _, body = (await talk(address, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())).partition(b"\r\n\r\n")
    return int(head.split()[1]), body


async def test_liveness_readiness_metrics_and_extra_routes(served, readiness):
    _, address = served
    assert await get(address, "/livez") == (200, b"ok\n")
    readiness.set_unready("no quoting enclave yet")
    assert await get(address, "/readyz") == (503, b"not ready: no quoting enclave yet\n")
    readiness.set_ready()
    assert readiness.ready
    assert await get(address, "/readyz?verbose=1") == (200, b"ok\n")
    status, body = await get(address, "/metrics")
    assert status == 200
    assert b"quotes_total 3.0" in body
    assert await get(address, "/inventory") == (200, b'{"epc": 1}')


async def test_a_standard_http_client_understands(served):
    _, address = served

    def ask():
        connection = http.client.HTTPConnection(address.host, address.port)
        connection.request("GET", "/inventory")
        response = connection.getresponse()
        result = response.status, response.getheader("Content-Type"), response.read()
        connection.close()
        return result

    assert await asyncio.to_thread(ask) == (200, "application/json", b'{"epc": 1}')


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST /livez HTTP/1.1\r\n\r\n", 405),
        (b"HEAD /livez HTTP/1.0\r\n\r\n", 405),
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
        (b"GET /livez HTTP/2\r\n\r\n", 400),
        (b"GET livez HTTP/1.1\r\n\r\n", 400),
        (b"GET  /livez HTTP/1.1\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\xff\xfe\x00\r\n\r\n", 400),
        (b"GET /" + b"a" * MAX_REQUEST_BYTES + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nX: " + b"a" * MAX_REQUEST_BYTES, 431),
        (b"GET /broken HTTP/1.1\r\n\r\n", 500),
    ],
)
async def test_bad_requests_get_their_status_and_the_server_lives(served, request_bytes, status):
    _, address = served
    answer = await talk(address, request_bytes)
    assert int(answer.split()[1]) == status
    assert (b"Allow: GET" in answer) is (status == 405)
    assert (await get(address, "/livez"))[0] == 200


async def test_byte_by_byte_and_pipelined(served):
    _, address = served
    reader, writer = await asyncio.open_connection(address.host, address.port)
    for byte in b"GET /livez HTTP/1.1\r\n\r\n":
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    assert (await reader.read()).endswith(b"ok\n")
    writer.close()
    double = await talk(address, b"GET /livez HTTP/1.1\r\n\r\nGET /livez HTTP/1.1\r\n\r\n")
    assert double.count(b"200 OK") == 1


async def test_over_the_cap_the_oldest_goes(served):
    server, address = served
    idle = [await asyncio.open_connection(address.host, address.port) for _ in range(server.max_connections)]
    assert (await get(address, "/livez"))[0] == 200
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await idle[0][0].readexactly(1)
    idle[1][1].write(b"GET /livez HTTP/1.1\r\n\r\n")
    assert (await idle[1][0].read()).endswith(b"ok\n")
    for _, writer in idle:
        writer.close()


async def test_a_silent_peer_is_closed_at_its_deadline():
    server = ProbeServer({}, deadline=0.01)
    address = await server.start(LOCAL)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()
    await server.close()


async def test_unix_address(short_dir, readiness):
    server = ProbeServer(standard_routes(readiness, CollectorRegistry()))
    address = ProbeAddress.parse(f"unix:{short_dir}/probe.sock")
    assert await server.start(address) == address
    reader, writer = await asyncio.open_unix_connection(address.path)
    writer.write(b"GET /livez HTTP/1.1\r\n\r\n")
    assert (await reader.read()).endswith(b"ok\n")
    writer.close()
    await server.close()
    assert not address.path.exists()


async def test_a_taken_port_and_an_unknown_host_are_explained():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UnavailableError, match=f"127.0.0.1:{port}") as caught:
            await ProbeServer({}).start(ProbeAddress("127.0.0.1", port))
        assert "in use" in caught.value.why
    with pytest.raises(SettingsError, match="probes cannot be answered at") as caught:
        await ProbeServer({}).start(ProbeAddress("a host", 0))
    assert "not an address" in caught.value.why


@pytest.mark.parametrize("text", ["127.0.0.1:80", "[::1]:80", ":0", "localhost:65535", "unix:/run/x"])
def test_addresses_read_and_show_the_same(text):
    assert str(ProbeAddress.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "80", "h:", "h:x", "h:-1", "h:65536", "::1:80", "unix:", "h:²", "h:" + "9" * 5000]
)
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match=r"must be|needs"):
        ProbeAddress.parse(text)


@given(st.text())
def test_any_text_is_an_address_or_explained(text):
    try:
        address = ProbeAddress.parse(text)
    except ValueError:
        return
    assert ProbeAddress.parse(str(address)) == address


@given(st.binary())
def test_any_request_head_gets_an_answer(head):
    response, _ = ProbeServer({"/livez": lambda: ProbeResponse(b"ok\n")}).answer(head)
    assert 200 <= response.status < 500
