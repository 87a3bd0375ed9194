"""Compares a session or a helper process with the answers of Intel's server, which `rows.json` holds.

Intel's server was release 2.29 with a stand-in for the quoting enclave, and 2.26 for legacy requests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from confcom.sgx.report import TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
from testkit.replay.clients import KEY, SIZES, encode, learn
from testkit.replay.wire import nested_fields

REFERENCE, LEGACY = json.loads(Path(__file__).with_name("rows.json").read_text()).values()
ENCLAVE = SimulatedEnclave.from_name("rows")

Ask = Callable[[bytes], bytes]
"""A function that sends a request's body; it returns the answer's body, or no bytes if no answer comes."""


def values(ask: Ask) -> dict[str, Any]:
    target = nested_fields(ask(encode({15: {"1": "$key", "3": 1, "4": 32}})))[15][2]
    report = ENCLAVE.create_report(TargetInfo.parse(target), bytes(range(64))).encode()
    size = nested_fields(ask(encode({16: {"1": "$key"}})))[16][2]
    return {
        "key": KEY,
        "key_158": KEY[:158],
        "key_255": KEY[:255],
        "other_signer": KEY[:6] + bytes([KEY[6] ^ 1]) + KEY[7:],
        "other_algorithm": KEY[:154] + (3).to_bytes(4, "little") + KEY[158:],
        "callers_own": KEY[:158] + bytes(range(98)),  # the caller sets spid, att_key_type and reserved
        "report": report,
        "report_431": report[:-1],
        "quote_size": size,
        "quote_size_less_1": size - 1,
    }


def require_row(row: Mapping[str, Any], ask: Ask, known: Mapping[str, Any]) -> None:
    answers = nested_fields(ask(encode(row["send"], known)))
    assert list(answers) == [int(call) for call in row["answer"]]
    for call, expected in row["answer"].items():
        learn(expected, answers[int(call)], known, SIZES | {"8192": 8192, "9000": 9000})
