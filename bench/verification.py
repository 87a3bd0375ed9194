"""Verification of quotes: with collateral parsed once, with dcap-qvl alone, and with collateral parsed each time."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dcap_qvl

from bench.load import WrongAnswerError
from bench.machine import Checkout, Cores, on_core
from bench.report import Goal, Section, in_turn, say
from confcom.testing import Attestation, Evidence
from confcom.verify import SgxPolicy, TdxPolicy, verify
from testkit.verify import intels_library

VERIFICATIONS = 500
"""Number of verifications of each side in a round; one takes under a millisecond."""
PREPARED, ALONE, EACH_TIME = "collateral parsed once", "dcap-qvl alone", "parsed each time"
INTELS = "Intel's QVL"
"""Its interface parses collateral each time. It judges no quotes of TDX, and exists for Python 3.11 on x86-64 Linux."""
RATIO = "collateral parsed once, in the time of dcap-qvl alone"
GOALS = {RATIO: Goal(1.4)}
Turns = Mapping[str, Callable[[], object]]


def measure_verification(sides: Mapping[str, Checkout], rounds: int, directory: Path) -> list[Section]:
    del sides, directory  # another checkout may lack these functions
    made, now = Attestation.create(), datetime.now(UTC)
    turns = {
        "SGX": _turns(made.quote(b"challenge"), made.policy(b"challenge"), made.policy(b"another"), now),
        "TDX": _turns(made.td_quote(b"challenge"), made.td_policy(b"challenge"), made.td_policy(b"another"), now),
    }
    if find_spec("sgx_dcap_quote_verify") is not None:
        turns["SGX"] = {**turns["SGX"], INTELS: _intels_turn(made.quote(b"challenge"), now)}
    sections = {tee: Section(f"Verification of a quote of {tee}, on one core", [*turns[tee]], GOALS) for tee in turns}
    with on_core(Cores().server):
        for number in range(rounds):
            say(f"verification: round {number + 1} of {rounds}")
            for tee, section in sections.items():
                _measure_round(section, turns[tee], number)
    return [*sections.values()]


def _turns(evidence: Evidence, policy: SgxPolicy | TdxPolicy, other: SgxPolicy | TdxPolicy, now: datetime) -> Turns:
    prepared = evidence.collateral.prepared(evidence.root, now)
    collateral = dcap_qvl.QuoteCollateralV3.from_json(evidence.collateral.to_json())
    verifier, seconds = dcap_qvl.QuoteVerifier(evidence.root.der), int(now.timestamp())
    claims_only = dcap_qvl.QuotePolicy.claims_only(seconds)
    if verify(evidence.quote, other, prepared, now=now).ok:
        raise WrongAnswerError("a replayed quote is accepted")
    return {
        PREPARED: lambda: verify(evidence.quote, policy, prepared, now=now).require_ok(),
        ALONE: lambda: verifier.verify_with_policy(evidence.quote, collateral, seconds, claims_only),
        EACH_TIME: lambda: verify(evidence.quote, policy, evidence.collateral, evidence.root, now).require_ok(),
    }


def _intels_turn(evidence: Evidence, now: datetime) -> Callable[[], object]:
    qvl: Any = importlib.import_module("sgx_dcap_quote_verify")
    arguments = intels_library.arguments(evidence.quote, evidence.collateral, evidence.root.certificate, now)
    if qvl.verify(**arguments).quote_status.name != intels_library.ACCEPTED:
        raise WrongAnswerError("Intel's QVL refuses the quote")
    return lambda: qvl.verify(**arguments)


def _measure_round(section: Section, turns: Turns, number: int) -> None:
    took = {}
    for side, turn in in_turn(turns.items(), number):
        began = time.process_time()
        for _ in range(VERIFICATIONS):
            turn()
        took[side] = (time.process_time() - began) / VERIFICATIONS
        section.add(side, "CPU of a verification", "µs", took[side] * 1e6)
        section.add(side, "verifications per second", "", 1 / took[side])
    section.add(PREPARED, RATIO, "x", took[PREPARED] / took[ALONE])
