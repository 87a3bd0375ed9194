"""Encoding and decoding of AESM messages, byte for byte as Intel's client and server write them.

Only this module uses the protobuf classes. This module enforces only the rules of the wire format: which
sub-message is served if there are several, and which fields of a request are required.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Final, get_args

from google.protobuf.message import DecodeError, Message

from confcom.aesm import messages_pb2
from confcom.aesm.errors import ProtocolError
from confcom.aesm.messages import (
    IncompleteRequest,
    LegacyRequest,
    LegacyResponse,
    MessageKind,
    QuotingRequest,
    QuotingResponse,
    Request,
    Response,
)

SERVING_ORDER: Final = tuple(
    MessageKind(number) for number in (15, 16, 17, 19, 21, 22, 3, 1, 2, 4, 18, 10, 11, 12, 13, 14)
)
"""If a request holds several calls, the first of these is served. The order is Intel's (ProtobufSerializer.cpp), except
that version 2.26 had the legacy calls first; 2.28 and later serve the other call, since they know no legacy calls."""


_KINDS: Final[Mapping[int, MessageKind]] = {kind.value: kind for kind in MessageKind}
_FIELDS: Final[Mapping[MessageKind, str]] = {kind: kind.name.lower() for kind in MessageKind}
_REQUESTS: Final[Mapping[MessageKind, type[QuotingRequest]]] = {
    message.kind: message for message in get_args(QuotingRequest)
}
_REQUIRED: Final[Mapping[MessageKind, int]] = {
    kind: sum(one.default is MISSING for one in fields(message)) for kind, message in _REQUESTS.items()
}
"""Number of each request's required fields, which are the first fields and have no default."""
_RESPONSES: Final[Mapping[MessageKind, type[QuotingResponse]]] = {
    message.kind: message for message in get_args(QuotingResponse)
}


def encode_request(request: QuotingRequest) -> bytes:
    wire = messages_pb2.Request()
    sub = _sub_message(wire, request.kind)
    sub.SetInParent()  # without this call, protobuf omits a sub-message that has no fields set
    _write(sub, request)
    return wire.SerializeToString()


def decode_request(body: bytes) -> Request:
    """Decode a request's body; skip unknown fields, as Intel's server does.

    A truncated body is refused here, although Intel's server serves the part before the truncation.
    """
    wire = messages_pb2.Request()
    _parse(wire, body)
    present = wire.ListFields()
    if not present:
        raise ProtocolError(
            "a request contains no known AESM message",
            error_code="unknown-request",
            why="Intel's messages do not have its field number",
            remedy="check the client: DCAP quoting uses fields 15, 16, 17, 19, 21 and 22",
        )
    descriptor, sub = present[0]
    if len(present) > 1:
        descriptor, sub = min(present, key=lambda one: SERVING_ORDER.index(one[0].number))
    kind = _KINDS[descriptor.number]
    message = _REQUESTS.get(kind)
    if message is None:
        return LegacyRequest(kind)
    values = _read(message, sub)
    if None in values[: _REQUIRED[kind]]:
        return IncompleteRequest(kind)
    return message(*values)


def encode_response(response: Response) -> bytes:
    wire = messages_pb2.Response()
    sub = _sub_message(wire, response.kind)
    if isinstance(response, LegacyResponse):
        for field in sub.DESCRIPTOR.fields:
            setattr(sub, field.name, response.error_code if field.name == "error_code" else 0)
    else:
        _write(sub, response)
    return wire.SerializeToString()


def decode_response(body: bytes, kind: MessageKind) -> QuotingResponse:
    """Decode the body of a response to a request of this kind; the response must have an error code."""
    wire = messages_pb2.Response()
    _parse(wire, body)
    if not wire.HasField(_FIELDS[kind]):
        raise _malformed(f"the answer does not match {kind.call}", "it is of another request")
    sub = _sub_message(wire, kind)
    if not sub.HasField("error_code"):
        why = "protobuf leaves out fields of value 0 unless told to write them"
        raise _malformed(f"the answer to {kind.call} has no error code", why)
    message = _RESPONSES[kind]
    return message(*_read(message, sub))


def _sub_message(wire: Message, kind: MessageKind) -> Message:
    sub: Message = getattr(wire, _FIELDS[kind])
    return sub


def _parse(wire: Message, body: bytes) -> None:
    try:
        wire.ParseFromString(body)
    except DecodeError as error:
        raise _malformed(f"{len(body)} bytes are no message", "they are not protobuf, or are truncated") from error


def _malformed(what: str, why: str) -> ProtocolError:
    remedy = "check what is at the other end of the AESM socket: it does not speak AESM"
    return ProtocolError(what, why=why, remedy=remedy)


def _read(message: type[QuotingRequest | QuotingResponse], sub: Message) -> list[Any]:
    has = sub.HasField
    return [getattr(sub, name) if has(name) else None for name in message.__slots__]


def _write(sub: Message, message: QuotingRequest | QuotingResponse) -> None:
    for name in message.__slots__:
        value = getattr(message, name)
        if value is not None:
            setattr(sub, name, value)
