"""Outages of parts of Kubernetes in the middle of an update or a rollback, while clients in Pods attest."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import pytest

from confcom.kubernetes.objects import listing, text
from e2e.add_on import HELPER, is_ready
from e2e.confcom_command import COMMAND_SECONDS, AddOn
from e2e.load.outcome import Outcome
from e2e.load.pods import Load
from e2e.waiting import until

HELD_MIB = 80
"""MiB of EPC that the clients of a node hold."""
RATE = 2.0
"""Attestations per second of each of eight clients: about 20 quotes per second show a gap of one second."""
AWAY_SECONDS = 60.0
AWAY_IN_A_ROLLBACK_SECONDS = 20.0
LATE_SECONDS = 60.0
"""Most seconds until a scheduler asks a returned API server again; some cases always use this maximum."""
BACK_SECONDS = 300.0
"""Seconds until all is well: a hand-over may take 180 s, and a kubelet's return to the API server 60 s."""
PHASE_SECONDS = 120.0
LEVELS = ("debug", "info")
"""Log levels; an update that changes the log level replaces all daemons."""


class Part(StrEnum):
    API_SERVER = "apiserver"
    CONTROLLER_MANAGER = "controller-manager"
    SCHEDULER = "scheduler"
    KUBELET = "kubelet"
    CONTAINERD = "containerd"


ON_NODES = (Part.KUBELET, Part.CONTAINERD)


class Phase(StrEnum):
    """Moments at which an outage begins; the command prints the first two."""

    CHECKS = "Checking the cluster"
    WAITING = "Waiting for the daemons"
    STARTING = "the Pod of a successor exists"
    ENDING = "an old helper is told to end, or has just ended"


@dataclass(frozen=True, slots=True)
class Strike:
    """Parts that fail together: all on the node whose helper is replaced, or each on another node."""

    phase: Phase
    parts: tuple[Part, ...]
    unscheduled: bool = False
    """Whether the scheduler is stopped from before the first successor to LATE_SECONDS after the outage."""


def strike(phase: Phase, *parts: Part) -> Strike:
    return Strike(phase, parts)


EVERY_PHASE = (
    (strike(Phase.CHECKS, Part.API_SERVER),),
    (strike(Phase.STARTING, Part.API_SERVER),),
    (strike(Phase.ENDING, Part.API_SERVER),),
    (strike(Phase.WAITING, Part.CONTROLLER_MANAGER), strike(Phase.STARTING, Part.KUBELET)),
    (strike(Phase.WAITING, Part.SCHEDULER), strike(Phase.STARTING, Part.CONTAINERD)),
    (strike(Phase.STARTING, Part.CONTROLLER_MANAGER), strike(Phase.STARTING, Part.SCHEDULER)),
    (strike(Phase.ENDING, Part.CONTROLLER_MANAGER), strike(Phase.ENDING, Part.KUBELET)),
    (strike(Phase.ENDING, Part.SCHEDULER), strike(Phase.ENDING, Part.CONTAINERD)),
    (strike(Phase.WAITING, Part.KUBELET, Part.CONTAINERD),),
    (strike(Phase.CHECKS, Part.CONTROLLER_MANAGER, Part.SCHEDULER, Part.KUBELET, Part.CONTAINERD),),
)
"""Each row is one update. The outages of an update follow one another, each on another node."""
WORST = Strike(Phase.STARTING, (Part.KUBELET,), unscheduled=True)
"""Worst case: a returned kubelet ends the old helper before the successor is scheduled."""
WORST_SECONDS = 75.0
"""Length of an outage in seconds. After 50 to 60 s a node counts as lost, and its Pods as not ready."""
ROLLBACKS = ((strike(Phase.WAITING, Part.API_SERVER),), (strike(Phase.STARTING, Part.API_SERVER),))


@dataclass
class Change:
    """A running command, and the helpers that it replaces."""

    add_on: AddOn
    arguments: tuple[str, ...]
    log: Path
    old: dict[str, str] = field(init=False)
    """Node of each replaced helper, keyed by the helper's UID."""
    struck: set[str] = field(init=False, default_factory=set)
    _process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        self.old = {pod["metadata"]["uid"]: node for node, pod in self.add_on.pods(HELPER).items()}
        node = self.add_on.cluster.node
        command = node.entering([sys.executable, "-m", "confcom", *self.arguments])
        environment = {**os.environ, **self.add_on.cluster.environment}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def reached(self, phase: Phase) -> str:
        """A node without an earlier outage whose helper is in this phase; any node in the first phases."""
        if phase in {Phase.CHECKS, Phase.WAITING}:
            return self.add_on.nodes[0].name if phase in self.log.read_text() else ""
        there = {pod["metadata"]["uid"]: pod for pod in self.add_on.all_pods(HELPER)}
        staying = {uid for uid, pod in there.items() if "deletionTimestamp" not in pod["metadata"]}
        new = [there[uid] for uid in staying - self.old.keys()]
        starting = {node_of(pod) for pod in new if not is_ready(pod)}
        ending = {node for uid, node in self.old.items() if uid not in staying}
        return min((ending if phase is Phase.ENDING else starting) - self.struck, default="")

    def strike(self, one: Strike, seconds: float) -> None:
        if one.unscheduled:
            until(lambda: self.reached(Phase.CHECKS), Phase.CHECKS)
            self.add_on.cluster.kill(Part.SCHEDULER)
        name = until(lambda: self.reached(one.phase), one.phase, seconds=PHASE_SECONDS)
        if one.phase not in {Phase.CHECKS, Phase.WAITING}:
            self.struck.add(name)
        nodes = sorted(self.add_on.nodes, key=lambda node: node.name != name)
        places = dict(zip([part for part in one.parts if part in ON_NODES], nodes, strict=False))
        for part in one.parts:
            places.get(part, self.add_on.cluster).kill(part)
        time.sleep(seconds)
        for part in one.parts:
            places.get(part, self.add_on.cluster).start(part)
        if one.unscheduled:
            time.sleep(LATE_SECONDS)
            self.add_on.cluster.start(Part.SCHEDULER)

    def complete(self) -> None:
        """Wait until the command (repeated if needed) has ended, and all helpers are new and well."""
        code = self._process.wait(COMMAND_SECONDS)
        until(self.add_on.cluster.ready, "the nodes are Ready", seconds=BACK_SECONDS)
        if code and not self.add_on.has_replaced(self.old):
            until(self.again, "the same command completes the change", seconds=BACK_SECONDS)
        until(lambda: self.add_on.has_replaced(self.old), "only new helpers are left", seconds=BACK_SECONDS)
        until(self.add_on.is_well, "all is well again", seconds=BACK_SECONDS)

    def again(self) -> bool:
        """The command that was cut off may still hold the Lease for half a minute."""
        command = [sys.executable, "-m", "confcom", *self.arguments]
        return not self.add_on.cluster.run(command, check=False, timeout=COMMAND_SECONDS).returncode


def node_of(pod) -> str:
    """Name of the node on which a daemon's Pod runs, or will be scheduled."""
    affinity = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = listing(affinity, "nodeSelectorTerms")
    (field_,) = listing(term, "matchFields")
    return text(pod, "spec", "nodeName") or str(field_["values"][0])


@dataclass
class Story:
    add_on: AddOn
    load: Load
    folder: Path
    tell: object
    lost: dict[str, int] = field(default_factory=dict)
    """Number of failed attestations, by row."""
    _counted: int = 0
    _level: int = 0

    def update(self, *strikes: Strike, seconds: float = AWAY_SECONDS) -> None:
        self._carry_out(strikes, seconds, "update", f"--set=logLevel={LEVELS[self._level]}")
        self._level = 1 - self._level

    def roll_back(self, *strikes: Strike) -> None:
        self._carry_out(strikes, AWAY_IN_A_ROLLBACK_SECONDS, "rollback")
        self._level = 1 - self._level

    def _carry_out(self, strikes: tuple[Strike, ...], seconds: float, *arguments: str) -> None:
        change, began = Change(self.add_on, arguments, self.folder / "command.log"), time.monotonic()
        change.start()
        for one in strikes:
            change.strike(one, seconds)
        change.complete()
        self.load.wait_past(time.monotonic())
        failed = len(Outcome.of(self.load).failures) - self._counted
        self._counted += failed
        late = {True: ", and the scheduler until later", False: ""}
        struck = "; ".join(f"{one.phase.name}: {' and '.join(one.parts)}{late[one.unscheduled]}" for one in strikes)
        row = f"{arguments[0]}, {struck}, {seconds:.0f} s each" if strikes else f"{arguments[0]}, nothing away"
        self.lost[row] = failed
        self.tell(f"{row}: {failed} attestations failed; {time.monotonic() - began:.0f} s")


@pytest.fixture
def story(add_on, start_load, tell, tmp_path):
    return Story(add_on, start_load(HELD_MIB, RATE), tmp_path, tell)


@pytest.mark.timeout(900, func_only=True)
def test_an_old_helper_serves_until_its_successor_is_scheduled(story):
    story.update(WORST, seconds=WORST_SECONDS)
    story.update(strike(Phase.WAITING, Part.API_SERVER))
    assert set(story.lost.values()) == {0}, story.lost


@pytest.mark.timeout(3600, func_only=True)
def test_in_no_phase_a_missing_part_costs_a_quote(story, party):
    for strikes in EVERY_PHASE:
        story.update(*strikes)
    for strikes in ROLLBACKS:
        story.update()
        story.roll_back(*strikes)
    assert set(story.lost.values()) == {0}, story.lost
    outcome = Outcome.verified(story.load, party)
    assert outcome.failures == []
    assert outcome.not_offered(RATE) == []
