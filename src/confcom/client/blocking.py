"""The AESM client for ordinary programs."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from confcom.aesm.messages import QuotingRequest, QuotingResponse
from confcom.aesm.session import ClientSession
from confcom.client import conversation
from confcom.client.address import aesm_socket_path, checked_socket_path
from confcom.client.conversation import AesmQuote, Conversation, QuotingTarget
from confcom.client.errors import closed_error, connect_error, timeout_error
from confcom.sgx.key_id import AttKeyId
from confcom.sgx.report import QeReportInfo, Report, TargetInfo

T = TypeVar("T")

EXCHANGE_SECONDS: Final = 15.0
"""How long one request may take, from connecting to the last byte of the answer. Intel's client waits as long for each
single step; services are built to answer within that."""

RECEIVE_SIZE: Final = 16 * 1024
"""Bytes asked of the kernel at once: more than any usual answer, so that most take one call."""

FULL_QUEUE_PAUSE_SECONDS: Final = 0.02
"""Linux refuses to connect at once while a listener's queue is full; then we try again, this much later."""


class AesmClient:
    """Asks an AESM service, one connection per request. It holds no connection, and threads may share it.

    Args:
        socket_path: the service's socket; by default CONFCOM_AESM_SOCKET, else /var/run/aesmd/aesm.socket.
        timeout: seconds that one request may take.
        environ: where CONFCOM_AESM_SOCKET is looked up; None: os.environ.

    Raises:
        SettingsError: the path is too long for a unix socket.
    """

    def __init__(
        self,
        socket_path: str | os.PathLike[str] | None = None,
        *,
        timeout: float = EXCHANGE_SECONDS,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        path = (
            aesm_socket_path(os.environ if environ is None else environ) if socket_path is None else Path(socket_path)
        )
        self.socket_path = checked_socket_path(path)
        self.timeout = timeout

    def init_quote(self) -> QuotingTarget:
        """Learn whom reports must be targeted at.

        Raises:
            AesmError: the service refused; every method may raise it.
            UnavailableError: nobody answers (in time); every method may raise it.
            MalformedError: the answer is not AESM's; every method may raise it.
        """
        return self.converse(conversation.init_quote())

    def quote_size(self) -> int:
        """Learn the exact size of a quote in bytes."""
        return self.converse(conversation.quote_size())

    def get_quote(self, report: Report, *, qe_report_info: QeReportInfo | None = None) -> AesmQuote:
        """Turn a report into a quote.

        Args:
            report: made for the target info of `init_quote`.
            qe_report_info: a nonce and the target info of the enclave that will check the QE's report.

        Raises:
            StaleTargetError: the quoting enclave changed since `init_quote`: call that again and make a new report.
                `quote_fresh_report` does so by itself.
        """
        return self.converse(conversation.get_quote(report, qe_report_info))

    def supported_key_ids(self) -> tuple[AttKeyId, ...]:
        """List the attestation keys that the service can use."""
        return self.converse(conversation.supported_key_ids())

    def quote_fresh_report(
        self, make_report: Callable[[TargetInfo], Report], *, qe_report_info: QeReportInfo | None = None
    ) -> AesmQuote:
        """The whole way to a quote; a changed quoting enclave is asked again with a new report, once.

        Args:
            make_report: has the enclave make a report for a target info.
            qe_report_info: as for `get_quote`.
        """
        return self.converse(conversation.quote_fresh_report(make_report, qe_report_info))

    def converse(self, talk: Conversation[T]) -> T:
        """Ask what a conversation asks until it has its result."""
        try:
            request = next(talk)
            while True:
                request = talk.send(self._exchange(request))
        except StopIteration as finished:
            result: T = finished.value
            return result

    def _exchange(self, request: QuotingRequest) -> QuotingResponse:
        session = ClientSession(request)
        deadline = time.monotonic() + self.timeout
        call = request.kind.call
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            try:
                self._connect(connection, deadline)
            except TimeoutError as error:
                raise timeout_error(self.socket_path, call, self.timeout) from error
            except OSError as error:
                raise connect_error(self.socket_path, error) from error
            try:
                connection.settimeout(_left(deadline))
                connection.sendall(session.data_to_send)
                response = None
                while response is None:
                    connection.settimeout(_left(deadline))
                    response = session.receive(connection.recv(RECEIVE_SIZE))
            except TimeoutError as error:
                raise timeout_error(self.socket_path, call, self.timeout) from error
            except OSError as error:
                raise closed_error(self.socket_path, call, error) from error
            return response

    def _connect(self, connection: socket.socket, deadline: float) -> None:
        while True:
            connection.settimeout(_left(deadline))
            try:
                connection.connect(str(self.socket_path))
            except BlockingIOError:
                time.sleep(FULL_QUEUE_PAUSE_SECONDS)
            else:
                return


def _left(deadline: float) -> float:
    """Seconds until the deadline; a socket's timeout of 0 would mean "do not wait"."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
