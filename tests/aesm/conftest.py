"""The recorded bytes of Intel's client and server, and a service over a simulated quoting enclave."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest

from confcom.aesm.answers import NeedIdentity, NeedQuote, NeedQuoteSize, plan
from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import Request, Response
from confcom.aesm.session import RequestReceived, ServerSession
from confcom.simulation.enclave import ReportRejectedError
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY

VECTORS = Path(__file__).parent.parent / "vectors" / "aesm"


@pytest.fixture(scope="session")
def vector() -> Callable[[str], bytes]:
    return lambda name: bytes.fromhex((VECTORS / f"{name}.hex").read_text().strip())


@pytest.fixture(scope="session")
def quoting_enclave():
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return SimulatedPlatform.create(bytes(32), now).quoting_enclave(DEFAULT_QE_IDENTITY)


@pytest.fixture(scope="session")
def serve(quoting_enclave):
    """A whole service, without I/O: one connection's bytes in, the answer's bytes out (none: closed)."""

    def answer(request: Request) -> Response:
        match plan(request):
            case NeedIdentity() as need:
                return need.answer(quoting_enclave.target_info, quoting_enclave.pub_key_id)
            case NeedQuoteSize() as need:
                return need.answer(quoting_enclave.quote_size)
            case NeedQuote() as need:
                try:
                    return need.answer(*quoting_enclave.quote(need.report, need.qe_report_info))
                except ReportRejectedError:
                    return need.reject_report(AesmErrorCode.INVALID_REPORT, quoting_enclave.quote_size)
            case response:
                return response

    def serve_connection(data: bytes) -> bytes:
        session = ServerSession()
        event = session.receive(data)
        return session.respond(answer(event.request)) if isinstance(event, RequestReceived) else b""

    return serve_connection
