"""One process of the load: in a pod, or on the node itself.

Usage: python -m bench.cluster.client FOLDER ROUNDS QUOTES CLIENTS

For each round it makes its reports, says so by a file, waits for another, and asks for quotes as fast as it gets them.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.load import WrongAnswerError, prepare, serve_all, target_of

SOCKET = Path("/var/run/aesmd/aesm.socket")
POLL_SECONDS = 0.01
"""All processes of a round begin within it."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What one process of a round was given. Moments are of CLOCK_MONOTONIC, which all pods of a machine share.

    Args:
        began: when the first connect() was.
        ended: when the last answer had come.
        latencies: from before each connect() to the end of its answer, in seconds.
        sample: quotes, each with the report data that it must carry.
        failure: what was wrong with an answer, or empty.
    """

    began: float
    ended: float
    latencies: tuple[float, ...]
    sample: tuple[tuple[bytes, bytes], ...]
    failure: str

    def to_json(self) -> str:
        """As a file of results has it."""
        sample = [[base64.b64encode(part).decode() for part in pair] for pair in self.sample]
        return json.dumps([self.began, self.ended, self.latencies, sample, self.failure])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read such a file."""
        began, ended, latencies, sample, failure = json.loads(text)
        pairs = tuple((base64.b64decode(quote), base64.b64decode(data)) for quote, data in sample)
        return cls(began, ended, tuple(latencies), pairs, failure)


@dataclass(frozen=True, slots=True)
class Turns:
    """How a process and whoever leads the rounds tell each other that a turn comes, by files.

    Args:
        folder: of this process alone.
    """

    folder: Path

    def ready(self, turn: int) -> Path:
        """There when the process has made its reports."""
        return self.folder / f"ready-{turn}"

    def go(self, turn: int) -> Path:
        """There when it is to begin."""
        return self.folder / f"go-{turn}"

    def answered(self, turn: int) -> Path:
        """There, whole, when the turn is over."""
        return self.folder / f"answered-{turn}.json"


def one_turn(turns: Turns, turn: int, *, quotes: int, clients: int) -> None:
    """Prepare, wait, ask, and leave the results."""
    prepared = prepare(*target_of(SOCKET), quotes)
    turns.ready(turn).touch()
    while not turns.go(turn).exists():
        time.sleep(POLL_SECONDS)
    began = time.monotonic()
    try:
        served = serve_all(SOCKET, prepared, clients=clients)
        done = Answered(began, began + served.seconds, tuple(served.latencies), tuple(served.sample), "")
    except WrongAnswerError as error:
        done = Answered(began, time.monotonic(), (), (), str(error))
    unfinished = turns.folder / "unfinished"
    unfinished.write_text(done.to_json())
    unfinished.rename(turns.answered(turn))


def main(argv: Sequence[str]) -> int:
    """Take part in all rounds."""
    turns, (rounds, quotes, clients) = Turns(Path(argv[0])), map(int, argv[1:4])
    for turn in range(rounds):
        one_turn(turns, turn, quotes=quotes, clients=clients)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
