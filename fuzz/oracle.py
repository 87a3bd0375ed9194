"""Whether a connection ended as docs/reference/aesm.md says: its rules once more, without the code under test.

Only protobuf's library decides, here as there, whether bytes are a message, and what its fields are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from confcom.aesm import messages_pb2
from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import MessageKind
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from fuzz.inputs import GET_QUOTE, IDS, INIT, KINDS, LEGACY_KINDS, NUM, QUOTE_SIZE, SELECT

HEADER_SIZE: Final = 4
MAX_REQUEST_SIZE: Final = 64 * 1024
MAX_QUOTE_BUFFER: Final = 64 * 1024
KEY_ID_SIZE, KEY_ID_NAMED, MAX_LISTED = 256, 158, 10
REPORT_SIZE, REPORT_INFO_SIZE, PUB_KEY_ID_SIZE, TARGET_INFO_SIZE = 432, 960, 32, 512
SUCCESS, UNEXPECTED, PARAMETER, UNAVAILABLE, UNSUPPORTED_KEY = 0, 1, 3, 30, 38
REQUIRED: Final[Mapping[int, set[int]]] = {INIT: {3}, GET_QUOTE: {1, 4}, IDS: {1}}
QUOTED_REPORT: Final = slice(48, 48 + 384)
"""The report's body in a quote."""
SILENT, CUT, BAD_LENGTH, NO_REQUEST = "nothing", "a cut frame", "a bad length", "no request"
"""Bytes that are not answered."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What depends on the quoting enclave: reports that it accepts, its quotes' size, the code for other reports."""

    reports: Collection[bytes]
    quote_size: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Request:
    """A request that must be answered: its field, and its own fields by number, which legacy ones have not."""

    kind: int
    sent: dict[int, Any]

    def code(self, rules: Rules) -> int:
        """The due code."""
        sent = self.sent
        if REQUIRED.get(self.kind, set()) - sent.keys():
            return UNEXPECTED
        code = SUCCESS
        if self.kind in LEGACY_KINDS:
            code = UNAVAILABLE
        elif self.kind == IDS:
            code = SUCCESS if sent[1] == KEY_ID_SIZE else PARAMETER
        elif self.kind == SELECT and 1 in sent:
            codes = [_key_code(entry) for entry in self.listed()]
            code = min(codes, default=PARAMETER)
        elif self.kind in {INIT, QUOTE_SIZE}:
            code = _key_code(sent.get(1))
            if self.kind == INIT and code == SUCCESS and sent[3] and sent.get(4) != PUB_KEY_ID_SIZE:
                code = PARAMETER
        elif self.kind == GET_QUOTE:
            code = _key_code(sent.get(2)) or self._quote_code(rules)
        return code

    def _quote_code(self, rules: Rules) -> int:
        right_sizes = len(self.sent[1]) == REPORT_SIZE and len(self.sent.get(3, bytes(960))) == REPORT_INFO_SIZE
        if not right_sizes or not rules.quote_size <= self.sent[4] <= MAX_QUOTE_BUFFER:
            return PARAMETER
        return SUCCESS if self.sent[1] in rules.reports else rules.rejected

    def listed(self) -> list[bytes]:
        """The entries of a list for SelectAttKeyID; nothing if it is no list, or an empty one."""
        head, entries = self.sent[1][:8], self.sent[1][8:]
        count = int.from_bytes(head[4:], "little")
        if len(head) < 8 or any(head[:4]) or count > MAX_LISTED or len(entries) != count * KEY_ID_SIZE:
            return []
        return [entries[at : at + KEY_ID_SIZE] for at in range(0, len(entries), KEY_ID_SIZE)]

    def is_right(self, got: dict[int, Any], code: int, rules: Rules) -> bool:
        """Whether the fields of an answer with the due code are right."""
        sent, right = self.sent, set(got) <= {3}
        if self.kind in LEGACY_KINDS:
            right = not any(got.values())
        elif self.kind == NUM:
            right = got == {2: 1}
        elif self.kind == QUOTE_SIZE:
            right = got.get(2, 0) == (rules.quote_size if code == SUCCESS else 0)
        elif self.kind == GET_QUOTE and code != SUCCESS:  # qe_report_info returns, unless the request lacks something
            right = 2 not in got and got.get(3, b"") == (b"" if code == UNEXPECTED else sent.get(3, b""))
        elif self.kind == GET_QUOTE:
            right = self._is_right_quote(got, rules)
        elif code == SUCCESS and self.kind == INIT:
            sizes = len(got.get(2, b"")), got.get(3), len(got.get(4, b""))
            key_id_size = PUB_KEY_ID_SIZE if sent[3] else 0
            right = sizes == (TARGET_INFO_SIZE, PUB_KEY_ID_SIZE, key_id_size) and any(got[2]) == bool(sent[3])
        elif code == SUCCESS:
            right = bool(got.get(2)) and (self.kind == IDS or 1 not in sent or got[2] in self.listed())
        return right

    def _is_right_quote(self, got: dict[int, Any], rules: Rules) -> bool:
        quote, info, echoed = got.get(2, b""), self.sent.get(3, b""), got.get(3, b"")
        if len(quote) != self.sent[4] or any(quote[rules.quote_size :]) or quote[QUOTED_REPORT] != self.sent[1][:384]:
            return False
        nonce_and_target = slice(0, 16 + TARGET_INFO_SIZE)
        return len(echoed) == len(info) and bool(echoed[nonce_and_target] == info[nonce_and_target])


def read(data: bytes) -> Request | str:
    """The request in all that a client sent, or why there is none."""
    length = int.from_bytes(data[:HEADER_SIZE], "little")
    if not data:
        return SILENT
    if len(data) >= HEADER_SIZE and not 0 < length <= MAX_REQUEST_SIZE:
        return BAD_LENGTH
    if len(data) < HEADER_SIZE + max(length, 1):
        return CUT
    try:
        requests = _fields(messages_pb2.Request.FromString(data[HEADER_SIZE : HEADER_SIZE + length]))
    except DecodeError:
        return NO_REQUEST
    for kind in KINDS:
        if kind in requests:
            return Request(kind, {} if kind in LEGACY_KINDS else _fields(requests[kind]))
    return NO_REQUEST


def judge(data: bytes, answer: bytes | None, rules: Rules) -> tuple[str, str]:
    """What came of a connection, and what is wrong with it or nothing; without an answer the client did not read."""
    request = read(data)
    if isinstance(request, str):
        return f"closed after {request}", f"an answer where none is due: {answer[:40].hex()}" if answer else ""
    call, code = MessageKind(request.kind).call, request.code(rules)
    if answer is None:
        return f"left after {call}", ""
    return f"answered {call} {AesmErrorCode(code).name}", _wrong(request, answer, code, rules)


def _wrong(request: Request, answer: bytes, code: int, rules: Rules) -> str:
    body = answer[HEADER_SIZE:]
    if not body or answer[:HEADER_SIZE] != len(body).to_bytes(HEADER_SIZE, "little"):
        return f"no answer of one frame where one is due: {answer[:40].hex()}"
    try:
        answers = _fields(messages_pb2.Response.FromString(body))
    except DecodeError:
        return f"an answer cannot be read: {body[:40].hex()}"
    if set(answers) != {request.kind}:
        return f"an answer is in another field: {[*answers]}, not {request.kind}"
    got = _fields(answers[request.kind])
    if (other := got.pop(1, None)) != code:
        return f"an answer has another code: {other}, not {code}"
    return "" if request.is_right(got, code, rules) else f"an answer says something else: {got}, with code {code}"


def _fields(message: Message) -> dict[int, Any]:
    return {field.number: value for field, value in message.ListFields()}


def _key_code(key_id: bytes | None) -> int:
    if key_id is None or len(key_id) < KEY_ID_SIZE:
        return PARAMETER
    return SUCCESS if key_id.startswith(ECDSA_P256_KEY_ID.encode()[:KEY_ID_NAMED]) else UNSUPPORTED_KEY
