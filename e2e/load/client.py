"""One replayed client in a Pod: it attests at a fixed rate, without added retries, until a file stops it.

Usage: python -m e2e.load.client CLIENT RATE FOLDER
"""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from confcom.simulation.enclave import SimulatedEnclave
from testkit.replay.clients import CLIENTS, ClientSequence, ReplayedClient

SOCKET = Path("/var/run/aesmd/aesm.socket")
RESULTS, STOP = "attestations", "stop"
"""Two files in the folder: the first has one result per line; when the second appears, the client ends."""

ATTESTATIONS_PER_PROCESS = 100
"""Number of attestations until a client starts anew. Gramine keeps its target info until then. So a new
quoting enclave hardly ever comes just between two processes, which would hide Gramine's error 42."""

ENCLAVE = SimulatedEnclave.from_name("load")
"""The enclave that makes the reports of all clients."""


@dataclass(frozen=True, slots=True)
class Attestation:
    """One attestation. Times are in seconds of CLOCK_MONOTONIC, which all Pods of a machine share.

    `seconds` has the times of each call, `renewals` counts InitQuoteEx calls after 42. Each quote is stored
    with its report data.
    """

    began: float
    seconds: tuple[float, ...]
    renewals: int
    failure: str
    quotes: tuple[tuple[bytes, bytes], ...]

    def to_line(self) -> bytes:
        quotes = [[base64.b64encode(part).decode() for part in quote] for quote in self.quotes]
        return json.dumps([self.began, self.seconds, self.renewals, self.failure, quotes]).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Self:
        began, seconds, renewals, failure, quotes = json.loads(line)
        pairs = tuple((base64.b64decode(quote), base64.b64decode(data)) for quote, data in quotes)
        return cls(began, tuple(seconds), renewals, failure, pairs)


class Client:
    """A replayed client that attests through the socket at its compiled-in path."""

    def __init__(self, sequence: ClientSequence, socket: Path, clock: Callable[[], float]) -> None:
        self._sequence = sequence
        self._socket = socket
        self._clock = clock
        self._process: ReplayedClient | None = None
        self._left = 0

    def attest(self) -> Attestation:
        """Make one attestation, in a new process of the client if the last process is spent or has failed."""
        began = self._clock()
        if self._process is None:
            self._left = ATTESTATIONS_PER_PROCESS
            self._process = ReplayedClient(self._sequence, self._socket, clock=self._clock, enclave=ENCLAVE)
            run = self._process.run()
        else:
            run = self._process.quote()
        self._left -= 1
        if run.failure or not self._left:
            self._process = None
        seconds = tuple(round(exchange.seconds, 6) for exchange in run.exchanges)
        return Attestation(began, seconds, run.renewals, run.failure, run.quotes)


def main(argv: Sequence[str]) -> int:
    name, rate, folder = argv[0], float(argv[1]), Path(argv[2])
    client = Client(next(one for one in CLIENTS if one.name == name), SOCKET, time.monotonic)
    due = time.monotonic()
    with (folder / RESULTS).open("wb", buffering=0) as results:
        while not (folder / STOP).exists():
            time.sleep(max(0.0, due - time.monotonic()))
            results.write(client.attest().to_line())
            due += 1 / rate
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
