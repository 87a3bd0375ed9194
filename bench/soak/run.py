"""The soak itself: who runs beside whom, and the updates."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.memory import MemoryGroup, limited_memory
from bench.other_user import Child, require_root, running_as
from bench.soak import attacks, misbehaving, well_behaved
from bench.soak.attacks import Phase
from bench.soak.watch import Watched, watching
from bench.soak.well_behaved import ENCLAVE, FORTANIX_PROGRAM, Tally
from confcom.sgx.quote import Quote
from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY
from testkit.helper_process import RunningHelper, running_helper
from testkit.replay.verification import QuoteVerifier

NEW_QE = dataclasses.replace(DEFAULT_QE_IDENTITY, mr_enclave=secrets.token_bytes(32), isv_svn=2)
NEW_FLAGS = ("--simulated-qe-mrenclave", NEW_QE.mr_enclave.hex(), "--simulated-qe-isvsvn", str(NEW_QE.isv_svn))
PODS = ("--identify-pods",)
"""As the chart has it. From the second update on users alone are told apart, as with the chart's hostPID=false."""
UPDATES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("first update, the same quoting enclave", PODS),
    ("second update, another quoting enclave", NEW_FLAGS),
    ("third update, the same again", NEW_FLAGS),
)
"""At a quarter, a half and three quarters of the time."""
CHANGES = 1
"""Index of the update that changes the quoting enclave."""
STOP_SECONDS = 30.0
"""For a helper to drain: it allows itself 12 s and 2 s."""
WARM_SECONDS = 1.0
"""For the misbehaving to be there before the well-behaved come."""
MEMORY_LIMIT = 256 * 1024 * 1024
"""Of each helper: the chart's default."""


@dataclass(slots=True)
class Soaked:
    """What happened; times are of CLOCK_MONOTONIC, in seconds."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    misbehaving: dict[str, dict[str, int]] = field(default_factory=dict)
    phases: tuple[Phase, ...] = ()
    attacks: dict[str, dict[str, int]] = field(default_factory=dict)
    """What each attacker did."""
    helpers: list[Watched] = field(default_factory=list)
    changed_at: float = float("inf")
    """When the helper was started that has another quoting enclave: nobody may be told 42 before."""
    verified: int = 0
    unverified: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SoakPlan:
    """How long, how much.

    Args:
        seconds: from the first attestation to the last.
        rate: attestations per second of each replayed client.
        program: Fortanix' program; None: not built here.
    """

    seconds: float
    rate: float
    program: Path | None


def soak(plan: SoakPlan, directory: Path, *, say: Callable[[str], None]) -> Soaked:
    """Run it all."""
    require_root("the soak")
    directory.chmod(0o755)  # clients are other users
    result = Soaked()
    with contextlib.ExitStack() as stack:
        helper, memory = _limited_helper(stack, directory, PODS)
        path = str(helper.socket)
        bad = {
            kind: stack.enter_context(
                running_as(misbehaving.UID, kind, misbehaving.work(kind, path), nice=misbehaving.NICE)
            )
            for kind in misbehaving.KINDS
        }
        time.sleep(WARM_SECONDS)
        result.phases = attacks.phases(time.monotonic(), plan.seconds)
        attackers = _attackers(stack, result.phases, directory, path)
        attests = {name: (well_behaved.replayed(name, path), plan.rate) for name in well_behaved.SEQUENCES}
        if plan.program is not None:
            own = directory / plan.program.name
            shutil.copy(plan.program, own)
            attests[FORTANIX_PROGRAM] = (well_behaved.program(own, path), well_behaved.PROGRAM_RATE)
        good = {
            name: stack.enter_context(running_as(well_behaved.UID, name, well_behaved.work(attest, rate)))
            for name, (attest, rate) in attests.items()
        }
        say(
            f"{plan.seconds:g} s with {len(bad)} kinds of misbehaving and {len(good)} of well-behaved clients, "
            f"and {len(attackers)} attacks one after the other"
        )
        _update_again_and_again(plan.seconds, (helper, memory), result, stack, say)
        for child in good.values():
            child.request_stop()
        result.tallies = {name: child.finish()["tally"] for name, child in good.items()}
        for child in (*bad.values(), *attackers.values()):
            child.request_stop()
        result.attacks = {kind: child.finish() for kind, child in attackers.items()}
        result.misbehaving = {kind: child.finish() for kind, child in bad.items()}
        say("verifying the sample")
        _verify(result, helper.state_dir)
    return result


def _limited_helper(
    stack: contextlib.ExitStack, directory: Path, flags: Sequence[str]
) -> tuple[RunningHelper, MemoryGroup]:
    memory = stack.enter_context(limited_memory(f"confcom-soak-{secrets.token_hex(4)}", MEMORY_LIMIT))
    return stack.enter_context(running_helper(*flags, directory=directory, inside=memory.command)), memory


def _attackers(stack: contextlib.ExitStack, phases: Sequence[Phase], directory: Path, path: str) -> dict[str, Child]:
    found = {}
    for phase in phases:
        if phase.attack is None:
            continue
        where = functools.partial(attacks.newest_probes, directory) if phase.attack.on_probes else path.__str__
        work = attacks.work(phase.attack, phase, where)
        found[phase.name] = stack.enter_context(running_as(phase.attack.uid, phase.name, work, nice=misbehaving.NICE))
    return found


def _update_again_and_again(
    seconds: float,
    first: tuple[RunningHelper, MemoryGroup],
    result: Soaked,
    stack: contextlib.ExitStack,
    say: Callable[[str], None],
) -> None:
    helper, memory = first
    part = seconds / (len(UPDATES) + 1)
    watched = Watched("at the start")
    for number, (name, flags) in enumerate(UPDATES):
        result.helpers.append(watched)
        with watching(helper, watched, memory):
            time.sleep(part)
            say(name)
            if number == CHANGES:
                result.changed_at = time.monotonic()
            inode = helper.socket.stat().st_ino
            newer, newer_memory = _limited_helper(stack, helper.socket.parent, flags)
            _wait_for_other_inode(newer, inode)
        stopping = time.monotonic()
        helper.process.send_signal(signal.SIGTERM)
        watched.exit_code = helper.process.wait(STOP_SECONDS)
        watched.stop_seconds = time.monotonic() - stopping
        watched.highest, watched.killed = memory.highest, memory.killed
        helper, memory, watched = newer, newer_memory, Watched(name)
    result.helpers.append(watched)
    with watching(helper, watched, memory):
        time.sleep(part)


def _wait_for_other_inode(helper: RunningHelper, inode: int) -> None:
    helper.wait_until(lambda: helper.socket.stat().st_ino != inode)


def _verify(result: Soaked, state_dir: Path) -> None:
    verifiers = {
        identity.mr_enclave: QuoteVerifier(state_dir, identity=identity) for identity in (DEFAULT_QE_IDENTITY, NEW_QE)
    }
    for name, tally in result.tallies.items():
        for quote, report_data in tally.sample:
            by = Quote.parse(quote).signature.qe_report_body.mr_enclave
            verdict = verifiers[by].verify(quote, ENCLAVE, report_data)
            if verdict.ok:
                result.verified += 1
            else:
                result.unverified.append(f"{name}: {verdict.failures}")
