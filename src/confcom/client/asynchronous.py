"""The AESM client for asyncio programs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TypeVar

from confcom import passed_descriptors
from confcom.aesm.messages import QuotingRequest, QuotingResponse
from confcom.aesm.session import ClientSession
from confcom.client import conversation
from confcom.client.address import SocketClient
from confcom.client.blocking import FULL_QUEUE_PAUSE_SECONDS, RECEIVE_SIZE
from confcom.client.conversation import AesmQuote, Conversation, QuotingTarget
from confcom.client.errors import closed_error, connect_error, timeout_error
from confcom.sgx.key_id import AttKeyId
from confcom.sgx.report import QeReportInfo, Report, TargetInfo

T = TypeVar("T")


class AsyncAesmClient(SocketClient):
    """`AesmClient` with coroutine methods; parameters and errors are the same."""

    async def init_quote(self) -> QuotingTarget:
        """Get the quoting enclave's target info and public key id."""
        return await self.converse(conversation.init_quote())

    async def quote_size(self) -> int:
        """Get the exact size of a quote in bytes."""
        return await self.converse(conversation.quote_size())

    async def get_quote(self, report: Report, *, qe_report_info: QeReportInfo | None = None) -> AesmQuote:
        """Get a quote of a report."""
        return await self.converse(conversation.get_quote(report, qe_report_info))

    async def supported_key_ids(self) -> tuple[AttKeyId, ...]:
        """List the ids of the attestation keys that the service supports."""
        return await self.converse(conversation.supported_key_ids())

    async def quote_fresh_report(
        self, make_report: Callable[[TargetInfo], Report], *, qe_report_info: QeReportInfo | None = None
    ) -> AesmQuote:
        """Get target info, report and quote; repeat once with a new report if the quoting enclave changed."""
        return await self.converse(conversation.quote_fresh_report(make_report, qe_report_info))

    async def converse(self, generator: Conversation[T]) -> T:
        """Send the requests that a conversation yields, and return its result."""
        try:
            request = next(generator)
            while True:
                request = generator.send(await self._exchange(request))
        except StopIteration as finished:
            result: T = finished.value
            return result

    async def _exchange(self, request: QuotingRequest) -> QuotingResponse:
        session = ClientSession(request)
        call = request.kind.call
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.setblocking(False)
                passed_descriptors.refuse(connection)
                async with asyncio.timeout(self.timeout):
                    await self._connect(connection)
                    return await self._transact(connection, session, call)
        except TimeoutError as error:
            raise timeout_error(self.socket_path, call, self.timeout) from error

    async def _connect(self, connection: socket.socket) -> None:
        # Not loop.sock_connect: if the backlog is full, it treats EAGAIN as a connection in progress, then as finished.
        while True:
            try:
                connection.connect(str(self.socket_path))
            except BlockingIOError:
                await asyncio.sleep(FULL_QUEUE_PAUSE_SECONDS)
            except OSError as error:
                raise connect_error(self.socket_path, error) from error
            else:
                return

    async def _transact(self, connection: socket.socket, session: ClientSession, call: str) -> QuotingResponse:
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(connection, session.data_to_send)
            response = None
            while response is None:
                response = session.receive(await loop.sock_recv(connection, RECEIVE_SIZE))
        except OSError as error:
            raise closed_error(self.socket_path, call, error) from error
        return response
