"""What the service must do with an input: docs/reference/aesm.md once more, without a line of the code under test."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from fuzz.wire import HEADER_SIZE, MAX_GROUP_DEPTH, NotProtobufError, WireType, scan

INIT, QUOTE_SIZE, GET_QUOTE, SELECT, NUM, IDS = 15, 16, 17, 19, 21, 22
LEGACY_KINDS: Final = (1, 2, 3, 4, 10, 11, 12, 13, 14, 18)
SERVING_ORDER: Final = (15, 16, 17, 19, 21, 22, 3, 1, 2, 4, 18, 10, 11, 12, 13, 14)

MAX_REQUEST_SIZE: Final = 64 * 1024
MAX_QUOTE_BUFFER: Final = 64 * 1024
MAX_ANSWER_SIZE: Final = MAX_QUOTE_BUFFER + 1_024
"""The largest body: the largest quote buffer, and qe_report_info with the fields' headers (under 1,000 bytes)."""

KEY_ID_SIZE: Final = 256
KEY_ID_NAMED: Final = 158
LIST_HEADER_SIZE: Final = 8
MAX_LISTED: Final = 10
REPORT_SIZE: Final = 432
REPORT_INFO_SIZE: Final = 960
PUB_KEY_ID_SIZE: Final = 32

SUCCESS, UNEXPECTED, PARAMETER, UNAVAILABLE, UNSUPPORTED_KEY = 0, 1, 3, 30, 38

_SUPPORTED: Final = ECDSA_P256_KEY_ID.encode()

_NUMBERS: Final[Mapping[int, tuple[int, ...]]] = {
    INIT: (3, 4, 9),
    QUOTE_SIZE: (9,),
    GET_QUOTE: (4, 9),
    SELECT: (2,),
    NUM: (9,),
    IDS: (1, 9),
}
_BYTES: Final[Mapping[int, tuple[int, ...]]] = {
    INIT: (1,),
    QUOTE_SIZE: (1,),
    GET_QUOTE: (1, 2, 3),
    SELECT: (1,),
    NUM: (),
    IDS: (),
}
_REQUIRED: Final[Mapping[int, tuple[int, ...]]] = {
    INIT: (3,),
    QUOTE_SIZE: (),
    GET_QUOTE: (1, 4),
    SELECT: (),
    NUM: (),
    IDS: (1,),
}


class End(StrEnum):
    """How a connection must end."""

    ANSWERED = "answered"
    SILENT = "nothing was sent"
    CUT = "the frame is cut"
    BAD_LENGTH = "the length is none"
    NO_MESSAGE = "the body is no message"
    UNKNOWN = "no known request"


@dataclass(frozen=True, slots=True)
class Sent:
    """The values of a request, by field; what is absent has none."""

    numbers: dict[int, int]
    texts: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class Expected:
    """What must come of an input."""

    end: End
    kind: int = 0
    code: int = SUCCESS
    sent: Sent | None = None
    """What a quoting request held; nothing for legacy ones, whose content is never read."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What depends on the quoting enclave.

    Args:
        reports: those that it accepts.
        quote_size: of its quotes, in bytes.
        rejected: the code for other reports, 42 or 47.
    """

    reports: Collection[bytes]
    quote_size: int
    rejected: int


def expect(data: bytes, rules: Rules) -> Expected:
    """What must come of a connection on which so much arrived before its end."""
    length = int.from_bytes(data[:HEADER_SIZE], "little")
    if not data:
        return Expected(End.SILENT)
    if len(data) >= HEADER_SIZE and not 0 < length <= MAX_REQUEST_SIZE:
        return Expected(End.BAD_LENGTH)
    if len(data) < HEADER_SIZE + max(length, 1):
        return Expected(End.CUT)
    return _expect_of_body(data[HEADER_SIZE : HEADER_SIZE + length], rules)


def _expect_of_body(body: bytes, rules: Rules) -> Expected:
    try:
        requests = _requests(body)
    except NotProtobufError:
        return Expected(End.NO_MESSAGE)
    kind = next((kind for kind in SERVING_ORDER if kind in requests), None)
    if kind is None:
        return Expected(End.UNKNOWN)
    if kind in LEGACY_KINDS:
        return Expected(End.ANSWERED, kind, UNAVAILABLE)
    sent = requests[kind]
    return Expected(End.ANSWERED, kind, _code(kind, sent, rules), sent)


def _requests(body: bytes) -> dict[int, Sent]:
    """All sub-messages; those of one kind are merged, as protobuf does."""
    found: dict[int, Sent] = {}
    for field in scan(body):
        kind = field.number
        if kind in SERVING_ORDER and field.wire_type is WireType.BYTES and isinstance(field.value, bytes):
            sent = found.setdefault(kind, Sent({}, {}))
            if kind in LEGACY_KINDS:
                continue
            for inner in scan(field.value, MAX_GROUP_DEPTH - 1, lowest=1):
                if isinstance(inner.value, int):
                    if inner.number in _NUMBERS.get(kind, ()):
                        sent.numbers[inner.number] = inner.value
                elif inner.wire_type is WireType.BYTES and inner.number in _BYTES.get(kind, ()):
                    sent.texts[inner.number] = inner.value
    return found


def _code(kind: int, sent: Sent, rules: Rules) -> int:
    if any(field not in sent.numbers and field not in sent.texts for field in _REQUIRED[kind]):
        return UNEXPECTED
    rule = _RULES.get(kind)
    return SUCCESS if rule is None else rule(sent, rules)


def _ids(sent: Sent, _: Rules) -> int:
    return SUCCESS if _uint32(sent, 1) == KEY_ID_SIZE else PARAMETER


def _init(sent: Sent, _: Rules) -> int:
    size_is_wrong = sent.numbers[3] != 0 and sent.numbers.get(4) != PUB_KEY_ID_SIZE
    return _key_code(sent.texts.get(1)) or (PARAMETER if size_is_wrong else SUCCESS)


def _size(sent: Sent, _: Rules) -> int:
    return _key_code(sent.texts.get(1))


def _quote(sent: Sent, rules: Rules) -> int:
    report, info, size = sent.texts[1], sent.texts.get(3), _uint32(sent, 4)
    code = _key_code(sent.texts.get(2))
    if code != SUCCESS:
        return code
    if (
        len(report) != REPORT_SIZE
        or (info is not None and len(info) != REPORT_INFO_SIZE)
        or not 0 < size <= MAX_QUOTE_BUFFER
    ):
        return PARAMETER
    if size < rules.quote_size:
        return PARAMETER
    return SUCCESS if report in rules.reports else rules.rejected


def _select(sent: Sent, _: Rules) -> int:
    listed = sent.texts.get(1)
    if listed is None:
        return SUCCESS
    entries = key_id_entries(listed)
    if not entries:
        return PARAMETER
    return SUCCESS if any(_key_code(entry) == SUCCESS for entry in entries) else UNSUPPORTED_KEY


def key_id_entries(listed: bytes) -> list[bytes]:
    """What a list for SelectAttKeyID names; nothing if it is no list, or an empty one."""
    count = int.from_bytes(listed[4:LIST_HEADER_SIZE], "little")
    entries = listed[LIST_HEADER_SIZE:]
    if len(listed) < LIST_HEADER_SIZE or any(listed[:4]) or count > MAX_LISTED or len(entries) != count * KEY_ID_SIZE:
        return []
    return [entries[at : at + KEY_ID_SIZE] for at in range(0, len(entries), KEY_ID_SIZE)]


def _key_code(key_id: bytes | None) -> int:
    if key_id is None or len(key_id) < KEY_ID_SIZE:
        return PARAMETER
    return SUCCESS if key_id.startswith(_SUPPORTED[:KEY_ID_NAMED]) else UNSUPPORTED_KEY


def _uint32(sent: Sent, field: int) -> int:
    """Of what is too large, protobuf keeps the low half."""
    return sent.numbers[field] & 0xFFFFFFFF


_RULES: Final[Mapping[int, Callable[[Sent, Rules], int]]] = {
    IDS: _ids,
    SELECT: _select,
    INIT: _init,
    QUOTE_SIZE: _size,
    GET_QUOTE: _quote,
}
