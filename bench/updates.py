"""Updates of the quote helper beside clients that attest: how many quotes were asked for, and how many failed."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event

from bench.machine import THIS, Checkout
from bench.report import Section, say
from e2e.load.client import Client
from testkit.helper_process import running_helper
from testkit.replay.clients import FORTANIX, GRAMINE, INTEL_QL_WRAPPER, INTEL_QUOTE_EX, OPEN_ENCLAVE, ClientSequence

CLIENTS = (INTEL_QUOTE_EX, INTEL_QL_WRAPPER, OPEN_ENCLAVE, GRAMINE, FORTANIX)
SERVED_SECONDS = 1.0
"""Seconds for which clients attest before and after each update."""
UPDATES, ATTESTED, FAILED = "updates", "attestations", "failed attestations"


def measure_updates(sides: Mapping[str, Checkout], rounds: int, directory: Path) -> list[Section]:
    """Make one update in each round. Clients repeat no call, except that they begin again after error 42."""
    del sides  # two checkouts may not share a simulated root
    section, counts = Section("Updates of the quote helper beside clients that attest", [THIS]), Counter[str]()
    start, stop = partial(running_helper, directory=directory), Event()
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(CLIENTS)) as threads:
        stack.callback(stop.set)
        helper = stack.enter_context(start())
        clients = [threads.submit(_attest, each, helper.socket, stop) for each in CLIENTS]
        for number in range(rounds):
            say(f"update {number + 1} of {rounds}")
            time.sleep(SERVED_SECONDS)
            old, helper = helper, stack.enter_context(start())
            old.stop()
        time.sleep(SERVED_SECONDS)
        stop.set()
        for client in clients:
            counts += client.result()
    for title, number in ((UPDATES, rounds), (ATTESTED, counts[ATTESTED]), (FAILED, counts[FAILED])):
        section.add(THIS, title, "", number)
    return [section]


def _attest(sequence: ClientSequence, path: Path, stop: Event) -> Counter[str]:
    client, counts = Client(sequence, path, time.monotonic), Counter[str]()
    while not stop.is_set():
        counts[FAILED] += bool(client.attest().failure)
        counts[ATTESTED] += 1
    return counts
