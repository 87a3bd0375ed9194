"""One process of the load, in a Pod or on the node: python -m bench.cluster.client FOLDER ROUNDS QUOTES CLIENTS.

For each round, the process makes its reports, and then creates a file to say that it is ready. The process
waits until another file appears, and then asks for quotes without a pause.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path

from bench.load import WrongAnswerError, prepare, serve_all, target_of

SOCKET = Path("/var/run/aesmd/aesm.socket")
POLL_SECONDS = 0.01
"""Time within which all processes of a round begin."""


def sign(folder: Path, state: str, turn: int) -> Path:
    """Path of a file by which a process says "ready" or "answered", or by which the process is told "go"."""
    return folder / f"{state}-{turn}"


def take_part(folder: Path, *, rounds: int, quotes: int, clients: int) -> None:
    """One process's part in a round: prepare, wait, ask, and write the results."""
    for turn in range(rounds):
        prepared = prepare(*target_of(SOCKET), quotes)
        sign(folder, "ready", turn).touch()
        while not sign(folder, "go", turn).exists():
            time.sleep(POLL_SECONDS)
        began = time.monotonic()  # all Pods of a machine share this clock
        try:
            served = serve_all(SOCKET, prepared, clients=clients)
        except WrongAnswerError as error:
            results: dict[str, object] = {"failure": str(error)}
        else:
            sample = [[base64.b64encode(part).decode() for part in pair] for pair in served.sample]
            ended = began + served.seconds
            results = {"began": began, "ended": ended, "latencies": served.latencies, "sample": sample}
        unfinished = folder / "unfinished"
        unfinished.write_text(json.dumps(results))
        unfinished.rename(sign(folder, "answered", turn))


if __name__ == "__main__":
    take_part(Path(sys.argv[1]), rounds=int(sys.argv[2]), quotes=int(sys.argv[3]), clients=int(sys.argv[4]))
