"""A bare prototype on uvloop: accept, read, quote, answer. No limit, no deadline, no metric, no log, no fairness.

What the quote helper costs above this is the price of what it does. Usage: python -m bench.servers.prototype SOCKET DIR
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import cast

import uvloop

from confcom.aesm.messages import Response
from confcom.aesm.request_checks import Need, NeedIdentity, NeedQuoteSize, plan
from confcom.aesm.session import RequestReceived, ServerSession
from confcom.quote_provider.simulated import SimulatedQuoteProvider

BACKLOG = 4096
"""As the quote helper has it."""


class PrototypeProtocol(asyncio.Protocol):
    """One connection, as asyncio's documentation would write it."""

    def __init__(self, provider: SimulatedQuoteProvider) -> None:
        self._provider = provider
        self._session = ServerSession()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep whom to answer."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer at once and close."""
        event = self._session.receive(data)
        if isinstance(event, RequestReceived):
            planned = plan(event.request)
            response = self._complete(planned) if isinstance(planned, Need) else planned
            self._transport.write(self._session.respond(response))
        if event is not None:
            self._transport.close()

    def _complete(self, need: Need) -> Response:
        if isinstance(need, NeedIdentity):
            identity = self._provider.identity()
            return need.answer(identity.target_info, identity.pub_key_id)
        if isinstance(need, NeedQuoteSize):
            return need.answer(self._provider.quote_size())
        result = self._provider.quote(need.report, need.qe_report_info)
        return need.answer(result.quote, result.qe_report_info)


async def serve(path: Path, state_dir: Path) -> None:
    """Serve until cancelled."""
    provider = SimulatedQuoteProvider.open(state_dir)
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: PrototypeProtocol(provider), path, backlog=BACKLOG)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
