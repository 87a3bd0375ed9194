"""`make fuzz-verifiers`: confcom, dcap-qvl and Intel's QVL judge the same mutated evidence, genuine and simulated.

What confcom accepts dcap-qvl must accept too, and no mutation may make `verify` raise or warn. Each share of inputs
runs in a process of its own: forged input makes dcap-qvl abort at times, which counts as a refusal.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from importlib.util import find_spec
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from random import Random
from threading import Thread
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.errors import ExitCode, MalformedError
from confcom.sgx.certificates import load_certificate
from confcom.sgx.certification import UNREADABLE_X509
from confcom.sgx.collateral_bundle import CollateralBundle
from confcom.sgx.quote import Quote, QuoteFrame
from confcom.sgx.signed_json import SignedJson
from confcom.sgx.tcb_documents import QE_IDENTITY_NAME, TCB_INFO_NAME
from confcom.verify import INTEL, Collateral, TrustedRoot
from confcom.verify.trust import intel_root
from fuzz.evidence import CRLS, GENUINE_NOW, SIGNED_PARTS, GoodEvidence, SimulatedEvidence, chain_of
from fuzz.mutations import bytes_mutated, der_mutated, tokens_mutated
from testkit.verify import intels_library
from testkit.verify.td_lab import BODIES

PROCESSES: Final = 2
SHARE_OF_QUOTES: Final = 0.5
"""Share of mutations that change the quote; the others change one part of the collateral."""
SHARE_SIGNED_AGAIN: Final = 0.5
"""Share of mutations of simulated evidence that are signed again by the right key."""
MAX_SHOWN: Final = 200
ACCEPTED: Final = "ok"
ABORTED: Final = "aborted"
_INTELS: Final = {"STATUS_OK", "STATUS_TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED"}
"""Statuses by which Intel's QVL accepts the two good quotes."""
_NAMES: Final = {"tcb_info": TCB_INFO_NAME, "qe_identity": QE_IDENTITY_NAME}


@dataclass(frozen=True, slots=True)
class Mutated:
    """Evidence with one changed part."""

    part: str
    """The field of the collateral, or `quote`; with `, signed again` behind it if it was."""
    quote: bytes
    collateral: Collateral


def mutated(good: GoodEvidence, seed: int, index: int) -> Mutated:
    """Return the evidence of this number, independently of other numbers."""
    random = Random(f"{seed} {index}")
    again = isinstance(good, SimulatedEvidence) and random.random() < SHARE_SIGNED_AGAIN
    if random.random() < SHARE_OF_QUOTES:
        quote = _mutated_quote(good, random, again=again)
        return Mutated("quote, signed again" if again else "quote", quote, good.collateral)
    part = random.choice([field.name for field in fields(CollateralBundle)])
    data = getattr(good.collateral, part)
    mutation = der_mutated if part in CRLS else tokens_mutated if part in SIGNED_PARTS else bytes_mutated
    changed = random.choice((mutation, mutation, bytes_mutated))(data, random)
    if isinstance(good, SimulatedEvidence) and again:
        changed, part = _signed_part(good, part, changed), f"{part}, signed again"
    return Mutated(part, good.quote, replace(good.collateral, **{part.partition(",")[0]: changed}))


def _mutated_quote(good: GoodEvidence, random: Random, *, again: bool) -> bytes:
    quote = good.quote
    certification = Quote.parse(quote).signature.certification
    ders = [x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER) for pem in certification.pem_chain()]
    number = random.randrange(len(ders))
    if not isinstance(good, SimulatedEvidence) or not again:
        if random.random() < 0.5:
            return bytes_mutated(quote, random)
        ders[number] = der_mutated(ders[number], random)
    elif random.random() < 0.5:
        size = len(QuoteFrame.parse(quote).signed_part)
        changed = bytes_mutated(quote[:size], random)[:size].ljust(size, b"\0") + quote[size:]
        try:
            return good.signed_quote(Quote.parse(changed))
        except MalformedError:
            return changed
    else:
        ders[0] = der_mutated(ders[0], random)
        with contextlib.suppress(MalformedError):
            ders[0] = good.signed_leaf(load_certificate(ders[0], "the leaf"))
    parsed = Quote.parse(quote)
    signature = replace(parsed.signature, certification=chain_of(*ders))
    return replace(parsed, signature=signature).encode()


def _signed_part(good: SimulatedEvidence, part: str, data: bytes) -> bytes:
    """Return a part of the collateral signed again by its right key; unchanged if it cannot be parsed."""
    with contextlib.suppress(MalformedError, *UNREADABLE_X509):
        if part in CRLS:
            return good.signed_crl(part, x509.load_der_x509_crl(data))
        if part in SIGNED_PARTS:
            return good.signed_document(SignedJson.parse(data, _NAMES[part]))
    return data


@dataclass(frozen=True, slots=True)
class Judgements:
    ours: str
    dcap_qvl: str
    intels: str
    codes: tuple[str, ...] = ()
    """Codes of our failed checks."""


def judge(good: GoodEvidence, evidence: Mutated, tell: Callable[[Judgements], None] = lambda _: None) -> Judgements:
    """Return the three verdicts; `tell` hears those that are known before a library is asked that may abort."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verdict = replace(good, collateral=evidence.collateral).verdict(evidence.quote)
    codes = tuple(check.code for check in verdict.failures)
    result = Judgements(ACCEPTED if verdict.ok else verdict.kind.value, ABORTED, ABORTED, codes)
    tell(result)
    result = replace(result, dcap_qvl=_dcap_qvls(good, evidence))
    tell(result)
    return replace(result, intels=_intels(good, evidence))


def _dcap_qvls(good: GoodEvidence, evidence: Mutated) -> str:
    dcap_qvl: Any = importlib.import_module("dcap_qvl")
    parts = evidence.collateral
    try:
        tcb_info = SignedJson.parse(parts.tcb_info, TCB_INFO_NAME)
        qe_identity = SignedJson.parse(parts.qe_identity, QE_IDENTITY_NAME)
        chains = {name: getattr(parts, name).decode() for name in _chains()}
        collateral = dcap_qvl.QuoteCollateralV3(
            root_ca_crl=parts.root_ca_crl,
            pck_crl=parts.pck_crl,
            tcb_info=tcb_info.body.decode(),
            tcb_info_signature=tcb_info.signature,
            qe_identity=qe_identity.body.decode(),
            qe_identity_signature=qe_identity.signature,
            **chains,
        )
        dcap_qvl.verify_with_root_ca(evidence.quote, collateral, _root(good).der, int(good.now.timestamp()))
    except (MalformedError, ValueError) as error:
        return f"refused: {error}"[:MAX_SHOWN]
    return ACCEPTED


@cache
def _chains() -> tuple[str, ...]:
    return tuple(field.name for field in fields(CollateralBundle) if field.name.endswith("_issuer_chain"))


def _root(good: GoodEvidence) -> TrustedRoot:
    return intel_root() if good.root is INTEL else good.root  # there is one KnownRoot


def _intels(good: GoodEvidence, evidence: Mutated) -> str:
    if find_spec("sgx_dcap_quote_verify") is None:
        return "not installed"
    qvl: Any = importlib.import_module("sgx_dcap_quote_verify")
    try:
        root = _root(good).certificate
        result = qvl.verify(**intels_library.arguments(evidence.quote, evidence.collateral, root, good.now))
    except (MalformedError, RuntimeError, *UNREADABLE_X509) as error:
        return f"refused: {error}"[:MAX_SHOWN]
    statuses = (result.pck_certificate_status, result.tcb_info_status, result.qe_identity_status, result.quote_status)
    names = [status.name for status in statuses]
    return ACCEPTED if set(names) <= _INTELS else next(name for name in names if name not in _INTELS)


def _work(kind: str, seed: int, indexes: range, tell: Connection) -> None:
    good = GOOD[kind]()
    for index in indexes:
        tell.send(index)
        try:
            tell.send(judge(good, mutated(good, seed, index), tell.send))
        except Exception as error:  # noqa: BLE001 # whatever it is, it is what is looked for
            tell.send(f"{type(error).__name__}: {error}"[:MAX_SHOWN])
    tell.send(None)


GOOD: Final[Mapping[str, Any]] = {
    "genuine": GoodEvidence.genuine,
    "simulated": SimulatedEvidence.create,
    **{name: partial(GoodEvidence.genuine, name) for name in GENUINE_NOW if name.startswith("tdx")},
    **{f"simulated TD {kind}": partial(SimulatedEvidence.of_a_td, kind) for kind in BODIES},
}
"""Makes the evidence of each kind. Intel's QVL refuses every quote of TDX; `tdx_quote_outdated` is accepted by none."""


class Campaign:
    """Judges a share of the inputs in a child process, and begins another child behind each input that ended one."""

    def __init__(self, kind: str, seed: int) -> None:
        self.kind = kind
        self.seed = seed
        self.outcomes: Counter[tuple[str, str, str]] = Counter()
        self.codes: Counter[str] = Counter()
        self.wrong: list[str] = []

    def run(self, indexes: range) -> None:
        first = indexes.start
        while first < indexes.stop:
            first = self._run_child(range(first, indexes.stop))

    def _run_child(self, indexes: range) -> int:
        """Return the number of the first input that is still to be judged."""
        context = get_context("spawn")
        hear, tell = context.Pipe(duplex=False)
        child = context.Process(target=_work, args=(self.kind, self.seed, indexes, tell))
        child.start()
        tell.close()
        index, latest = indexes.start, Judgements("unknown", ABORTED, ABORTED)
        with hear:
            try:
                while (message := hear.recv()) is not None:
                    if isinstance(message, int):
                        if message > indexes.start:
                            self._count(index, latest)
                        index, latest = message, Judgements("unknown", ABORTED, ABORTED)
                    elif isinstance(message, str):
                        latest = Judgements(f"raises {message}", "not asked", "not asked")
                    else:
                        latest = message
            except EOFError:  # the child aborted at this input
                pass
        child.join()
        self._count(index, latest)
        return index + 1

    def _count(self, index: int, result: Judgements) -> None:
        short = (result.ours, result.dcap_qvl.partition(":")[0], result.intels.partition(":")[0])
        self.outcomes[short] += 1
        self.codes.update(result.codes)
        wrong = {
            "verify raises or warns, or ends the process": result.ours.startswith(("raises", "unknown")),
            "confcom accepts what dcap-qvl refuses": result.ours == ACCEPTED != result.dcap_qvl,
        }
        self.wrong += [f"{text}: input {index}, {self.kind}: {result}" for text, is_so in wrong.items() if is_so]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz.verifiers", description="three verifiers, mutated evidence")
    parser.add_argument("--seed", type=int, default=1, help="other inputs (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input (default: %(default)s)")
    parser.add_argument("--count", type=int, default=20_000, help="inputs of each kind (default: %(default)s)")
    parser.add_argument("--kinds", nargs="*", choices=GOOD, default=list(GOOD), help="evidence (default: all)")
    asked = parser.parse_args(arguments)
    passed = True
    for kind in asked.kinds:
        ends = [asked.first + asked.count * part // PROCESSES for part in range(PROCESSES + 1)]
        shares = [range(*share) for share in pairwise(ends) if share[0] < share[1]]
        campaigns = [Campaign(kind, asked.seed) for _ in shares]
        threads = [Thread(target=one.run, args=(share,)) for one, share in zip(campaigns, shares, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        passed = _report(kind, campaigns) and passed
    return ExitCode.OK if passed else ExitCode.FAILED


def _report(kind: str, campaigns: Sequence[Campaign]) -> bool:
    outcomes = sum((one.outcomes for one in campaigns), Counter[tuple[str, str, str]]())
    codes = sum((one.codes for one in campaigns), Counter[str]())
    wrong = [text for one in campaigns for text in one.wrong]
    print(f"{kind}: {outcomes.total():,} inputs; confcom, dcap-qvl, Intel's QVL:")
    print("".join(f"{count:>10,} {' | '.join(names)}\n" for names, count in outcomes.most_common()), end="")
    print("failed checks: " + ", ".join(f"{code} {count:,}" for code, count in codes.most_common()))
    print("".join(f"WRONG: {text}\n" for text in wrong) or "nothing is wrong", flush=True)
    return not wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
