"""A stand-in for Intel's aesmd that takes 2.5 ms for a call, one call after the other, as aesmd does.

One connection is served at a time, so that a client that sends only a header blocks all others, as it does with aesmd.
Usage: python -m bench.stand_in_aesmd SOCKET DIR
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from pathlib import Path

from confcom.aesm.messages import Request, Response
from confcom.aesm.request_checks import Need, plan
from confcom.aesm.session import RequestReceived, ServerSession
from confcom.quote_helper.quoting.service import answer_with, call_of
from confcom.quote_provider.base import QuoteProviderError
from confcom.quote_provider.simulated import SimulatedQuoteProvider

CALL_SECONDS = 0.0025
"""From the whole request to its answer: what Intel's takes for a quote (measured in simulation)."""
RECEIVE_BYTES = 65_536
BACKLOG = 128


def serve(path: Path, provider: SimulatedQuoteProvider) -> None:
    """Serve for ever."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(BACKLOG)
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(ConnectionError):
                serve_one(connection, provider)


def serve_one(connection: socket.socket, provider: SimulatedQuoteProvider) -> None:
    """Wait for one request, however long it takes, and answer it."""
    session = ServerSession()
    while data := connection.recv(RECEIVE_BYTES):
        event = session.receive(data)
        if isinstance(event, RequestReceived):
            connection.sendall(session.respond(_respond(event.request, provider)))
            return


def _respond(request: Request, provider: SimulatedQuoteProvider) -> Response:
    ends = time.perf_counter() + CALL_SECONDS
    need = plan(request)
    if not isinstance(need, Need):
        return need
    try:
        answer = answer_with(need, call_of(need, provider)())
    except QuoteProviderError as error:
        answer = need.refuse(error.code)
    time.sleep(max(0.0, ends - time.perf_counter()))
    return answer


if __name__ == "__main__":
    serve(Path(sys.argv[1]), SimulatedQuoteProvider.open(Path(sys.argv[2])))
