"""Handwritten protobuf for AESM, because a replayed client must not use the code under test."""

from __future__ import annotations

HEADER_SIZE = 4
VARINT, BYTES = 0, 2


class NotProtobufError(ValueError):
    pass


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int | None) -> bytes:
    """Encode a number field of protobuf 2. The value 0 is written; for None the field is omitted."""
    return b"" if value is None else varint(field << 3 | VARINT) + varint(value)


def data(field: int, value: bytes | None) -> bytes:
    return b"" if value is None else varint(field << 3 | BYTES) + varint(len(value)) + value


def field(number_: int, value: int | bytes) -> bytes:
    return data(number_, value) if isinstance(value, bytes) else number(number_, value)


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(HEADER_SIZE, "little") + body


def fields(body: bytes) -> dict[int, int | bytes]:
    """A message's fields, keyed by number. AESM fields are numbers or bytes; a message repeats no field."""
    found: dict[int, int | bytes] = {}
    at = 0
    while at < len(body):
        tag, at = _varint(body, at)
        value: int | bytes
        value, at = _varint(body, at)
        if tag & 7 == BYTES:
            end = at + value
            value, at = body[at:end], end
        elif tag & 7 != VARINT:
            raise NotProtobufError(f"wire type {tag & 7}")
        if at > len(body) or tag >> 3 in found:
            raise NotProtobufError(f"field {tag >> 3} is cut or there twice")
        found[tag >> 3] = value
    return found


def nested_fields(body: bytes) -> dict[int, dict[int, int | bytes]]:
    return {number: fields(content) for number, content in fields(body).items() if isinstance(content, bytes)}


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(body):
            raise NotProtobufError("a number is cut")
        value |= (body[at] & 0x7F) << shift
        at += 1
        if body[at - 1] < 0x80:
            return value, at
    raise NotProtobufError("a number of more than ten bytes")
