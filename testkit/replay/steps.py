"""The requests that clients write, and what they check in the answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from confcom.aesm.messages import MessageKind
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.sgx.report import REPORT_BODY_SIZE, REPORT_SIZE, Report, TargetInfo
from confcom.simulation.enclave import ReportRejectedError
from testkit.replay import wire
from testkit.replay.model import ClientGivesUpError, Fields, State, Step

KEY = ECDSA_P256_KEY_ID.encode()
"""The key id that Intel's ql wrapper and Gramine have compiled in, and that the others are told: 256 bytes."""
KEY_LIST = (0).to_bytes(4, "little") + (1).to_bytes(4, "little") + KEY
"""sgx_att_key_id_list_t with that key alone: id and version 0, then the number of entries; 264 bytes."""

KEY_ID_SIZE = 256
PUB_KEY_ID_SIZE = 32
TARGET_INFO_SIZE = 512
QUOTE_HEAD_SIZE = 436
"""sgx_quote_t without the signature data, the last four bytes of which are the signature data's size."""
REPORT_BODY = slice(48, 48 + REPORT_BODY_SIZE)
QE_REPORT_DATA = slice(564 + 320, 564 + 320 + PUB_KEY_ID_SIZE)
"""Where a quote carries the attestation key's id: the report data of the QE's report."""
NONCE_AND_TARGET = 528
"""Bytes of qe_report_info before the QE's report."""


def need(condition: object, complaint: str) -> None:
    if not condition:
        raise ClientGivesUpError(complaint)


def integer(answer: Fields, field: int) -> int:
    """A number; what is absent is 0, as protobuf libraries have it."""
    value = answer.get(field, 0)
    need(isinstance(value, int), f"field {field} is no number")
    return value if isinstance(value, int) else 0


def octets(answer: Fields, field: int) -> bytes:
    """Bytes; what is absent is empty, as protobuf libraries have it."""
    value = answer.get(field, b"")
    need(isinstance(value, bytes), f"field {field} is no bytes")
    return value if isinstance(value, bytes) else b""


def key_count(timeout: int) -> Step:
    def learn(state: State, answer: Fields) -> State:
        need(integer(answer, 2), "no attestation key")
        return replace(state, key_count=integer(answer, 2))

    return Step(MessageKind.GET_SUPPORTED_ATT_KEY_ID_NUM, lambda _: wire.data(21, wire.number(9, timeout)), learn)


def key_ids(timeout: int) -> Step:
    """The buffer must be filled exactly: Fortanix and oasis-core compare the sizes; Open Enclave skips the algorithms
    that it does not know."""

    def learn(state: State, answer: Fields) -> State:
        need(len(octets(answer, 2)) == state.key_count * KEY_ID_SIZE, "wrong buffer size returned by aesm service")
        key = octets(answer, 2)[:KEY_ID_SIZE]
        need(int.from_bytes(key[154:158], "little") in {0, 1, 2}, "an algorithm that cannot be mapped")
        return replace(state, key_id=key)

    def body(state: State) -> bytes:
        return wire.data(22, wire.number(1, state.key_count * KEY_ID_SIZE) + wire.number(9, timeout))

    return Step(MessageKind.GET_SUPPORTED_ATT_KEY_IDS, body, learn)


def select(timeout: int, listed: bytes | None = None) -> Step:
    """The only request with its timeout in field 2."""

    def learn(state: State, answer: Fields) -> State:
        need(len(octets(answer, 2)) == KEY_ID_SIZE, "no attestation key id")
        return replace(state, key_id=octets(answer, 2))

    body = wire.data(19, wire.data(1, listed) + wire.number(2, timeout))
    return Step(MessageKind.SELECT_ATT_KEY_ID, lambda _: body, learn)


def init_for_size(timeout: int, *, buf_size: int | None = None, use_target: bool = False) -> Step:
    """InitQuoteEx that asks only how large the public key id is.

    Args:
        timeout: of the request.
        buf_size: what stands in that field, meant or not; None: absent.
        use_target: whether the client takes the target info of this answer for the quoting enclave's.
    """

    def learn(state: State, answer: Fields) -> State:
        need(integer(answer, 3) == PUB_KEY_ID_SIZE, "the public key id's size is not 32")
        need(len(octets(answer, 2)) == TARGET_INFO_SIZE, "target info of the wrong size")
        known = replace(state, pub_key_id_size=integer(answer, 3))
        return replace(known, target_info=octets(answer, 2)) if use_target else known

    def body(state: State) -> bytes:
        return _init(state, present=False, buf_size=buf_size, timeout=timeout)

    return Step(MessageKind.INIT_QUOTE_EX, body, learn)


def init_for_target(timeout: int | None, *, buf_size: int | None = None, read_timer: bool = True) -> Step:
    """InitQuoteEx for target info and public key id.

    Args:
        timeout: of the request; None: absent.
        buf_size: a compiled-in size; None: what the call before said.
        read_timer: whether the client limits how long it waits for this answer.
    """

    def learn(state: State, answer: Fields) -> State:
        need(len(octets(answer, 2)) == TARGET_INFO_SIZE, "Quoting Enclave returned invalid target info")
        need(
            integer(answer, 3) == len(octets(answer, 4)) == PUB_KEY_ID_SIZE,
            "the public key id does not have the size it says",
        )
        return replace(state, target_info=octets(answer, 2), pub_key_id=octets(answer, 4))

    def body(state: State) -> bytes:
        return _init(state, present=True, buf_size=buf_size or state.pub_key_id_size, timeout=timeout)

    return Step(MessageKind.INIT_QUOTE_EX, body, learn, read_timer)


def _init(state: State, *, present: bool, buf_size: int | None, timeout: int | None) -> bytes:
    key = wire.data(1, state.key_id or KEY)
    return wire.data(15, key + wire.number(3, present) + wire.number(4, buf_size) + wire.number(9, timeout))


def quote_size(timeout: int) -> Step:
    def learn(state: State, answer: Fields) -> State:
        size = integer(answer, 2)
        need(size, "the size of a quote is 0")
        need(state.quote_size in {0, size}, "the size of a quote changed")
        return replace(state, quote_size=size)

    def body(state: State) -> bytes:
        return wire.data(16, wire.data(1, state.key_id or KEY) + wire.number(9, timeout))

    return Step(MessageKind.GET_QUOTE_SIZE_EX, body, learn)


def quote(
    timeout: int | None, *, buf_size: int | None = None, check: Callable[[State, Fields], None] | None = None
) -> Step:
    """GetQuoteEx.

    Args:
        timeout: of the request; None: absent.
        buf_size: a compiled-in buffer's size; None: what GetQuoteSizeEx said.
        check: what the client looks at in the qe_report_info; None: it sends none and wants none.
    """

    def learn(state: State, answer: Fields) -> State:
        buffer = buf_size or state.quote_size
        filled = octets(answer, 2)
        need(len(filled) == buffer, f"a quote of {len(filled)} bytes in a buffer of {buffer}")
        known = replace(state, quote=_own_quote(state, filled, exact=buf_size is None))
        if check is None:
            need(3 not in answer, "qe_report_info that was not asked for")
        else:
            check(known, answer)
        return known

    def body(state: State) -> bytes:
        assert state.report is not None
        return wire.data(
            17,
            wire.data(1, state.report.encode())
            + wire.data(2, state.key_id or KEY)
            + wire.data(3, None if check is None else _nonce_and_target(state) + bytes(REPORT_SIZE))
            + wire.number(4, buf_size or state.quote_size)
            + wire.number(9, timeout),
        )

    return Step(MessageKind.GET_QUOTE_EX, body, learn)


def _nonce_and_target(state: State) -> bytes:
    return state.nonce + state.enclave.target_info().encode()


def _own_quote(state: State, padded: bytes, *, exact: bool) -> bytes:
    """The quote without its padding. Clients look at the sizes; that it is the answer to this very report, and by the
    key that was announced, is checked here for all of them."""
    assert state.report is not None
    size = QUOTE_HEAD_SIZE + int.from_bytes(padded[QUOTE_HEAD_SIZE - 4 : QUOTE_HEAD_SIZE], "little")
    need(size == len(padded) if exact else size <= len(padded), f"a quote of {size} bytes in {len(padded)}")
    need(not any(padded[size:]), "the padding is not zeros")
    need(padded[REPORT_BODY] == state.report.body.encode(), "a quote over another report")
    announced = state.pub_key_id or padded[QE_REPORT_DATA]
    need(padded[QE_REPORT_DATA] == announced, "a quote by another key than the one announced")
    return padded[:size]


def echoed(state: State, answer: Fields) -> None:
    """Fortanix: `qe_report_info[528..]`, a panic if it is shorter; nonce and target must be as they were."""
    info = octets(answer, 3)
    need(len(info) == NONCE_AND_TARGET + REPORT_SIZE, "panicked: range start index 528 out of range")
    need(info[:NONCE_AND_TARGET] == _nonce_and_target(state), "qe_report_info for another nonce or enclave")


def attested(state: State, answer: Fields) -> None:
    """Intel's ukey_exchange: the enclave checks the QE report's MAC, that the QE is the one that the report was made
    for, and that it vouches for this nonce and exactly this quote."""
    echoed(state, answer)
    try:
        qe_report = Report.parse(octets(answer, 3)[NONCE_AND_TARGET:])
        state.enclave.verify_report(qe_report)
    except ReportRejectedError as error:
        raise ClientGivesUpError("SGX_ERROR_MAC_MISMATCH: the QE's report is not for this enclave") from error
    body, target = qe_report.body, TargetInfo.parse(state.target_info)
    need(
        (body.mr_enclave, body.flags, body.xfrm) == (target.mr_enclave, target.flags, target.xfrm),
        "the QE's report is by another enclave than the target info named",
    )
    expected = hashlib.sha256(state.nonce + state.quote).digest() + bytes(32)
    need(body.report_data == expected, "the QE's report is about another nonce or quote")
