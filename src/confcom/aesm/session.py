"""The client's and the server's session of one AESM connection, without I/O.

A connection carries one request, as with every known client. The owner of the socket passes received bytes to
the session, which returns the message. The owner sends each message of the session with one system call.

A request and its answer are one frame each: four bytes of length, little-endian, then that many bytes of
protobuf. A frame has no magic, version or checksum (Intel's SocketTransporter.cpp).
"""

from typing import Final

from confcom.aesm.errors import ConnectionClosedError, ProtocolError, SessionMisuseError
from confcom.aesm.message_codec import decode_request, decode_response, encode_request, encode_response
from confcom.aesm.messages import MessageKind, QuotingRequest, QuotingResponse, Request, Response

HEADER_SIZE: Final = 4

MAX_REQUEST_SIZE: Final = 8 * 1024
"""Largest request body accepted, in bytes. The largest that a known client sends is 1,667 (GetQuoteEx with
qe_report_info, recorded). It is so low that the number of connections limits all requests' memory. Intel's
server has no limit and crashes if the length is 4 GiB."""
MAX_RESPONSE_SIZE: Final = 128 * 1024
"""Largest response body that our client accepts, in bytes: eight times the largest quote buffer that our
service accepts, and fifteen times the largest answer that a known client asks for (Gramine: 8,209)."""


def encode_frame(body: bytes) -> bytes:
    """Return header and body as one bytes object, to be sent with one call.

    Intel's client library crashes on answers that arrive in small pieces, so a frame must never be split.
    """
    return len(body).to_bytes(HEADER_SIZE, "little") + body


class FrameDecoder:
    """Decodes one frame, which may arrive in pieces; buffers at most this frame, and drops bytes after it."""

    __slots__ = ("_buffer", "_done", "_max_body_size")

    def __init__(self, max_body_size: int) -> None:
        self._max_body_size = max_body_size
        self._buffer = bytearray()
        self._done = False

    @property
    def incomplete(self) -> bool:
        """Whether a part of the frame has arrived, but not yet the whole frame."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> bytes | None:
        """Consume received bytes. Return the body once, when the frame is complete; otherwise return None.

        After a ProtocolError (the frame's length is 0 or too large), the decoder ignores later bytes.
        """
        if self._done:
            return None
        if not self._buffer:
            # Nearly every frame arrives in one piece, and then needs no buffer and no copy.
            length = len(data) - HEADER_SIZE
            if 0 < length <= self._max_body_size and data.startswith(length.to_bytes(HEADER_SIZE, "little")):
                self._done = True
                return data[HEADER_SIZE:]
        # The buffer grows as bytes arrive; no memory is allocated for the announced length.
        self._buffer += data[: HEADER_SIZE + self._max_body_size - len(self._buffer)]
        received, length = self._buffer, int.from_bytes(self._buffer[:HEADER_SIZE], "little")
        acceptable = 0 < length <= self._max_body_size
        if len(received) < HEADER_SIZE or (acceptable and len(received) < HEADER_SIZE + length):
            return None
        self._done, self._buffer = True, bytearray()
        if not acceptable:
            begins = received[:HEADER_SIZE].hex()
            raise ProtocolError(
                f"an AESM frame announces a body of {length} bytes",
                error_code="frame-length",
                why=f"a body has 1 to {self._max_body_size} bytes; this frame begins with {begins}",
                remedy="check what connects to the AESM socket: this is not an AESM peer",
            )
        return bytes(received[HEADER_SIZE : HEADER_SIZE + length])


class ServerSession:
    """The service's side of one connection; buffers at most one request."""

    __slots__ = ("_decoder", "_kind")

    def __init__(self) -> None:
        self._decoder = FrameDecoder(MAX_REQUEST_SIZE)
        self._kind: MessageKind | None = None  # kind of the request that waits for its answer

    def receive(self, data: bytes) -> Request | None:
        """Consume received bytes; return the request when it is complete, and drop the bytes after it.

        Empty `data` means the end of the peer's stream: EOFError if no part of a request is pending, as in a liveness
        probe. After a ProtocolError, close without an answer, as Intel's server does.
        """
        if not data:
            if not self._decoder.incomplete:
                raise EOFError
            raise ProtocolError(
                "an AESM request was cut",
                error_code="truncated",
                why="the peer closed the connection before the announced length",
                remedy="check whether the client crashed or gave up",
            )
        body = self._decoder.feed(data)
        if body is None:
            return None
        request = decode_request(body)
        self._kind = request.kind
        return request

    def respond(self, response: Response) -> bytes:
        """Return the answer's bytes: send them with one call, then close the connection."""
        if response.kind is not self._kind:
            raise SessionMisuseError(
                f"an answer to {response.kind.call} was given, but no such request waits for one",
                why="Intel's client library crashes on an answer in the wrong field",
            )
        self._kind = None
        return encode_frame(encode_response(response))


class ClientSession:
    """The client's side of one connection."""

    __slots__ = ("_decoder", "_kind", "data_to_send")

    def __init__(self, request: QuotingRequest) -> None:
        self._kind = request.kind
        self._decoder = FrameDecoder(MAX_RESPONSE_SIZE)
        self.data_to_send: Final = encode_frame(encode_request(request))

    def receive(self, data: bytes) -> QuotingResponse | None:
        """Consume received bytes; return the response when it is complete. Empty `data` means the stream's end."""
        if data:
            body = self._decoder.feed(data)
            return None if body is None else decode_response(body, self._kind)
        if self._decoder.incomplete:
            raise ConnectionClosedError(
                f"the AESM service closed the connection in the middle of its answer to {self._kind.call}",
                error_code="closed-mid-answer",
                why="it was stopped or crashed",
                remedy="try again; if it happens again, read the log of the quote helper (or aesmd) on this node",
            )
        raise ConnectionClosedError(
            f"the AESM service closed the connection without an answer to {self._kind.call}",
            error_code="closed-unanswered",
            why="it is stopping, it does not know this request, or the socket belongs to another program",
            remedy="try again; if it happens again, read the log of the quote helper (or aesmd) on this node",
        )
