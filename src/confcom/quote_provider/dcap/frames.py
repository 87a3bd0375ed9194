"""Frames between the helper and the child that has Intel's libraries: one packet each, of bounded size.

The socket is of type SOCK_SEQPACKET, so that a packet is a frame. The child sends Loaded once; then it answers each
Request with one Answer. Integers are little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from confcom.errors import MalformedError
from confcom.sgx.report import QE_REPORT_INFO_SIZE, REPORT_SIZE, TARGET_INFO_SIZE

PUB_KEY_ID_SIZE: Final = 32
MAX_QUOTE_SIZE: Final = 16 * 1024
"""Intel's library takes certificate chains of up to 12,294 bytes, so that a quote has at most 13,346."""
MAX_TEXT_SIZE: Final = 1024
"""Bytes of the dynamic linker's message."""

_REQUEST: Final = struct.Struct(f"<BI?{REPORT_SIZE}s{QE_REPORT_INFO_SIZE}s")
REQUEST_SIZE: Final = _REQUEST.size
_ANSWER: Final = struct.Struct("<BI")
_LOADED: Final = struct.Struct("<??")
_SIZE: Final = struct.Struct("<I")
MAX_ANSWER_SIZE: Final = _ANSWER.size + QE_REPORT_INFO_SIZE + MAX_QUOTE_SIZE


class Call(IntEnum):
    """A call of the library."""

    INIT = 1
    SIZE = 2
    QUOTE = 3

    @property
    def function(self) -> str:
        """The library's name of it."""
        return _FUNCTIONS[self]


_FUNCTIONS: Final = {
    Call.INIT: "sgx_ql_init_quote",
    Call.SIZE: "sgx_ql_get_quote_size",
    Call.QUOTE: "sgx_ql_get_quote",
}


@dataclass(frozen=True, slots=True)
class Request:
    """A call, with its arguments as C takes them; `size`, `report` and `qe_report_info` are of QUOTE only."""

    call: Call
    size: int = 0
    report: bytes = bytes(REPORT_SIZE)
    qe_report_info: bytes | None = None

    def encode(self) -> bytes:
        """Encode to REQUEST_SIZE bytes."""
        info = self.qe_report_info
        return _REQUEST.pack(self.call, self.size, info is not None, self.report, info or b"")

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse exactly one frame."""
        if len(data) != _REQUEST.size:
            raise _malformed(f"a request of {len(data)} bytes")
        call, size, with_info, report, info = _REQUEST.unpack(data)
        if size > MAX_QUOTE_SIZE:
            raise _malformed(f"a buffer of {size} bytes")
        return cls(_call(call), size, report, info if with_info else None)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The child's first frame: whether it loaded the libraries."""

    quoting: bool
    """Whether quoting library and PCE library are loaded; else the child ends."""
    provider_library: bool
    """Whether the quote provider library is loaded, without which quotes are useless."""
    text: str
    """The dynamic linker's message about what is missing."""

    def encode(self) -> bytes:
        """Encode; the text is cut."""
        return _LOADED.pack(self.quoting, self.provider_library) + self.text.encode()[:MAX_TEXT_SIZE]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse exactly one frame."""
        if not _LOADED.size <= len(data) <= _LOADED.size + MAX_TEXT_SIZE:
            raise _malformed(f"a first frame of {len(data)} bytes")
        quoting, provider_library = _LOADED.unpack_from(data)
        return cls(quoting, provider_library, data[_LOADED.size :].decode(errors="replace"))


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a call: the library's code, and what it wrote if that is 0."""

    call: Call
    status: int
    target_info: bytes = b""
    pub_key_id: bytes = b""
    size: int = 0
    qe_report_info: bytes = b""
    """As the library left it; zeros if none was given."""
    quote: bytes = b""

    def encode(self) -> bytes:
        """Encode; of a failed call only the code."""
        header = _ANSWER.pack(self.call, self.status)
        if self.status:
            return header
        match self.call:
            case Call.INIT:
                return header + self.target_info + self.pub_key_id
            case Call.SIZE:
                return header + _SIZE.pack(self.size)
            case Call.QUOTE:
                return header + self.qe_report_info.ljust(QE_REPORT_INFO_SIZE, b"\0") + self.quote

    @classmethod
    def parse(cls, data: bytes, request: Request) -> Self:
        """Parse exactly one frame, the answer to `request`.

        Raises:
            MalformedError: it is not the answer to it.
        """
        if len(data) < _ANSWER.size:
            raise _malformed(f"an answer of {len(data)} bytes")
        number, status = _ANSWER.unpack_from(data)
        rest = data[_ANSWER.size :]
        if number != request.call:
            raise _malformed(f"an answer to call {number} instead of {request.call.function}")
        expected = 0 if status else _answer_size(request)
        if len(rest) != expected:
            raise _malformed(f"{len(rest)} bytes from {request.call.function} instead of {expected}")
        if status:
            return cls(request.call, status)
        match request.call:
            case Call.INIT:
                return cls(Call.INIT, 0, target_info=rest[:TARGET_INFO_SIZE], pub_key_id=rest[TARGET_INFO_SIZE:])
            case Call.SIZE:
                return cls(Call.SIZE, 0, size=_SIZE.unpack(rest)[0])
            case Call.QUOTE:
                info, quote = rest[:QE_REPORT_INFO_SIZE], rest[QE_REPORT_INFO_SIZE:]
                return cls(Call.QUOTE, 0, qe_report_info=info, quote=quote)


def _answer_size(request: Request) -> int:
    match request.call:
        case Call.INIT:
            return TARGET_INFO_SIZE + PUB_KEY_ID_SIZE
        case Call.SIZE:
            return _SIZE.size
        case Call.QUOTE:
            return QE_REPORT_INFO_SIZE + request.size


def _call(number: int) -> Call:
    try:
        return Call(number)
    except ValueError:
        raise _malformed(f"call {number}") from None


def _malformed(what: str) -> MalformedError:
    return MalformedError(
        f"{what} between the helper and the child with Intel's libraries", error_code="dcap-malformed"
    )
