"""What attackers send."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.sgx.report import TARGET_INFO_SIZE, TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
from testkit.replay import wire

LONGEST = 65_536
"""Of a request, and of the buffer that a client may ask to have filled."""
SENT = 65_000
"""Of a request that never becomes complete."""
INIT_QUOTE_EX, GET_QUOTE_EX = 15, 17
"""Field numbers of both calls, in requests as in answers."""
TARGET_INFO = 2
"""The field of an answer to InitQuoteEx."""
KEY = ECDSA_P256_KEY_ID.encode()
INIT = wire.frame(wire.data(INIT_QUOTE_EX, wire.data(1, KEY) + wire.number(3, 1) + wire.number(4, 32)))
INCOMPLETE = LONGEST.to_bytes(wire.HEADER_SIZE, "little") + bytes(SENT)
MALFORMED = wire.frame(b"\xff" * 100)
ANSWER_SECONDS = 5.0
"""For the one answer that an attacker needs before it begins."""
RETRY_SECONDS = 0.1
"""Until it asks for it again."""


def quote_request(path: str, over: Callable[[], bool]) -> bytes:
    """GetQuoteEx for the longest answer, with a report that the helper's quoting enclave accepts.

    Args:
        path: of the helper's socket; it is asked for its target info until it tells it.
        over: whether it is too late; then the report is for nobody.
    """
    target = bytes(TARGET_INFO_SIZE)
    while not over():
        try:
            target = target_info_in(_answer_to_init(path))
            break
        except (OSError, ValueError):  # others may have the helper refuse or close
            time.sleep(RETRY_SECONDS)
    report = SimulatedEnclave.from_name("attacker").create_report(TargetInfo.parse(target), bytes(64))
    asked = wire.data(1, report.encode()) + wire.data(2, KEY) + wire.number(4, LONGEST)
    request: bytes = wire.frame(wire.data(GET_QUOTE_EX, asked))
    return request


def _answer_to_init(path: str) -> bytes:
    answer = b""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(ANSWER_SECONDS)
        sock.connect(path)
        sock.sendall(INIT)
        while chunk := sock.recv(LONGEST):
            answer += chunk
    return answer


def target_info_in(answer: bytes) -> bytes:
    """The target info in a whole answer to `INIT`.

    Raises:
        ValueError: there is none.
    """
    inner = _bytes_in(answer[wire.HEADER_SIZE :], INIT_QUOTE_EX)
    found = _bytes_in(inner, TARGET_INFO)
    if not found:
        raise ValueError("the answer to InitQuoteEx has no target info")
    return found


def _bytes_in(message: bytes, field: int) -> bytes:
    """A field's bytes; none if it has none."""
    value = wire.fields(message).get(field, b"")
    return value if isinstance(value, bytes) else b""
