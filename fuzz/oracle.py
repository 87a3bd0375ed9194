"""Whether what came of an input is what must come of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import MessageKind
from fuzz.model import (
    GET_QUOTE,
    IDS,
    INIT,
    LEGACY_KINDS,
    MAX_ANSWER_SIZE,
    NUM,
    PUB_KEY_ID_SIZE,
    QUOTE_SIZE,
    SELECT,
    SUCCESS,
    UNEXPECTED,
    End,
    Expected,
    Rules,
    expect,
    key_id_entries,
)
from fuzz.wire import HEADER_SIZE, NotProtobufError, WireType, scan

TARGET_INFO_SIZE: Final = 512
QUOTED_REPORT: Final = slice(48, 48 + 384)
"""Where a quote carries the report's body."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An input did not end as it must."""

    rule: str
    """Which rule was broken, without details, so that inputs that break the same one can be compared."""
    detail: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an input, for the counts."""

    end: str
    call: str = ""
    code: str = ""
    decoded: bool = False
    """Whether a request was understood."""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.end, self.call, self.code)))


def judge(data: bytes, answer: bytes | None, rules: Rules) -> Outcome | Finding:
    """Look at one connection.

    Args:
        data: all that was sent.
        answer: all that came, before the connection was closed; None if the client went without reading.
        rules: of the quoting enclave.
    """
    expected = expect(data, rules)
    if expected.end is not End.ANSWERED:
        if answer:
            return Finding("an answer where none is due", f"{expected.end}: {answer[:40].hex()}")
        return Outcome("left" if answer is None else "closed", expected.end)
    call, code = MessageKind(expected.kind).call, AesmErrorCode(expected.code).name
    if answer is None:
        return Outcome("left", call, decoded=True)
    if not answer:
        return Finding("no answer where one is due", f"{call} must be answered {code}")
    wrong = _wrong_answer(expected, answer, rules)
    return wrong or Outcome("answered", call, code, decoded=True)


def _wrong_answer(expected: Expected, answer: bytes, rules: Rules) -> Finding | None:
    body = answer[HEADER_SIZE:]
    if len(body) > MAX_ANSWER_SIZE:
        return Finding("an answer is too large", f"{len(body)} bytes")
    if len(answer) < HEADER_SIZE or int.from_bytes(answer[:HEADER_SIZE], "little") != len(body):
        return Finding("an answer is not one frame", answer[:40].hex())
    try:
        (outer,) = scan(body)
        fields = _fields(outer.value if isinstance(outer.value, bytes) else b"")
    except (NotProtobufError, ValueError) as error:
        return Finding("an answer cannot be read", f"{error}: {body[:40].hex()}")
    if outer.number != expected.kind or outer.wire_type is not WireType.BYTES:
        return Finding("an answer is in another field", f"{outer.number} instead of {expected.kind}")
    return _wrong_content(expected, fields, rules)


def _wrong_content(expected: Expected, fields: dict[int, int | bytes], rules: Rules) -> Finding | None:
    shown = ", ".join(
        f"{field}: {value.hex()[:40] if isinstance(value, bytes) else value}" for field, value in fields.items()
    )
    if fields.get(1) != expected.code:
        return Finding("an answer has another code", f"not {expected.code}, to {expected.kind}: {shown}")
    if not _content_is_right(expected, fields, rules):
        return Finding("an answer says something else", f"code {expected.code}, to {expected.kind}: {shown}")
    return None


def _fields(data: bytes) -> dict[int, int | bytes]:
    """Fields of an answer.

    Raises:
        NotProtobufError: it is no message.
        ValueError: a field is there twice, or is neither a number nor bytes.
    """
    found: dict[int, int | bytes] = {}
    for field in scan(data):
        if field.number in found or field.wire_type not in {WireType.VARINT, WireType.BYTES}:
            raise ValueError(f"field {field.number} is there twice, or of a strange type")
        found[field.number] = field.value
    return found


def _content_is_right(expected: Expected, fields: dict[int, int | bytes], rules: Rules) -> bool:
    rest = {number: value for number, value in fields.items() if number != 1}
    sent = expected.sent
    if sent is None or expected.kind in LEGACY_KINDS:
        return not any(rest.values())
    succeeded = expected.code == SUCCESS
    right = not rest
    match expected.kind, rest:
        case k, {2: size} if k == QUOTE_SIZE:
            right = size == (rules.quote_size if succeeded else 0)
        case k, {2: count} if k == NUM:
            right = count == 1
        case k, {2: key_id} if k == IDS:
            right = succeeded and isinstance(key_id, bytes) and bool(key_id)
        case k, {2: chosen} if k == SELECT:
            listed = sent.texts.get(1)
            right = succeeded and (listed is None or chosen in key_id_entries(listed))
        case k, _ if k == INIT:
            right = _identity_is_right(rest, wanted=bool(sent.numbers.get(3)), succeeded=succeeded)
        case k, _ if k == GET_QUOTE:
            right = _quote_is_right(expected, rest, rules)
    return right


def _identity_is_right(rest: dict[int, int | bytes], *, wanted: bool, succeeded: bool) -> bool:
    if not succeeded:
        return set(rest) == {3}
    target_info, key_id = rest.get(2), rest.get(4)
    if not isinstance(target_info, bytes) or len(target_info) != TARGET_INFO_SIZE or rest.get(3) != PUB_KEY_ID_SIZE:
        return False
    if not wanted:
        return not any(target_info) and key_id is None
    return any(target_info) and isinstance(key_id, bytes) and len(key_id) == PUB_KEY_ID_SIZE


def _quote_is_right(expected: Expected, rest: dict[int, int | bytes], rules: Rules) -> bool:
    assert expected.sent is not None
    info, echoed = expected.sent.texts.get(3), rest.get(3)
    if expected.code != SUCCESS:
        # What the client gave returns as it came, unless the request lacks something. An empty one may be left out.
        due = b"" if expected.code == UNEXPECTED else info or b""
        return 2 not in rest and (echoed or b"") == due
    quote, report = rest.get(2), expected.sent.texts[1]
    if not isinstance(quote, bytes) or len(quote) != expected.sent.numbers[4] & 0xFFFFFFFF:
        return False
    if quote[QUOTED_REPORT] != report[:384] or any(quote[rules.quote_size :]):
        return False
    if info is None:
        return echoed is None
    nonce_and_target = slice(0, 16 + TARGET_INFO_SIZE)
    return isinstance(echoed, bytes) and len(echoed) == len(info) and echoed[nonce_and_target] == info[nonce_and_target]
