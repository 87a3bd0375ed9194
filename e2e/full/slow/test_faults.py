"""Faults of a node: clients in Pods continue to attest, `confcom status` names the fault, everything recovers."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from confcom.errors import ExitCode
from e2e.add_on import HELPER, PLUGIN, kill, processes_of
from e2e.confcom_command import JSON, AddOn, codes_of, uids
from e2e.load.outcome import Outcome
from e2e.other_image import digest_of, import_other, with_digest
from e2e.waiting import until

HELD_MIB = 80
"""MiB of EPC that the clients of a node hold."""
RATE = 4.0
"""Attestations per second of each of eight clients."""
AWAY_SECONDS = 30.0
NOTICE_SECONDS = 150.0
"""Seconds for `status` to name the fault; a node counts as lost after 50 s."""
SEVERAL = 6
"""Highest number of kills. Usually `status` shows the kubelet's longer delay after the second kill."""


def is_named(add_on: AddOn, code: str) -> bool:
    problems = add_on.status()["problem_details"]
    return (add_on.nodes[0].name, code) in {(one["node"], one["code"]) for one in problems}


def component_killed(component: str):
    def fault(add_on: AddOn) -> Callable[[], object]:
        add_on.nodes[0].kill(component)
        until(lambda: is_named(add_on, "node-not-ready"), "status names the node", seconds=NOTICE_SECONDS)
        return lambda: add_on.nodes[0].start(component)

    return fault


def daemon_killed(component: str):
    """Kill the daemon whenever it runs again, until `status` names the daemon."""

    def fault(add_on: AddOn) -> Callable[[], object]:
        node = add_on.nodes[0]
        for _ in range(SEVERAL):
            until(lambda: processes_of(node, component), f"{component} runs")
            kill(node, component)
            if is_named(add_on, "daemon-not-ready"):
                return lambda: None
        pytest.fail(f"status did not name the {component}")

    return fault


def api_server_away(add_on: AddOn) -> Callable[[], object]:
    add_on.cluster.stop("apiserver")
    stopped = time.monotonic()
    assert codes_of(add_on.confcom("status", JSON, code=ExitCode.UNAVAILABLE)) == {"cluster-request-failed"}
    time.sleep(max(0.0, stopped + AWAY_SECONDS - time.monotonic()))
    return lambda: add_on.cluster.start("apiserver")


@dataclass(frozen=True)
class Fault:
    """A fault of the first node. `begin` causes the fault, and returns a function that ends the fault."""

    name: str
    begin: Callable[[AddOn], Callable[[], object]]
    loses_quotes: bool = False


FAULTS = (
    Fault("kubelet killed", component_killed("kubelet")),
    Fault("containerd killed", component_killed("containerd")),
    Fault("device plugin killed", daemon_killed(PLUGIN)),
    Fault("API server away", api_server_away),
    Fault("quote helper killed", daemon_killed(HELPER), loses_quotes=True),
)


@pytest.mark.timeout(1800, func_only=True)
def test_faults_are_named_and_clients_go_on(add_on, start_load, party):
    load = start_load(HELD_MIB, RATE)
    tenants, daemons = load.states(), uids(add_on.pods(HELPER)) | uids(add_on.pods(PLUGIN))
    for fault in FAULTS:
        began = time.monotonic()
        end = fault.begin(add_on)
        load.wait_past(time.monotonic())
        end()
        # A lost node is Ready when its kubelet watches the API again; the pauses between attempts grow.
        until(add_on.cluster.ready, "the nodes are Ready", seconds=NOTICE_SECONDS)
        add_on.wait_for_epc()
        until(add_on.is_well, "all is well again", seconds=NOTICE_SECONDS)
        ended = time.monotonic()
        load.wait_past(ended)
        assert load.states() == tenants
        failures = Outcome.of(load).failures
        assert fault.loses_quotes or failures == []
    assert uids(add_on.pods(HELPER)) | uids(add_on.pods(PLUGIN)) == daemons
    outcome = Outcome.verified(load, party)
    assert outcome.not_offered(load.rate) == []
    assert outcome.failed_only_on(add_on.nodes[0].name, (began, ended))


@pytest.mark.timeout(1800, func_only=True)
def test_a_node_that_is_away_during_an_update_loses_no_quote(cluster, add_on, start_load, tmp_path):
    """A returned kubelet stops the old helper while the new one starts; the old helper serves on."""
    digest = digest_of(import_other(cluster, tmp_path, HELPER))
    load = start_load(HELD_MIB, RATE)
    old = uids(add_on.pods(HELPER))
    back = component_killed("kubelet")(add_on)
    add_on.confcom("update", with_digest(HELPER, digest), code=ExitCode.NOT_READY)

    # No Pod is created for an absent node, whose kubelet ends the old helper as soon as the node is back.
    until(lambda: any(pod["metadata"].get("deletionTimestamp") for pod in add_on.all_pods(HELPER)), "one is to end")

    back()
    until(add_on.cluster.ready, "the nodes are Ready", seconds=NOTICE_SECONDS)
    until(lambda: add_on.has_replaced(old), "only the new helpers are left", seconds=NOTICE_SECONDS)
    until(add_on.is_well, "all is well again", seconds=NOTICE_SECONDS)
    load.wait_past(time.monotonic())
    assert Outcome.of(load).failures == []
