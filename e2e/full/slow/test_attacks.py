"""Pods attack a node's daemons, one kind of attack after the other, while a victim's Pod attests beside them."""

import contextlib
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from e2e import add_on
from e2e.attacks.pods import Period, attacker, config_map, daemons_on, harm, log_lines
from e2e.load.pods import Load, LoadPod
from e2e.tenants import Tenant
from e2e.waiting import until
from testkit.replay.clients import INTEL_QUOTE_EX

RATE = 10.0
"""The victim's attestations per second."""
AROUND_SECONDS = 10.0
"""Seconds of quiet before the first and after the last attack."""
ATTACK_SECONDS = 20.0
MORE_SECONDS = 15.0
"""Seconds for which attackers run on after the observed period, so that none ends within it."""
SOCKET = "/var/run/aesmd/aesm.socket"
MOST_LOG_LINES = 1_500
"""Most log lines of a daemon in a phase: a helper writes at most some 500 lines a minute, and a phase touches
two minutes. Without a limit for all users, 600 users cause 10,000 lines."""
ENFORCE = "pod-security.kubernetes.io/enforce"

pytestmark = pytest.mark.timeout(1800, func_only=True)


@dataclass(frozen=True)
class Phase:
    """One attack: the attacker, and other events during the attack."""

    kind: str
    root: bool = False
    on_probes: bool = False
    update: bool = False
    log_stalled: bool = False


PHASES = (
    Phase("unread"),
    Phase("lingering"),
    Phase("own-ends"),
    Phase("incomplete"),
    Phase("flood", root=True),
    Phase("gone-peers", root=True),
    Phase("effective-users", root=True),
    Phase("probes", on_probes=True),
    Phase("crowd-of-probes", on_probes=True),
    Phase("complaints", root=True, log_stalled=True),
    Phase("gone-peers-held", root=True, update=True),
)
WITHOUT_PODS = (
    Phase("effective-users", root=True),
    Phase("unread-by-users", root=True),
    Phase("lingering-many", root=True),
    Phase("own-ends-by-users", root=True),
    Phase("incomplete-by-users", root=True),
)
"""Attacks on a helper that does not tell Pods apart, so that a Pod's root can be thousands of peers."""


@pytest.fixture
def attackers(cluster):
    """A namespace for attackers, deleted before the case looks for remains."""
    with cluster.new_namespace("attackers") as name:
        made = Tenant(cluster, name)
        made.create(config_map())
        yield made


@pytest.fixture
def go_through(cluster, attackers, namespace, tmp_path):
    """Carries out attacks beside a Pod that attests, with some quiet time before and after all attacks.

    Returns the victim's attestations, keyed by attack; a daemon's failure fails the case.
    """

    def go(phases):
        pod = LoadPod("victim", INTEL_QUOTE_EX.name, cluster.node.name, 1, tmp_path / "victim")
        load, began = Load.run(cluster, namespace, [pod], rate=RATE), time.monotonic()
        load.wait_past(began + AROUND_SECONDS)
        periods, harmed = {"before": (began, began + AROUND_SECONDS)}, {}
        for phase in phases:
            periods[phase.kind], harmed[phase.kind] = attack(attackers, phase)
        ended = time.monotonic()
        load.wait_past(ended + AROUND_SECONDS)
        periods["after"] = (ended, ended + AROUND_SECONDS)
        load.stop()
        install(cluster)
        attestations = [*load.pods[0].attestations()]
        seen = {name: Period.of(attestations, *period) for name, period in periods.items()}
        assert {name: found for name, found in harmed.items() if found} == {}
        return seen

    return go


def install(cluster, *settings):
    add_on.install(cluster, settings=settings)
    for daemon in daemons_on(cluster, cluster.node):
        if daemon.restarts:  # the kubelet delays each further restart longer
            cluster.kubectl("delete", "pod", daemon.pod, f"--namespace={add_on.SYSTEM}")
    until(lambda: add_on.serves(cluster, [cluster.node.name]), "the daemons are ready", seconds=120)


@contextlib.contextmanager
def log_stalled(node):
    """For the block, stops containerd, which reads the daemons' log lines from their pipes."""
    (reader,) = node.run(["pgrep", "--exact", "containerd"]).stdout.split()
    node.run(["kill", "-STOP", reader])
    try:
        yield
    finally:
        node.run(["kill", "-CONT", reader])


def attack(attackers, phase):
    """Attack for a while; return the attack's begin and end, and the daemons' failures."""
    cluster = attackers.cluster
    level = "baseline" if phase.root else "restricted"
    cluster.kubectl("label", "namespace", attackers.namespace, f"{ENFORCE}={level}", "--overwrite")
    before, since = daemons_on(cluster, cluster.node), datetime.now(UTC)
    places = tuple(daemon.probes for daemon in before) if phase.on_probes else (SOCKET,)
    seconds = ATTACK_SECONDS * (3 if phase.update else 1)
    attackers.create(attacker(phase.kind, cluster.node.name, seconds + MORE_SECONDS, places, root=phase.root))
    attackers.wait_for_phase(phase.kind, "Running")
    began = time.monotonic()
    if phase.update:
        add_on.install(cluster, settings=["quoteHelper.logQuotesPerPeer=61"])
    with log_stalled(cluster.node) if phase.log_stalled else contextlib.nullcontext():
        time.sleep(max(0.0, began + ATTACK_SECONDS - time.monotonic()))
        ended = time.monotonic()
    until(cluster.ready, "the node is Ready")
    attackers.wait_for_phase(phase.kind, "Succeeded")
    assert all(counts["made"] for counts in json.loads(attackers.log(phase.kind)).values())
    after = daemons_on(cluster, cluster.node)
    assert all(log_lines(cluster, daemon, since) <= MOST_LOG_LINES for daemon in after)
    if phase.update:
        assert {one.uid for one in before}.isdisjoint({one.uid for one in after if one.component == add_on.HELPER})
        return (began, ended), [one for one in after if one.restarts]
    # A node is not ready if its container runtime does not answer, and then none of its Pods is ready.
    return (began, ended), harm(before, after, stayed_ready=not phase.log_stalled)


def test_attacks_and_an_update_beside_them_cost_nothing(cluster, go_through):
    install(cluster)
    seen = go_through(PHASES)
    assert {name: period.failures for name, period in seen.items() if period.failures or not period.made} == {}


def test_attacks_without_host_pid_leave_the_helper_alive(cluster, go_through):
    install(cluster, "quoteHelper.hostPID=false")
    seen = go_through(WITHOUT_PODS)
    # Before and after the attacks, no attestation may fail.
    assert [(seen[name].failures, bool(seen[name].made)) for name in ("before", "after")] == [((), True)] * 2
