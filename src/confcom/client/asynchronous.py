"""The AESM client for asyncio programs, and the driver of conversations in an event loop."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from confcom import passed_descriptors
from confcom.aesm import conversation
from confcom.aesm.conversation import Conversation
from confcom.aesm.messages import AesmQuote, QuotingRequest, QuotingTarget
from confcom.aesm.session import ClientSession
from confcom.client.address import SocketClient
from confcom.client.blocking import FULL_QUEUE_PAUSE_SECONDS, RECEIVE_SIZE
from confcom.client.errors import closed_error, connect_error, timeout_error
from confcom.sgx.key_id import AttKeyId
from confcom.sgx.report import QeReportInfo, Report, TargetInfo

T = TypeVar("T")

Outcome = Callable[[], Any]
"""Function that returns the result of a conversation, or raises the conversation's error."""


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

    async def converse(self, talk: Conversation[T]) -> T:
        """Send a conversation's requests, and return its result; errors are thrown into the conversation."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Outcome] = loop.create_future()

        def end(_: RunningConversation, outcome: Outcome) -> None:
            if not ended.done():
                ended.set_result(outcome)

        running = RunningConversation(self, talk, end)
        running.start()
        try:
            outcome = await ended
        finally:
            running.stop()
        result: T = outcome()
        return result


class RunningConversation:
    """A conversation that the event loop drives with callbacks instead of a task, over one connection at a time.

    `ended` is called once with the outcome, after `start` has returned. The time limit is per request or, if
    `whole`, per conversation.
    """

    def __init__(
        self,
        client: SocketClient,
        talk: Conversation[Any],
        ended: Callable[[RunningConversation, Outcome], None],
        *,
        whole: bool = False,
    ) -> None:
        self._client = client
        self._talk = talk
        self._ended = ended
        self._whole = whole
        self._loop = asyncio.get_running_loop()
        self._deadline: asyncio.TimerHandle | None = None
        self._connection: socket.SocketType | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._starting = True
        self._stopped = False
        self._request: QuotingRequest
        self._session: ClientSession

    def start(self) -> None:
        """Send the conversation's first request; if there is none, end the conversation."""
        self._resume(lambda: next(self._talk))
        self._starting = False

    def stop(self) -> None:
        """End the conversation without calling `ended`."""
        self._stopped = True
        self._cancel_deadline()
        self._disconnect()

    def _resume(self, step: Callable[[], QuotingRequest]) -> None:
        try:
            self._request = step()
        except StopIteration as finished:
            result = finished.value
            self._end(lambda: result)
        except BaseException as error:  # noqa: BLE001 # the conversation's outcome raises the error
            self._end(functools.partial(_raise, error))
        else:
            if self._deadline is None or not self._whole:
                self._cancel_deadline()
                self._deadline = self._loop.call_later(self._client.timeout, self._time_out)
            self._connect()

    def _end(self, outcome: Outcome) -> None:
        self._cancel_deadline()
        if self._starting:
            self._loop.call_soon(self._end, outcome)
        elif not self._stopped:
            self._ended(self, outcome)

    def _throw(self, error: Exception) -> None:
        self._disconnect()
        self._resume(lambda: self._talk.throw(error))

    def _time_out(self) -> None:
        self._throw(timeout_error(self._client.socket_path, self._request.kind.call, self._client.timeout))

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def _connect(self) -> None:
        # loop.sock_connect misreads EAGAIN (a full backlog): it reports a connection that was not made.
        try:
            # socket.socket is not used: its look-ups of enum members cost as much as the system call.
            connection = socket.SocketType(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:  # no descriptor is left
            self._throw(error)
            return
        try:
            passed_descriptors.refuse(connection)
            connection.connect(self._client.address)
        except OSError as error:
            connection.close()
            if isinstance(error, BlockingIOError):  # the backlog is full
                self._retry = self._loop.call_later(FULL_QUEUE_PAUSE_SECONDS, self._connect)
            else:
                self._throw(connect_error(self._client.socket_path, error))
            return
        self._connection = connection
        self._session = ClientSession(self._request)  # meanwhile the service accepts the connection
        try:
            # A request has at most 1.7 KB, so it fits into the empty buffer of a new socket.
            connection.send(self._session.data_to_send)
            self._loop.add_reader(connection.fileno(), self._receive)
        except OSError as error:
            self._throw(closed_error(self._client.socket_path, self._request.kind.call, error))

    def _receive(self) -> None:
        assert self._connection is not None
        try:
            response = self._session.receive(self._connection.recv(RECEIVE_SIZE))
        except BlockingIOError:
            return
        except OSError as error:
            self._throw(closed_error(self._client.socket_path, self._request.kind.call, error))
        except Exception as error:  # noqa: BLE001 # this error ends only this conversation
            self._throw(error)
        else:
            if response is not None:
                self._disconnect()
                self._resume(lambda: self._talk.send(response))

    def _disconnect(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        if self._connection is not None:
            self._loop.remove_reader(self._connection.fileno())
            self._connection.close()
            self._connection = None


def _raise(error: BaseException) -> NoReturn:
    raise error
