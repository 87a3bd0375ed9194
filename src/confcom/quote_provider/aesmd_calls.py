"""Calls of aesmd: the requests of a call are decided by a generator, which one of two drivers runs.

A blocking driver is for threads. The other one is for an event loop: a relayed quote then costs no change of thread.
"""

from __future__ import annotations

import asyncio
import functools
import select
import socket
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

from confcom import passed_descriptors
from confcom.aesm.messages import QuotingRequest
from confcom.aesm.request_checks import Need
from confcom.aesm.session import ClientSession
from confcom.client.blocking import FULL_QUEUE_PAUSE_SECONDS, RECEIVE_SIZE, AesmClient
from confcom.client.conversation import Conversation
from confcom.client.errors import closed_error, connect_error, timeout_error
from confcom.errors import ConfcomError

T = TypeVar("T")

CALL_SECONDS: Final = 30.0
"""For all that aesmd is asked for one request of a client. Intel's client gives up after 15 s, and another request may
be before it in aesmd."""
CONCURRENT_CALLS: Final = 2
"""aesmd makes one quote at a time. A second request waits in its socket, so that it is never idle between two."""

Outcome = Callable[[], Any]
"""Returns the result of a call, or raises its error."""


def run_blocking(client: AesmClient, asked: Conversation[T], seconds: float, clock: Callable[[], float]) -> T:
    """Run a conversation in this thread, and return its result; errors of the client are thrown into it."""
    deadline = clock() + seconds
    try:
        request = next(asked)
        while True:
            try:
                response = client.exchange(request, deadline - clock())
            except ConfcomError as error:
                request = asked.throw(error)
            else:
                request = asked.send(response)
    except StopIteration as finished:
        result: T = finished.value
        return result


class AesmdInLoop:
    """Calls of aesmd in an event loop. Their sockets are in an epoll that the loop watches as one descriptor.

    Must be created and closed in the running loop.
    """

    max_concurrent_calls: Final = CONCURRENT_CALLS

    def __init__(
        self,
        client: AesmClient,
        conversation_for: Callable[[Need], Conversation[Any]],
        seconds: float,
    ) -> None:
        self.path = client.socket_path
        self.address = str(client.socket_path)
        self.seconds = seconds
        self.loop = asyncio.get_running_loop()
        self.epoll = select.epoll()
        self.exchanges: dict[int, _Call] = {}
        """By the descriptors of their sockets."""
        self._conversation_for = conversation_for
        self._calls: dict[_Call, None] = {}
        self.loop.add_reader(self.epoll.fileno(), self._take_turn)

    def start(self, need: Need, done: Callable[[Outcome], None]) -> None:
        """Start a call; `done` is called with its outcome, later, also if it ends at once."""
        call = _Call(self, self._conversation_for(need), done)
        self._calls[call] = None
        call.begin()

    def forget(self, call: _Call) -> bool:
        """Forget a call that has ended; return False if all calls were broken off before."""
        if call not in self._calls:
            return False
        del self._calls[call]
        return True

    def close(self) -> None:
        """End all calls; nobody is told of their outcome any more."""
        for call in self._calls:
            call.stop()
        self._calls.clear()
        self.loop.remove_reader(self.epoll.fileno())
        self.epoll.close()

    def _take_turn(self) -> None:
        for descriptor, _ in self.epoll.poll(0):
            if (call := self.exchanges.get(descriptor)) is not None:
                call.on_event()


class _Call:
    """A conversation that is being run: at most one connection to aesmd at a time."""

    def __init__(self, caller: AesmdInLoop, asked: Conversation[Any], done: Callable[[Outcome], None]) -> None:
        self._caller = caller
        self._asked = asked
        self._done = done
        self._deadline = caller.loop.call_later(caller.seconds, self._time_out)
        self._connection: socket.SocketType | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._starting = True
        self._request: QuotingRequest
        self._session: ClientSession

    def begin(self) -> None:
        self._resume(lambda: next(self._asked))
        self._starting = False

    def on_event(self) -> None:
        connection = self._connection
        assert connection is not None
        try:
            response = self._session.receive(connection.recv(RECEIVE_SIZE))
        except BlockingIOError:
            return
        except OSError as error:
            self._throw(closed_error(self._caller.path, self._request.kind.call, error))
        except Exception as error:  # noqa: BLE001 # the call ends with it, and no other one
            self._throw(error)
        else:
            if response is not None:
                self._disconnect()
                self._resume(lambda: self._asked.send(response))

    def stop(self) -> None:
        self._deadline.cancel()
        self._disconnect()

    def _time_out(self) -> None:
        self._throw(timeout_error(self._caller.path, self._request.kind.call, self._caller.seconds))

    def _disconnect(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._connection is not None:
            self._caller.exchanges.pop(self._connection.fileno(), None)
            self._connection.close()
            self._connection = None

    def _resume(self, step: Callable[[], QuotingRequest]) -> None:
        try:
            self._request = step()
        except StopIteration as finished:
            result = finished.value
            self._end(lambda: result)
        except BaseException as error:  # noqa: BLE001 # whoever takes the outcome handles it
            self._end(functools.partial(_raise, error))
        else:
            self._connect()

    def _end(self, outcome: Outcome) -> None:
        if self._starting:
            self._caller.loop.call_soon(self._tell, outcome)
        else:
            self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        self._deadline.cancel()
        if self._caller.forget(self):
            self._done(outcome)

    def _throw(self, error: Exception) -> None:
        self._disconnect()
        self._resume(lambda: self._asked.throw(error))

    def _connect(self) -> None:
        self._retry = None
        try:
            # Not socket.socket: its look-ups of enum members cost as much as the system call.
            connection = socket.SocketType(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:  # no descriptor is left
            self._throw(error)
            return
        try:
            passed_descriptors.refuse(connection)
            connection.connect(self._caller.address)
        except BlockingIOError:  # the backlog is full
            connection.close()
            self._retry = self._caller.loop.call_later(FULL_QUEUE_PAUSE_SECONDS, self._connect)
            return
        except OSError as error:
            connection.close()
            self._throw(connect_error(self._caller.path, error))
            return
        self._connection = connection
        self._caller.exchanges[connection.fileno()] = self
        self._session = ClientSession(self._request)  # only now: the service accepts the connection meanwhile
        try:
            # A request has at most 1.7 KB, which the empty buffer of a new socket takes.
            connection.send(self._session.data_to_send)
            self._caller.epoll.register(connection, select.EPOLLIN)
        except OSError as error:
            self._throw(closed_error(self._caller.path, self._request.kind.call, error))


def _raise(error: BaseException) -> NoReturn:
    raise error
