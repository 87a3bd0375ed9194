"""Getting a plugin's inventory by HTTP."""

import asyncio

import pytest

from confcom.controller.limits_and_deadlines import INVENTORY_BYTES
from confcom.controller.plugins.inventory_client import InventoryClient
from confcom.errors import MalformedError, UnavailableError

DOCUMENT = b'{"version": 1}'


@pytest.fixture
async def answering():
    """Serve these bytes to whoever connects, and return the port."""
    servers: list[asyncio.Server] = []

    async def serve(answer):
        async def handle(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        servers.append(await asyncio.start_server(handle, "127.0.0.1", 0))
        port: int = servers[-1].sockets[0].getsockname()[1]
        return port

    yield serve
    for server in servers:
        server.close()


async def fetched(port):
    client = InventoryClient(port)
    try:
        return await client.fetch("127.0.0.1")
    finally:
        await client.close()


def http(body, status="200 OK", more=""):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


async def test_an_inventory_is_fetched(answering):
    for document in (DOCUMENT, b"x" * INVENTORY_BYTES):
        assert await fetched(await answering(http(document))) == document


@pytest.mark.parametrize(
    "answer",
    [
        http(b"x" * (INVENTORY_BYTES + 1)),
        http(b"", "404 Not Found"),
        http(b"", "302 Found", "Location: /elsewhere\r\n"),
    ],
)
async def test_another_answer_is_refused(answering, answer):
    with pytest.raises(MalformedError):
        await fetched(await answering(answer))


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", http(DOCUMENT)[:-5]])
async def test_a_broken_answer_is_none(answering, answer):
    with pytest.raises(UnavailableError) as error:
        await fetched(await answering(answer))
    assert error.value.error_code == "plugin-unavailable"
