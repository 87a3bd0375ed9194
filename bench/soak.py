"""`make soak`: well-behaved clients beside misbehaving clients and attacks, through three updates. None may fail."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from multiprocessing.connection import Connection
from pathlib import Path

from bench.load import Latency
from bench.machine import SchedulerTimes, stolen_seconds
from bench.other_user import Work, attacking, running_as, stopped
from bench.report import Measured, Section, command_line, run, say
from confcom.errors import UnavailableError
from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY
from e2e.load.client import ENCLAVE, Attestation, Client
from testkit.helper_process import RunningHelper, running_helper
from testkit.memory_group import MemoryGroup, limited_memory
from testkit.replay.clients import FORTANIX, GRAMINE, INTEL_QL_WRAPPER, INTEL_QUOTE_EX, OPEN_ENCLAVE, ClientSequence
from testkit.replay.verification import QuoteVerifier

ATTACKER, MISBEHAVING, WELL_BEHAVED, ROOT = 65_530, 65_533, 65_532, 0
"""User IDs that no distribution assigns, and root, which can become any user."""
NICE = 10
"""Niceness of attackers, because the soak tests the helper's fairness and not the kernel scheduler's."""
RATE = 5.0
"""Attestations per second of each well-behaved client."""
CLIENTS = (INTEL_QUOTE_EX, INTEL_QL_WRAPPER, OPEN_ENCLAVE, GRAMINE, FORTANIX)
THROUGHOUT = ("silent", "header", "flood")
"""Attacks of misbehaving clients that run all the time."""
SAMPLE_EVERY = 50
"""One of this many attestations is verified in full. For every attestation, the quote's report is checked."""
BACKLOG_FULL = "the backlog is full"
"""Text in the complaint of a client whose connect() failed with EAGAIN."""
RECOVERY_SECONDS = 2.0
"""Seconds after an attack that took all memory, until its processes have ended and the helper has noticed."""
WARM_SECONDS = 5.0
"""Seconds by which the misbehaving clients start before the well-behaved clients."""
MEMORY_LIMIT = 256 * 1024 * 1024
"""Memory limit of each helper: the chart's default."""
NEW_QE = dataclasses.replace(DEFAULT_QE_IDENTITY, mr_enclave=secrets.token_bytes(32), isv_svn=2)
NEW_FLAGS = ("--simulated-qe-mrenclave", NEW_QE.mr_enclave.hex(), "--simulated-qe-isvsvn", str(NEW_QE.isv_svn))
PODS = ("--identify-pods",)
"""Flags as in the chart. From the second update on, each user is one peer, as with hostPID=false."""
HELPERS: Sequence[tuple[str, Sequence[str]]] = (
    ("first helper", PODS),
    ("first update, the same quoting enclave", PODS),
    ("second update, another quoting enclave", NEW_FLAGS),
    ("third update, the same again", NEW_FLAGS),
)
"""The helpers with their titles; updates come after a quarter, a half and three quarters of the time."""
CHANGES = 2
"""Index of the update that changes the quoting enclave."""
PROBE_SECONDS = 0.02
"""Seconds between two probes of the event loop; no stall of 50 ms can fit between them."""
MAX_STALL_SECONDS = 0.05
"""Longest stall of the event loop. Both measures are upper bounds: a probe takes several turns of the loop, and
the helper's own metric includes time in which others had the CPU. So only a stall in both measures is a failure."""
STALLS = "confcom_quote_helper_loop_stall_seconds"

Started = tuple[RunningHelper, MemoryGroup]


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack of `e2e.attacks`.

    Args: kind: the attack's name in `e2e.attacks`; empty for none. uid: the attacking user. on_probes:
        whether the attack is on probes and metrics, and not on the AESM socket. takes_all: whether the attack
        acts as thousands of users, and takes all memory that clients share. Processes outside of Pods can do
        this, and so can root in a Pod if the helper does not tell Pods apart. Attestations that fail in such
        an attack are reported, but do not count as failures. fills_backlog: whether the attack connects
        faster than any helper can accept. The kernel then answers a connect() that may not wait with EAGAIN;
        no helper sees this connect(). The soak reports this too, but does not count it as a failure.
    """

    kind: str
    uid: int = ATTACKER
    on_probes: bool = False
    takes_all: bool = False
    fills_backlog: bool = False


ATTACKS = (
    Attack(""),
    Attack("unread"),
    Attack("gone-peers-held", ROOT, fills_backlog=True),
    Attack("probes", ROOT, on_probes=True),
    Attack("effective-users", ROOT),
    Attack("unread-by-users", ROOT, takes_all=True),
    Attack("crowd-of-probes", ROOT, on_probes=True),
    Attack("incomplete"),
    Attack("incomplete-by-users", ROOT, takes_all=True),
    Attack("complaints", ROOT),
    Attack("lingering"),
    Attack("lingering-many"),
    Attack("own-ends"),
    Attack("own-ends-by-users", ROOT),
)
"""The attacks in their order, all of the same length: no update comes during an attack on probes, because
each helper has its own path for probes."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Begin and end of an attack, in seconds of CLOCK_MONOTONIC."""

    attack: Attack
    begins: float
    ends: float

    def covers(self, one: Attestation, *, longer: float = 0.0) -> bool:
        """Whether an attestation began during the attack, or shortly after."""
        return self.begins <= one.began < self.ends + longer

    def spares(self, one: Attestation) -> bool:
        """Whether an attestation may fail."""
        excused = self.attack.takes_all or (self.attack.fills_backlog and BACKLOG_FULL in one.failure)
        return excused and self.covers(one, longer=RECOVERY_SECONDS)


@dataclass(slots=True)
class Watched:
    name: str
    probes: int = 0
    longest_stall: float = 0.0
    """Seconds of /livez, without the time in which the helper's threads or this thread waited for a CPU, or
    the machine for its host: a virtual machine may stand still for 0.1 s (seen)."""
    long_stalls: int = 0
    """Number of stalls of more than 50 ms by the helper's own metric."""
    pauses: int = 0
    """Number of times that the machine's host stopped the machine for more than 50 ms; the metric counts them too."""
    highest: int = 0
    """Highest memory of the helper's control group, in bytes, including kernel memory and files."""
    complaints: list[str] = field(default_factory=list)

    def failures(self, *, stalls: bool) -> Iterator[str]:
        yield from (f"{self.name}: {complaint}" for complaint in self.complaints)
        if stalls and self.long_stalls and self.longest_stall > MAX_STALL_SECONDS:
            yield f"{self.name}: its event loop stalled for {self.longest_stall:.3f} s"

    def watch(self, helper: RunningHelper, memory: MemoryGroup, seconds: float) -> None:
        """Probe the helper for this many seconds, or until its end, and read its metrics."""
        ends, stolen = time.monotonic() + seconds, stolen_seconds()
        while time.monotonic() < ends and helper.process.poll() is None:
            waited, began = self._waited(helper), time.perf_counter()
            status, text = helper.get("/livez")
            stall = time.perf_counter() - began - (self._waited(helper) - waited)
            self.probes += 1
            self.longest_stall = max(self.longest_stall, stall)
            if status != HTTPStatus.OK and helper.process.poll() is None:
                self.complaints.append(f"/livez: {status} {text}")
            time.sleep(PROBE_SECONDS)
            before, stolen = stolen, stolen_seconds()
            self.pauses += stolen - before > MAX_STALL_SECONDS
        if memory.killed:
            self.complaints.append("it needed more memory than its limit, and was killed")
        if (code := helper.process.poll()) is not None:
            self.complaints.append(f"it ended by itself, with {code}")
            return
        metrics = helper.metrics()
        self.long_stalls = int(metrics[f"{STALLS}_count"] - metrics[f'{STALLS}_bucket{{le="0.05"}}'])
        self.highest = memory.highest

    @staticmethod
    def _waited(helper: RunningHelper) -> float:
        own = int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
        return SchedulerTimes.of(helper.process.pid).waiting + own + stolen_seconds()


@dataclass(slots=True)
class Soaked:
    phases: list[Phase]
    attestations: dict[str, list[Attestation]] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Number of connections of each misbehaving kind and each attack."""
    helpers: list[Watched] = field(default_factory=list)
    older_kernel: bool = False
    """Whether helpers act as on a kernel that cannot refuse descriptors; they may then stall longer."""
    changed_at: float = float("inf")
    """Start time of the helper with another quoting enclave. Before this time, no client may get error 42."""
    unverified: list[str] = field(default_factory=list)

    def failures(self) -> Iterator[str]:
        for name, done in self.attestations.items():
            for one in done:
                if one.failure and not any(phase.spares(one) for phase in self.phases):
                    yield f"{name}: {one.failure} ({one.began - self.changed_at:+.3f} s from the change)"
            if any(one.renewals and one.began + sum(one.seconds) < self.changed_at for one in done):
                yield f"{name}: got 42 before the quoting enclave changed"
            if not done:
                yield f"{name}: never attested"
        for helper in self.helpers:
            yield from helper.failures(stalls=not self.older_kernel)
        yield from self.unverified


def measure(options: argparse.Namespace) -> Measured:
    if os.geteuid() != 0:
        why = "a peer is a user ID here, and only root can start processes of other users"
        raise UnavailableError("the soak needs peers of their own", why=why, remedy="run it as root")
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="soak-") as directory:
        soaked = soak(options.seconds, Path(directory), older_kernel=options.older_kernel)
    return sections(soaked), {"counts": soaked.counts, "failures": [*soaked.failures()]}


def soak(seconds: float, directory: Path, *, older_kernel: bool) -> Soaked:
    """Run the soak: misbehaving clients first, then attacks and well-behaved clients, then the updates."""
    directory.chmod(0o755)  # clients are other users

    def newest_probes() -> str:
        return str(max(directory.glob("*.probes"), key=lambda each: each.stat().st_mtime))

    with contextlib.ExitStack() as stack:
        start = partial(_helper, stack, directory, alterations={"older_kernel": True} if older_kernel else None)
        first = start(HELPERS[0][1])
        path = partial(str, first[0].socket)
        others = {
            kind: stack.enter_context(running_as(MISBEHAVING, kind, attacking(kind, path), nice=NICE))
            for kind in THROUGHOUT
        }
        time.sleep(WARM_SECONDS)
        begins, part = time.monotonic(), seconds / len(ATTACKS)
        result = Soaked(
            [Phase(attack, begins + at * part, begins + (at + 1) * part) for at, attack in enumerate(ATTACKS)],
            older_kernel=older_kernel,
        )
        for phase in result.phases:
            kind, uid = phase.attack.kind, phase.attack.uid
            if kind:
                where = newest_probes if phase.attack.on_probes else path
                work = attacking(kind, where, phase.begins, phase.ends)
                others[kind] = stack.enter_context(running_as(uid, kind, work, nice=NICE))
        clients = {
            each.name: stack.enter_context(running_as(WELL_BEHAVED, each.name, _attesting(each, first[0].socket)))
            for each in CLIENTS
        }
        say(f"{seconds:g} s with {len(clients)} kinds of well-behaved clients and {len(others)} of others")
        _watch_and_update(start, first, seconds / len(HELPERS), result)
        for child in (*clients.values(), *others.values()):
            child.request_stop()
        result.attestations = {name: child.finish()["attestations"] for name, child in clients.items()}
        result.counts = {kind: child.finish() for kind, child in others.items()}
        say("verifying the sample")
        result.unverified = [*_wrong_quotes(result, first[0].state_dir)]
    return result


def _helper(
    stack: contextlib.ExitStack, directory: Path, flags: Sequence[str], alterations: Mapping[str, bool] | None
) -> Started:
    memory = stack.enter_context(limited_memory(f"confcom-soak-{secrets.token_hex(4)}", MEMORY_LIMIT))
    return stack.enter_context(
        running_helper(*flags, directory=directory, inside=memory.command, alterations=alterations)
    ), memory


def _attesting(sequence: ClientSequence, path: Path) -> Work:
    """Attest at a fixed rate, however long a single attestation takes."""

    def run(parent: Connection) -> dict[str, list[Attestation]]:
        client, due = Client(sequence, path, time.monotonic), time.monotonic()
        done: list[Attestation] = []
        while not stopped(parent, max(0.0, due - time.monotonic())):
            one = client.attest()
            done.append(dataclasses.replace(one, quotes=()) if len(done) % SAMPLE_EVERY else one)
            due += 1 / RATE
        return {"attestations": done}

    return run


def _watch_and_update(start: Callable[[Sequence[str]], Started], running: Started, part: float, result: Soaked) -> None:
    """Watch each helper for its part of the time, start the next helper, and then end the watched helper."""
    for number, (name, _) in enumerate(HELPERS):
        helper, memory = running
        watched = Watched(name)
        result.helpers.append(watched)
        watched.watch(helper, memory, part)
        for title, flags in HELPERS[number + 1 : number + 2]:
            say(title)
            if number + 1 == CHANGES:
                result.changed_at = time.monotonic()
            inode = helper.socket.stat().st_ino
            running = newer, _ = start(flags)
            newer.wait_until(lambda newer=newer, inode=inode: newer.socket.stat().st_ino != inode)
            if code := helper.stop():
                watched.complaints.append(f"it ended with {code}")


def _wrong_quotes(result: Soaked, state_dir: Path) -> Iterator[str]:
    verifier = QuoteVerifier(state_dir)
    for name, done in result.attestations.items():
        for quote, report_data in (pair for one in done for pair in one.quotes):
            verdict = verifier.verify(quote, ENCLAVE, report_data)
            if not verdict.ok:
                yield f"{name}: a quote does not verify: {verdict.failures}"


def sections(soaked: Soaked) -> list[Section]:
    """Results of the well-behaved clients, in all and for each attack, and results of the helpers."""
    side = "in all"
    clients, phases, helpers = (
        Section(title, [side]) for title in ("Well-behaved clients", "Well-behaved clients, by attack", "Quote helpers")
    )
    for name, done in soaked.attestations.items():
        clients.add(side, f"{name}: attestations", "", len(done))
        clients.add(side, f"{name}: renewed after 42", "", sum(one.renewals for one in done))
        _add_latency(clients, name, done)
    for phase in soaked.phases:
        here = [one for done in soaked.attestations.values() for one in done if phase.covers(one)]
        _add_latency(phases, phase.attack.kind or "no attack", here)
    for helper in soaked.helpers:
        helpers.add(side, f"{helper.name}: memory at most", "MB", helper.highest / 1e6)
        helpers.add(side, f"{helper.name}: longest stall of {helper.probes} probes", "ms", helper.longest_stall * 1e3)
        helpers.add(side, f"{helper.name}: stalls over 50 ms by its metric", "", helper.long_stalls)
        helpers.add(side, f"{helper.name}: pauses of the machine over 50 ms", "", helper.pauses)
    return [clients, phases, helpers]


def _add_latency(section: Section, name: str, done: Sequence[Attestation]) -> None:
    section.add("in all", f"{name}: failed", "", sum(bool(one.failure) for one in done))
    latency = Latency.of([seconds for one in done for seconds in one.seconds])
    for title, value in (("p50", latency.p50), ("p99", latency.p99), ("longest", latency.longest)):
        section.add("in all", f"{name}: {title} of a call", "ms", value * 1e3)


if __name__ == "__main__":
    parser = command_line("bench.soak", __doc__)
    parser.add_argument("--seconds", type=float, default=600.0, metavar="N", help="default: %(default)g")
    parser.add_argument(
        "--older-kernel", action="store_true", help="as on a kernel that cannot refuse descriptors: loops may stall"
    )
    sys.exit(run(parser, measure))
