"""The blocking AESM client, and the driver of conversations in a thread."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import Final, TypeVar

from confcom import passed_descriptors
from confcom.aesm import conversation
from confcom.aesm.conversation import Conversation
from confcom.aesm.messages import AesmQuote, QuotingRequest, QuotingResponse, QuotingTarget
from confcom.aesm.session import ClientSession
from confcom.client.address import SocketClient
from confcom.client.errors import closed_error, connect_error, timeout_error
from confcom.errors import ConfcomError
from confcom.sgx.key_id import AttKeyId
from confcom.sgx.report import QeReportInfo, Report, TargetInfo

T = TypeVar("T")

RECEIVE_SIZE: Final = 16 * 1024
"""Maximum size of one recv call: more than any usual answer, so that most answers take one call."""

FULL_QUEUE_PAUSE_SECONDS: Final = 0.02
"""Pause between tries to connect while the backlog is full, when Linux' connect() fails at once (EAGAIN)."""


class AesmClient(SocketClient):
    """A client of an AESM service, with one connection per request. Threads may share a client: it keeps no connection.

    Args:
        socket_path: the service's socket; by default CONFCOM_AESM_SOCKET, else /var/run/aesmd/aesm.socket.
        timeout: maximum duration of one request in seconds.
        environ: where CONFCOM_AESM_SOCKET is looked up; by default os.environ.

    Raises:
        SettingsError: no unix socket can have this path (it is too long, or has a zero byte).
    """

    def init_quote(self) -> QuotingTarget:
        """Get the quoting enclave's target info and public key id.

        Raises:
            AesmError: the service refused the request. All methods may raise the errors listed here.
            UnavailableError: no service accepts connections, or the service does not answer in time.
            MalformedError: the answer violates AESM's protocol.
        """
        return self.converse(conversation.init_quote())

    def quote_size(self) -> int:
        """Get the exact size of a quote in bytes."""
        return self.converse(conversation.quote_size())

    def get_quote(self, report: Report, *, qe_report_info: QeReportInfo | None = None) -> AesmQuote:
        """Get a quote of a report.

        Args:
            report: a report that was made for the target info of `init_quote`.
            qe_report_info: a nonce and the target info of the enclave that will check the QE's report.

        Raises:
            StaleTargetError: the quoting enclave changed since `init_quote`: call `init_quote` again and make a new
                report. `quote_fresh_report` does this itself.
        """
        return self.converse(conversation.get_quote(report, qe_report_info))

    def supported_key_ids(self) -> tuple[AttKeyId, ...]:
        """List the ids of the attestation keys that the service supports."""
        return self.converse(conversation.supported_key_ids())

    def quote_fresh_report(
        self, make_report: Callable[[TargetInfo], Report], *, qe_report_info: QeReportInfo | None = None
    ) -> AesmQuote:
        """Get target info, report and quote; repeat once with a new report if the quoting enclave changed.

        Args:
            make_report: makes the enclave's report for a target info.
            qe_report_info: as for `get_quote`.
        """
        return self.converse(conversation.quote_fresh_report(make_report, qe_report_info))

    def converse(self, talk: Conversation[T], *, whole: bool = False) -> T:
        """Send a conversation's requests, and return its result. `whole`: the time limit is of all requests."""
        deadline = time.monotonic() + self.timeout if whole else None
        try:
            request = next(talk)
            while True:
                try:
                    response = self._exchange(request, deadline or time.monotonic() + self.timeout)
                except ConfcomError as error:
                    request = talk.throw(error)
                else:
                    request = talk.send(response)
        except StopIteration as finished:
            result: T = finished.value
            return result

    def _exchange(self, request: QuotingRequest, deadline: float) -> QuotingResponse:
        call, session, response = request.kind.call, None, None
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            passed_descriptors.refuse(connection)
            try:
                self._connect(connection, deadline)
                session = ClientSession(request)  # meanwhile the service accepts the connection
                connection.settimeout(_remaining_seconds(deadline))
                connection.sendall(session.data_to_send)
                while response is None:
                    connection.settimeout(_remaining_seconds(deadline))
                    response = session.receive(connection.recv(RECEIVE_SIZE))
            except TimeoutError as error:
                raise timeout_error(self.socket_path, call, self.timeout) from error
            except OSError as error:
                if session is None:
                    raise connect_error(self.socket_path, error) from error
                raise closed_error(self.socket_path, call, error) from error
            return response

    def _connect(self, connection: socket.socket, deadline: float) -> None:
        while True:
            connection.settimeout(_remaining_seconds(deadline))
            with contextlib.suppress(BlockingIOError):
                connection.connect(self.address)
                return
            time.sleep(FULL_QUEUE_PAUSE_SECONDS)


def _remaining_seconds(deadline: float) -> float:
    """Return the seconds until the deadline, but never 0, which would make the socket non-blocking."""
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    return remaining
