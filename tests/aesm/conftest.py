"""The recorded bytes of Intel's client and server, and a service over a simulated quoting enclave."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest

from confcom.aesm.session import RequestReceived, ServerSession
from confcom.simulation.platform import SimulatedPlatform
from testkit.simulated_service import answer

VECTORS = Path(__file__).parent.parent / "vectors" / "aesm"


@pytest.fixture(scope="session")
def vector() -> Callable[[str], bytes]:
    return lambda name: bytes.fromhex((VECTORS / f"{name}.hex").read_text().strip())


@pytest.fixture(scope="session")
def quoting_enclave():
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return SimulatedPlatform.create(bytes(32), now).quoting_enclave()


@pytest.fixture(scope="session")
def serve(quoting_enclave):
    """A whole service, without I/O: one connection's bytes in, the answer's bytes out (none: closed)."""

    def serve_connection(data: bytes) -> bytes:
        session = ServerSession()
        event = session.receive(data)
        if not isinstance(event, RequestReceived):
            return b""
        return session.respond(answer(quoting_enclave, event.request))

    return serve_connection
