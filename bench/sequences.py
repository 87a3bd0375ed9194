"""One client at a time: single calls, and whole attestations as the known clients make them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from bench.load import WrongAnswerError
from bench.summary import Latency
from testkit.replay.model import ClientSequence
from testkit.replay.sequences import FORTANIX, GRAMINE, INTEL_QUOTE_EX, OPEN_ENCLAVE, ReplayedClient

WHOLE: Sequence[ClientSequence] = (OPEN_ENCLAVE, GRAMINE, FORTANIX)


def single_calls(path: Path, repetitions: int) -> dict[str, Latency]:
    """Every call of Intel's library, from before connect() to the end of the answer, by its name."""
    seconds = defaultdict(list)
    for _ in range(repetitions):
        # The second call of InitQuoteEx is the one that needs the provider, the second quote has qe_report_info.
        seen: set[str] = set()
        for exchange in _run(INTEL_QUOTE_EX, path):
            name = exchange.call.call
            seconds[f"{name}, with everything" if name in seen else name].append(exchange.seconds)
            seen.add(name)
    return {name: Latency.of(values) for name, values in seconds.items()}


def whole_sequences(path: Path, repetitions: int) -> dict[str, Latency]:
    """A new process' calls up to its quote, without what the client and its enclave do in between."""
    return {
        sequence.name: Latency.of(
            [sum(exchange.seconds for exchange in _run(sequence, path)) for _ in range(repetitions)]
        )
        for sequence in WHOLE
    }


def _run(sequence: ClientSequence, path: Path):  # type: ignore[no-untyped-def] # noqa: ANN202 # replay is not typed
    run = ReplayedClient(sequence, path).run()
    if run.failure:
        raise WrongAnswerError(f"{sequence.name}: {run.failure}")
    return run.exchanges
