"""What Intel's server was seen to answer, call by call, as data: a request, and the answer it must get.

The server was that of release 2.29 with a stand-in for the quoting enclave, but for legacy requests (2.26). Where the
quote helper answers something else on purpose, the row is in `test_deviations.py` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from testkit.replay import wire
from testkit.replay.steps import KEY, KEY_LIST

OTHER_SIGNER = KEY[:6] + bytes([KEY[6] ^ 1]) + KEY[7:]
OTHER_ALGORITHM = KEY[:154] + (3).to_bytes(4, "little") + KEY[158:]
CALLERS_OWN = KEY[:158] + bytes(range(98))
"""The key with what a caller may put beside its name: spid, att_key_type, reserved."""
INFO = bytes(range(16)) + bytes(512 + 432)

CLOSED: Mapping[int, Any] = {}
"""No byte, and the connection is closed."""


@dataclass(frozen=True, slots=True)
class OfSize:
    """Equal to bytes of this length, whatever they are."""

    size: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, bytes) and len(other) == self.size

    def __hash__(self) -> int:
        return hash(self.size)


@dataclass(frozen=True, slots=True)
class Made:
    """What a request may need that only a running service can tell.

    Args:
        report: 432 bytes, made for its quoting enclave.
        size: of its quotes.
    """

    report: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the reference.

    Args:
        text: what it says; the test's name.
        body: the request.
        answer: the fields of the answer by number, or CLOSED; or how to tell them.
    """

    text: str
    body: Callable[[Made], bytes]
    answer: Mapping[int, Any] | Callable[[Made], Mapping[int, Any]]


def num() -> bytes:
    return wire.data(21, wire.number(9, 15_000))


def ids(buf_size: int | None) -> bytes:
    return wire.data(22, wire.number(1, buf_size))


def select(listed: bytes | None) -> bytes:
    return wire.data(19, wire.data(1, listed))


def init(key: bytes | None = KEY, *, present: bool | None = True, buf_size: int | None = 32) -> bytes:
    return wire.data(15, wire.data(1, key) + wire.number(3, present) + wire.number(4, buf_size))


def size(key: bytes | None = KEY) -> bytes:
    return wire.data(16, wire.data(1, key))


def quote(
    report: bytes | None, *, key: bytes | None = KEY, info: bytes | None = None, buf_size: int | None = 8192
) -> bytes:
    content = wire.data(1, report) + wire.data(2, key) + wire.data(3, info) + wire.number(4, buf_size)
    return wire.data(17, content)


def key_list(*entries: bytes, id_and_version: int = 0, count: int | None = None) -> bytes:
    header = id_and_version.to_bytes(4, "little") + (len(entries) if count is None else count).to_bytes(4, "little")
    return header + b"".join(entries)


def fixed(text: str, body: bytes, answer: Mapping[int, Any]) -> Row:
    return Row(text, lambda _: body, answer)


UNKNOWN = tuple(
    fixed(f"unknown field {field}: closed, no bytes", wire.data(field, b""), CLOSED) for field in (5, 7, 20, 23, 99)
)

MISSING = (
    Row("GetQuoteEx without report: 1", lambda _: quote(None), {17: {1: 1}}),
    Row("GetQuoteEx without buf_size: 1", lambda made: quote(made.report, buf_size=None), {17: {1: 1}}),
    fixed("InitQuoteEx without b_pub_key_id: 1, size 0", init(present=None), {15: {1: 1, 3: 0}}),
    fixed("GetSupportedAttKeyIDs without buf_size: 1", ids(None), {22: {1: 1}}),
)

LISTING = (
    fixed("Num: 1 with ECDSA only; errorCode is written though it is 0", num(), {21: {1: 0, 2: 1}}),
    fixed("IDs: buf_size num*256 gets as many bytes, sgx_att_key_id_ext_t each", ids(256), {22: {1: 0, 2: KEY}}),
    *(
        fixed(f"IDs: buf_size {wrong} instead of num*256: 3", ids(wrong), {22: {1: 3}})
        for wrong in (0, 1, 255, 257, 512)
    ),
)

SELECTING = (
    fixed("Select: no list: the only supported key", select(None), {19: {1: 0, 2: KEY}}),
    fixed("Select: a list that names it", select(KEY_LIST), {19: {1: 0, 2: KEY}}),
    fixed(
        "Select: the caller's 256 bytes return, spid and reserved included",
        select(key_list(CALLERS_OWN)),
        {19: {1: 0, 2: CALLERS_OWN}},
    ),
    fixed(
        "Select: in the caller's order, the unsupported skipped",
        select(key_list(OTHER_SIGNER, CALLERS_OWN, KEY)),
        {19: {1: 0, 2: CALLERS_OWN}},
    ),
    fixed("Select: 10 entries are accepted", select(key_list(*[OTHER_ALGORITHM] * 9, KEY)), {19: {1: 0, 2: KEY}}),
    fixed("Select: 11 entries: 3", select(key_list(*[KEY] * 11)), {19: {1: 3}}),
    fixed("Select: a list that is present but empty: 3", select(b""), {19: {1: 3}}),
    fixed("Select: no entry: 3", select(key_list()), {19: {1: 3}}),
    fixed("Select: header id != 0: 3", select(key_list(KEY, id_and_version=1)), {19: {1: 3}}),
    fixed("Select: header version != 0: 3", select(key_list(KEY, id_and_version=1 << 16)), {19: {1: 3}}),
    fixed("Select: fewer entries than announced: 3", select(key_list(KEY, count=2)), {19: {1: 3}}),
    fixed("Select: more entries than announced: 3", select(key_list(KEY, KEY, count=1)), {19: {1: 3}}),
    fixed("Select: shorter than one entry (263): 3", select(KEY_LIST[:-1]), {19: {1: 3}}),
    fixed("Select: no supported entry: 38", select(key_list(OTHER_SIGNER, OTHER_ALGORITHM)), {19: {1: 38}}),
)

INIT_DONE = {1: 0, 2: OfSize(512), 3: 32, 4: OfSize(32)}
INIT_SIZE = {1: 0, 2: bytes(512), 3: 32}
INITIALISING = (
    fixed("Init false: size 32 and 512 zeros of target info, no key id", init(present=False), {15: INIT_SIZE}),
    *(
        fixed(f"Init false: buf_size {junk} is not looked at", init(present=False, buf_size=junk), {15: INIT_SIZE})
        for junk in (None, 0, 33, 140_723_891_626_680, 2**64 - 1)
    ),
    fixed("Init true: target info, size, key id", init(), {15: INIT_DONE}),
    fixed("Init true without buf_size: 3, size 0", init(buf_size=None), {15: {1: 3, 3: 0}}),
    fixed("Init true, buf_size 33: 3, size 33", init(buf_size=33), {15: {1: 3, 3: 33}}),
    fixed("Init: an error repeats the caller's buf_size, else 0", init(KEY[:255], buf_size=77), {15: {1: 3, 3: 77}}),
)


def with_key(
    name: str, body: Callable[[bytes | None, Made], bytes], refusal: Mapping[int, Any], done: Any
) -> list[Row]:
    """The rules for key ids, which are the same for three calls."""

    def row(text: str, key: bytes | None, answer: Any) -> Row:
        return Row(f"{name}: {text}", lambda made: body(key, made), answer)

    def refused(code: int) -> Mapping[int, Any]:
        return {field: {1: code, **rest} for field, rest in refusal.items()}

    return [
        row("key id missing: 3", None, refused(3)),
        row("key id empty: 3", b"", refused(3)),
        row("key id of 158 bytes: 3", KEY[:158], refused(3)),
        row("key id of 255 bytes: 3", KEY[:255], refused(3)),
        row("key id of 300 bytes: accepted", KEY + bytes(44), done),
        row("key id by another signer: 38", OTHER_SIGNER, refused(38)),
        row("key id of another algorithm: 38", OTHER_ALGORITHM, refused(38)),
        row("key id whose bytes 158..255 differ: accepted", CALLERS_OWN, done),
    ]


KEYS = (
    *with_key("Init false", lambda key, _: init(key, present=False, buf_size=None), {15: {3: 0}}, {15: INIT_SIZE}),
    *with_key("Init true", lambda key, _: init(key), {15: {3: 32}}, {15: INIT_DONE}),
    *with_key("Size", lambda key, _: size(key), {16: {2: 0}}, lambda made: {16: {1: 0, 2: made.size}}),
    *with_key("Quote", lambda key, made: quote(made.report, key=key), {17: {}}, {17: {1: 0, 2: OfSize(8192)}}),
)

QUOTING = (
    Row(
        "Quote: as many bytes as buf_size",
        lambda made: quote(made.report, buf_size=9000),
        {17: {1: 0, 2: OfSize(9000)}},
    ),
    Row("Quote: a report of 431 bytes: 3", lambda made: quote(made.report[:-1]), {17: {1: 3}}),
    Row("Quote: a report of 433 bytes: 3", lambda made: quote(made.report + b"\0"), {17: {1: 3}}),
    fixed("Quote: an empty report: 3", quote(b""), {17: {1: 3}}),
    Row("Quote: buf_size 0: 3", lambda made: quote(made.report, buf_size=0), {17: {1: 3}}),
    Row(
        "Quote: an unsupported key and a report of 431 bytes: 38",
        lambda made: quote(made.report[:-1], key=OTHER_SIGNER),
        {17: {1: 38}},
    ),
    fixed("Quote: a report with a wrong MAC and buf_size 1: 3", quote(bytes(432), buf_size=1), {17: {1: 3}}),
    Row("Quote: buf_size one too small: 3", lambda made: quote(made.report, buf_size=made.size - 1), {17: {1: 3}}),
    Row("Quote: an empty qe_report_info: 3", lambda made: quote(made.report, info=b""), {17: {1: 3}}),
    Row(
        "Quote: qe_report_info of 959 bytes: 3, and it returns",
        lambda made: quote(made.report, info=INFO[:-1]),
        {17: {1: 3, 3: INFO[:-1]}},
    ),
    Row(
        "Quote: an error returns qe_report_info as it came",
        lambda made: quote(made.report, info=INFO, buf_size=1),
        {17: {1: 3, 3: INFO}},
    ),
)

BOTH = (
    fixed("two requests in one: Init before Size", size() + init(), {15: INIT_DONE}),
    fixed("two requests in one: Size before Select", select(None) + size(KEY[:1]), {16: {1: 3, 2: 0}}),
    fixed("two requests in one: Select before Num", num() + select(b""), {19: {1: 3}}),
    fixed("two requests in one: Num before IDs", ids(256) + num(), {21: {1: 0, 2: 1}}),
    fixed("a legacy call beside a valid one: the valid one is served", wire.data(3, b"\xff") + init(), {15: INIT_DONE}),
    fixed("a legacy call beside one that lacks a field: 1", wire.data(18, b"") + ids(None), {22: {1: 1}}),
    fixed("a valid request and an unknown field: served", num() + wire.data(99, b"x" * 40), {21: {1: 0, 2: 1}}),
    fixed("an unknown field in the request itself: ignored", wire.data(21, wire.number(50, 7)), {21: {1: 0, 2: 1}}),
    fixed(
        "the order of fields does not matter",
        wire.data(22, wire.number(9, 15_000) + wire.number(1, 256)),
        {22: {1: 0, 2: KEY}},
    ),
    fixed("the timeout is ignored, whatever its unit", wire.data(21, wire.number(9, 0)), {21: {1: 0, 2: 1}}),
)

ROWS = (*UNKNOWN, *MISSING, *LISTING, *SELECTING, *INITIALISING, *KEYS, *QUOTING, *BOTH)
