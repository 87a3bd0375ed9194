"""Client and server session of one AESM connection, sans I/O: bytes in, events out.

A connection carries one request, as with every known client. The owner of the socket passes received bytes to the
session, acts on the event, and sends the bytes that the session returns by one call.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from confcom.aesm.errors import ConnectionClosedError, FrameError, ProtocolError, SessionMisuseError
from confcom.aesm.framing import MAX_REQUEST_SIZE, FrameDecoder, encode_frame
from confcom.aesm.message_codec import decode_request, decode_response, encode_request, encode_response
from confcom.aesm.messages import MessageKind, QuotingRequest, QuotingResponse, Request, Response

MAX_RESPONSE_SIZE: Final = 128 * 1024
"""Largest response body that our client accepts, in bytes: eight times the largest quote buffer that our service
accepts, and fifteen times the largest answer that a known client asks for (Gramine: 8,209)."""


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A request is complete: answer it with `ServerSession.respond`, then close."""

    request: Request


@dataclass(frozen=True, slots=True)
class ProtocolViolation:
    """The received bytes are not an AESM request: close without an answer, as Intel's server does."""

    error: ProtocolError


@dataclass(frozen=True, slots=True)
class PeerClosed:
    """The peer closed without sending anything, as liveness probes do: close, and do not count it as an error."""


class _State(Enum):
    RECEIVING = auto()
    AWAITING_RESPONSE = auto()
    CLOSED = auto()


class ServerSession:
    """The service's side of one connection; buffers at most one request."""

    __slots__ = ("_decoder", "_kind", "_state")

    def __init__(self) -> None:
        self._decoder = FrameDecoder(MAX_REQUEST_SIZE)
        self._state = _State.RECEIVING
        self._kind: MessageKind | None = None

    def receive(self, data: bytes) -> RequestReceived | ProtocolViolation | None:
        """Consume received bytes, and return one event when the request is complete or invalid; the rest is dropped."""
        if self._state is not _State.RECEIVING:
            return None
        try:
            body = self._decoder.feed(data)
            if body is None:
                return None
            request = decode_request(body)
        except ProtocolError as error:
            self._state = _State.CLOSED
            return ProtocolViolation(error)
        self._state = _State.AWAITING_RESPONSE
        self._kind = request.kind
        return RequestReceived(request)

    def receive_eof(self) -> PeerClosed | ProtocolViolation | None:
        """Handle the end of the peer's stream: nothing if it still waits for its answer, or the session is over."""
        if self._state is not _State.RECEIVING:
            return None
        self._state = _State.CLOSED
        if not self._decoder.started:
            return PeerClosed()
        return ProtocolViolation(
            FrameError(
                "an AESM request was cut",
                error_code="truncated",
                why="the peer closed the connection before the announced length",
                remedy="check whether the client crashed or gave up",
            )
        )

    def respond(self, response: Response) -> bytes:
        """Return the answer's bytes, to be sent by one call; then close."""
        if self._state is not _State.AWAITING_RESPONSE:
            raise SessionMisuseError("an AESM session was asked to answer while no request waits for an answer")
        if response.kind is not self._kind:
            raise SessionMisuseError(
                f"an answer to {response.kind.call} was given for another request",
                why="Intel's client library crashes on an answer in the wrong field",
            )
        self._state = _State.CLOSED
        return encode_frame(encode_response(response))


class ClientSession:
    """The client's side of one connection."""

    __slots__ = ("_decoder", "_kind", "data_to_send")

    def __init__(self, request: QuotingRequest) -> None:
        self._kind = request.kind
        self._decoder = FrameDecoder(MAX_RESPONSE_SIZE)
        self.data_to_send: Final = encode_frame(encode_request(request))

    def receive(self, data: bytes) -> QuotingResponse | None:
        """Consume received bytes, and return the response when it is complete; empty `data` is the stream's end."""
        if not data:
            raise self._closed()
        body = self._decoder.feed(data)
        return None if body is None else decode_response(body, self._kind)

    def _closed(self) -> ConnectionClosedError:
        if self._decoder.started:
            return ConnectionClosedError(
                f"the AESM service closed the connection in the middle of its answer to {self._kind.call}",
                error_code="closed-mid-answer",
                why="it was stopped or crashed",
                remedy="try again; if it happens again, read the log of the quote helper (or aesmd) on this node",
            )
        return ConnectionClosedError(
            f"the AESM service closed the connection without an answer to {self._kind.call}",
            error_code="closed-unanswered",
            why="it is stopping, it does not know this request, or the socket belongs to another program",
            remedy="try again; if it happens again, read the log of the quote helper (or aesmd) on this node",
        )
