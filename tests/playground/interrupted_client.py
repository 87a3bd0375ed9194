"""Interrupts a node's client at moments that differ by microseconds, and closes it each time; ends if nothing hangs."""

import signal
import sys
from pathlib import Path

from confcom.playground.api.client import NodeClient


class InterruptedAtError(Exception):
    """What Ctrl-C is to the demo: raised between any two instructions."""


def interrupt(number, frame):
    raise InterruptedAtError


def main(directory: Path, times: int) -> None:
    signal.signal(signal.SIGALRM, interrupt)
    for number in range(times):
        client = NodeClient(directory)
        revision = client.state().revision
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-5 + number % 100 * 1e-5)
            client.state(after_revision=revision, timeout=5)
            raise AssertionError("it was not interrupted")
        except InterruptedAtError:
            client.close()
    sys.stdout.write(f"{times} times\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
