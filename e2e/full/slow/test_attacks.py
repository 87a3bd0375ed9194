"""Pods that attack a node's daemons, and one that attests beside them as if nothing were."""

import json
import secrets
import time
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from e2e import add_on
from e2e.attacks.daemons import daemons_on, watching
from e2e.attacks.outcome import Period, table
from e2e.attacks.pods import ENFORCE, Attacker, config_map
from e2e.load.pods import Load, LoadPod
from e2e.tenants import Tenant
from e2e.waiting import until
from testkit.replay.sequences import INTEL_QUOTE_EX

CASE_SECONDS = 900
"""For one case: a minute of attack, half a minute before it, and a change of the chart on a busy machine."""
RATE = 10.0
"""The victim's attestations per second."""
BEFORE_SECONDS = 30.0
ATTACK_SECONDS = 60.0
READY_SECONDS = 120.0
"""For a daemon that an earlier case left restarting to be replaced."""
MORE_SECONDS = 30.0
"""For which an attacker goes on after what was watched: nothing ends while it is."""
AFTER_SECONDS = 5.0
"""For which the victim goes on when the attacker has ended."""
SOCKET = "/var/run/aesmd/aesm.socket"
MOST_RENDERINGS = 2 * (ATTACK_SECONDS + MORE_SECONDS)
"""Of metrics that are asked for in a loop: twice as many as there are if all of a second get the same. Thousands, if
each who asks has them made."""
MOST_LOG_LINES = 2_000
"""Of a daemon in a case: a helper allows itself some 500 a minute, and the case lies in three of its minutes. Without a
bound for all users, 600 of them cause 25,000."""
WITHOUT_PODS = ("quoteHelper.hostPID=false",)
"""Settings with which the helper tells clients apart by their users only."""

pytestmark = pytest.mark.timeout(CASE_SECONDS, func_only=True)


@dataclass(frozen=True)
class Attack:
    """An attack as a case has it."""

    kind: str
    root: bool = False
    settings: tuple[str, ...] = ()
    on_probes: bool = False

    def __str__(self):
        return self.kind + ("-by-user" if self.settings else "")

    @property
    def attacker(self) -> Attacker:
        return Attacker(self.kind, self.root)


ATTACKS = (
    Attack("unread"),
    Attack("incomplete"),
    Attack("gone-peers-held", root=True),
    Attack("gone-peers", root=True),
    Attack("effective-users", root=True),
    Attack("effective-users", root=True, settings=WITHOUT_PODS),
    Attack("unread-by-users", root=True, settings=WITHOUT_PODS),
    Attack("incomplete-by-users", root=True, settings=WITHOUT_PODS),
    Attack("complaints", root=True),
    Attack("probes", on_probes=True),
    Attack("crowd-of-probes", on_probes=True),
)


@pytest.fixture
def attackers(cluster):
    """A namespace for them; it is gone before the case looks at what is left."""
    name = f"attackers-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}")
    yield Tenant(cluster, name)
    cluster.kubectl("delete", "namespace", name)


@pytest.fixture
def victim(cluster, namespace, tmp_path):
    """Starts the Pod that attests, once the add-on is as the case wants it."""

    def start() -> Load:
        pod = LoadPod("victim", INTEL_QUOTE_EX.name, cluster.node.name, 1, tmp_path / "victim")
        return Load.run(cluster, namespace, [pod], rate=RATE)

    return start


@contextmanager
def installed_with(cluster, settings):
    """The add-on with other settings, and as before afterwards."""
    add_on.install(cluster, settings=settings)
    for daemon in daemons_on(cluster, cluster.node):
        if daemon.restarts:  # the kubelet lets each next start wait longer
            cluster.kubectl("delete", "pod", daemon.pod, f"--namespace={add_on.SYSTEM}")
    until(lambda: add_on.serves(cluster, [cluster.node.name]), "the daemons are ready", seconds=READY_SECONDS)
    yield
    if settings:
        add_on.install(cluster)


def attack(attackers: Tenant, chosen: Attack, seconds: float) -> None:
    """Start an attacker, which goes on for longer than it is watched; returns when it runs."""
    cluster = attackers.cluster
    level = f"{ENFORCE}={chosen.attacker.level}"
    cluster.kubectl("label", "namespace", attackers.namespace, level, "--overwrite")
    attackers.create(config_map())
    places = [SOCKET]
    if chosen.on_probes:
        places = [daemon.probes for daemon in daemons_on(cluster, cluster.node)]
    attackers.create(chosen.attacker.manifest(cluster.node.name, seconds + MORE_SECONDS, tuple(places)))
    attackers.wait_for_phase(chosen.kind, "Running")


def told_by(attackers: Tenant, chosen: Attack) -> dict[str, dict[str, int]]:
    """What the attacker did, when it has ended by itself."""
    attackers.wait_for_phase(chosen.kind, "Succeeded")
    told: dict[str, dict[str, int]] = json.loads(attackers.log(chosen.kind))
    return told


@pytest.mark.parametrize("chosen", ATTACKS, ids=str)
def test_a_minute_of_attack_costs_no_restart_and_no_attestation(cluster, attackers, victim, chosen, tell) -> None:
    with installed_with(cluster, chosen.settings):
        load = victim()
        began = time.monotonic()
        load.wait_past(began + BEFORE_SECONDS)
        with watching(cluster, cluster.node) as watch:
            attack(attackers, chosen, ATTACK_SECONDS)
            attacked = time.monotonic()
            time.sleep(ATTACK_SECONDS)
            ended = time.monotonic()
        seen = watch.seen()
        did = told_by(attackers, chosen)
        load.wait_past(time.monotonic() + AFTER_SECONDS)
        load.stop()

    attestations = [*load.pods[0].attestations()]
    before = Period.of("before", attestations, began, began + BEFORE_SECONDS)
    during = Period.of("attacked", attestations, attacked, ended)
    for line in table([before, during], seen):
        tell(line)
    tell(f"the attacker, {chosen}: {did}")
    assert before.failures == ()
    assert before.made
    assert [complaint for one in seen for complaint in one.complaints] == []
    assert all(counts["made"] for counts in did.values())
    assert all(counts["renderings"] <= MOST_RENDERINGS for counts in did.values())
    assert all(one.log_lines <= MOST_LOG_LINES for one in seen)
    assert attestations[-1].failure == ""
    if chosen.settings != WITHOUT_PODS:
        # Else who can be any user can be as many peers as there are parts of anything: that is told, and ends with it.
        assert during.made
        assert during.failures == ()


def test_a_second_helper_becomes_ready_while_a_pod_is_thousands_of_peers(cluster, attackers, victim, tell) -> None:
    chosen = Attack("gone-peers-held", root=True)
    with installed_with(cluster, ()):
        load = victim()
        began = time.monotonic()
        load.wait_past(began + BEFORE_SECONDS)
        attack(attackers, chosen, 2 * ATTACK_SECONDS)
        attacked = time.monotonic()
        (old,) = [one for one in daemons_on(cluster, cluster.node) if one.component == add_on.HELPER]
        load.wait_past(attacked + ATTACK_SECONDS / 6)
        updating = time.monotonic()
        add_on.install(cluster, settings=["quoteHelper.logQuotesPerPeer=61"])
        updated = time.monotonic()
        load.wait_past(updated + ATTACK_SECONDS / 6)
        (new,) = [one for one in daemons_on(cluster, cluster.node) if one.component == add_on.HELPER]
        ended = time.monotonic()
        told_by(attackers, chosen)
        load.stop()
        add_on.install(cluster)

    attestations = [*load.pods[0].attestations()]
    before = Period.of("before", attestations, began, began + BEFORE_SECONDS)
    during = Period.of("attacked", attestations, attacked, ended)
    for line in table([before, during], []):
        tell(line)
    tell(f"the update took {updated - updating:.1f} s; {new.unhealthy} probes of the new helper failed before that")
    assert new.uid != old.uid
    assert new.restarts == 0
    assert before.failures == during.failures == ()


def test_a_log_that_nobody_reads_stops_neither_quotes_nor_probes(cluster, attackers, victim, tell) -> None:
    """containerd takes the log lines out of the helper's pipe; it is stopped for as long as the attack goes on."""
    chosen = Attack("complaints", root=True)
    with installed_with(cluster, ()):
        load = victim()
        began = time.monotonic()
        load.wait_past(began + BEFORE_SECONDS)
        first = daemons_on(cluster, cluster.node)
        attack(attackers, chosen, ATTACK_SECONDS)
        (reader,) = cluster.node.run(["pgrep", "--exact", "containerd"]).stdout.split()
        cluster.node.run(["kill", "-STOP", reader])
        try:
            stalled = time.monotonic()
            time.sleep(ATTACK_SECONDS)
            ended = time.monotonic()
        finally:
            cluster.node.run(["kill", "-CONT", reader])
        until(cluster.ready, "the node is Ready again")
        now = daemons_on(cluster, cluster.node)
        did = told_by(attackers, chosen)
        load.stop()

    attestations = [*load.pods[0].attestations()]
    before = Period.of("before", attestations, began, began + BEFORE_SECONDS)
    during = Period.of("log stalled", attestations, stalled, ended)
    for line in table([before, during], []):
        tell(line)
    failed = [one.unhealthy - was.unhealthy for one, was in zip(now, first, strict=False)]
    tell(f"the attacker: {did}; failed probes: {failed}")
    assert before.failures == during.failures == ()
    assert during.made
    # Not their condition: a node whose container runtime does not answer is not ready, and with it all of its Pods.
    assert [(one.pod, one.restarts, one.unhealthy) for one in now] == [
        (one.pod, one.restarts, one.unhealthy) for one in first
    ]
