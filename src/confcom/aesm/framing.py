"""AESM's framing: four bytes of length, little-endian, then that many bytes of protobuf.

A frame has no magic, version or checksum; requests and responses use the same format (Intel's SocketTransporter.cpp).
"""

from __future__ import annotations

from typing import Final

from confcom.aesm.errors import FrameError

HEADER_SIZE: Final = 4

MAX_REQUEST_SIZE: Final = 8 * 1024
"""Largest request body accepted, in bytes. The largest that a known client sends is 1,667 (GetQuoteEx with
qe_report_info, recorded). So small that the number of connections limits what all requests take. Intel's server has no
limit and crashes if the length is 4 GiB."""


def encode_frame(body: bytes) -> bytes:
    """Return header and body as one bytes object, to be sent by one call.

    Intel's client library crashes on answers that arrive in small pieces, so a frame must never be split.
    """
    return len(body).to_bytes(HEADER_SIZE, "little") + body


class FrameDecoder:
    """Decodes one frame that arrives in pieces of any size. Buffers at most the frame; bytes after it are dropped."""

    __slots__ = ("_buffer", "_done", "_max_body_size", "_wanted")

    def __init__(self, max_body_size: int) -> None:
        self._max_body_size = max_body_size
        self._buffer = bytearray()
        self._wanted = HEADER_SIZE
        self._done = False

    @property
    def started(self) -> bool:
        """Whether any byte has arrived."""
        return self._done or bool(self._buffer)

    def feed(self, data: bytes) -> bytes | None:
        """Consume received bytes, and return the body once, when the frame is complete.

        After a FrameError (the length is 0 or too large) later bytes are ignored.
        """
        if self._done:
            return None
        if not self._buffer:
            # Nearly every frame arrives in one piece; then the buffer, and a copy, are avoided.
            length = len(data) - HEADER_SIZE
            if 0 < length <= self._max_body_size and data.startswith(length.to_bytes(HEADER_SIZE, "little")):
                self._done = True
                return data[HEADER_SIZE:]
        # The buffer grows as bytes arrive; the announced length allocates nothing.
        consumed = self._take(data, 0)
        if len(self._buffer) < HEADER_SIZE:
            return None
        if self._wanted == HEADER_SIZE:
            self._wanted += self._length(self._buffer)
            self._take(data, consumed)
        if len(self._buffer) < self._wanted:
            return None
        body = bytes(self._buffer[HEADER_SIZE:])
        self._finish()
        return body

    def _take(self, data: bytes, start: int) -> int:
        stop = start + self._wanted - len(self._buffer)
        self._buffer += data[start:stop]
        return stop

    def _length(self, received: bytes | bytearray) -> int:
        length = int.from_bytes(received[:HEADER_SIZE], "little")
        if 0 < length <= self._max_body_size:
            return length
        self._finish()
        raise FrameError(
            f"an AESM frame announces a body of {length} bytes",
            error_code="frame-length",
            why=f"a body has 1 to {self._max_body_size} bytes",
            remedy="check what connects to the AESM socket: this is not an AESM peer",
        )

    def _finish(self) -> None:
        self._done = True
        self._buffer = bytearray()
