"""Changes of the add-on while eight clients in pods attest, which together hold every MiB of enclave memory."""

import hashlib
import time
from dataclasses import dataclass

import pytest

from confcom.errors import ExitCode
from e2e.add_on import HELPER, PLUGIN, SYSTEM, allocatable, kill
from e2e.confcom_command import AddOn, uids
from e2e.load.outcome import Outcome
from e2e.load.pods import Load
from e2e.other_image import Changes, digest_of, import_other, with_digest
from e2e.sized_nodes import SizedNode
from e2e.waiting import until

SMALLEST_NODE_MIB = 28
RATE = 10.0
"""Attestations per second of each client; eight clients make 80, with about 100 quotes and 400 calls."""
AROUND_SECONDS = 10.0
"""Seconds of load before and after each change."""
SERVED = 1_000
"""Least number of quotes that each instance of the helper must serve."""
SERVED_SECONDS = 300.0
QUOTING_ENCLAVES = {
    (hashlib.sha256(f"confcom simulated quoting enclave, version {version}".encode()).hexdigest(), version)
    for version in (1, 2)
}
SITE_PACKAGES = "/opt/confcom/lib/python3.11/site-packages/"
WRONG_QUOTES = b"""
from confcom.quote_provider.simulated import SimulatedQuoteProvider

right = SimulatedQuoteProvider.quote
def quote(self, report, info):
    made = right(self, report, info)
    report_data = bytes(byte ^ 255 for byte in made.quote[368:432])
    return type(made)(made.quote[:368] + report_data + made.quote[432:], made.qe_report_info)
SimulatedQuoteProvider.quote = quote
"""
"""Module of a broken helper; its quotes have other report data than the request's report."""
ENDS_AT_ONCE = b"""
import os, sys

if "confcom.quote_helper" in sys.orig_argv:
    os._exit(3)
"""
BROKEN = {"CrashLoopBackOff: exit code 3": ENDS_AT_ONCE, "no verifier accepts the quote of the self-test": WRONG_QUOTES}
"""Modules that break the helper, keyed by the reason that `confcom update` prints for the broken image."""

pytestmark = pytest.mark.timeout(2400, func_only=True)


@pytest.fixture
def sizes(nodes):
    return [SizedNode(node, SMALLEST_NODE_MIB) for node in nodes[:2]]


@dataclass(frozen=True)
class Story:
    """The add-on, its clients, and the steps of the test."""

    add_on: AddOn
    load: Load

    def around(self) -> None:
        self.load.wait_past(time.monotonic() + AROUND_SECONDS)

    def served(self) -> None:
        """Wait until each helper has served enough quotes."""
        pods = self.add_on.pods(HELPER)

        def enough() -> bool:
            return all(self.add_on.quotes_by(pod) >= SERVED for pod in pods.values())

        until(enough, f"each helper has served {SERVED} quotes", seconds=SERVED_SECONDS)

    def change(self, *arguments) -> tuple[float, float]:
        """Carry out a command that replaces all helpers; return the times at which it began and ended."""
        self.around()
        old = uids(self.add_on.pods(HELPER))
        began = time.monotonic()
        self.add_on.confcom(*arguments)
        until(lambda: not old & {one["metadata"]["uid"] for one in self.add_on.all_pods(HELPER)}, "they have gone")
        ended = time.monotonic()
        self.served()
        return began, ended

    def break_and_undo(self, reason, image) -> None:
        """Check that a broken update stops at its first node, whose old helper serves on; roll it back."""
        self.around()
        old = self.add_on.pods(HELPER)
        before = {node: self.add_on.quotes_by(pod) for node, pod in old.items()}
        digest = digest_of(image)
        update = ("update", with_digest(HELPER, digest))
        done = self.add_on.confcom(*update, "--timeout=60", code=ExitCode.NOT_READY)
        assert reason in done.stderr
        assert "confcom rollback" in done.stderr
        seen = {pod["metadata"]["uid"]: pod for pod in self.add_on.all_pods(HELPER)}
        (new,) = set(seen) - uids(old)
        assert seen[new]["spec"]["containers"][0]["image"].endswith(digest)
        assert any(reason in one["problem"] for one in self.add_on.status()["problem_details"])
        self.around()
        assert all(self.add_on.quotes_by(pod) > before[node] for node, pod in old.items())
        self.add_on.confcom("rollback")
        assert uids(self.add_on.pods(HELPER)) == uids(old)
        self.add_on.is_well()

    def kill(self) -> tuple[float, float]:
        """Kill a helper; return the begin and the end of its absence."""
        self.around()
        node, before = self.add_on.nodes[0], self.add_on.pods(HELPER)
        killed = time.monotonic()
        assert kill(node, HELPER)

        def back() -> bool:
            return self.add_on.pods(HELPER)[node.name]["status"]["containerStatuses"][0]["restartCount"] == 1

        until(back, "the helper is back")
        ready = time.monotonic()
        self.around()
        assert uids(self.add_on.pods(HELPER)) == uids(before)
        return killed, ready


def test_no_attestation_fails_by_updates_and_rollbacks(cluster, add_on, start_load, party, tmp_path):
    other = {name: digest_of(import_other(cluster, tmp_path, name)) for name in (PLUGIN, HELPER)}
    broken = {}
    for reason, program in BROKEN.items():
        files = {f"{SITE_PACKAGES}wrong.pth": b"import wrong\n", f"{SITE_PACKAGES}wrong.py": program}
        broken[reason] = import_other(cluster, tmp_path, HELPER, changes=Changes(files=files))
    load = start_load(add_on.offered_mib, RATE)
    assert sum(pod.epc_mib for pod in load.pods) == add_on.offered_mib * len(add_on.nodes)
    tenants, story = load.states(), Story(add_on, load)
    story.served()

    story.change("update", *(with_digest(name, digest) for name, digest in other.items()))
    for component, digest in other.items():
        for pod in add_on.pods(component).values():
            assert pod["spec"]["containers"][0]["image"].endswith(f"@{digest}")
    mr_enclave, isv_svn = max(QUOTING_ENCLAVES, key=lambda one: one[1])
    values = (f"mrEnclave={mr_enclave}", f"isvSvn={isv_svn}")
    enclave_began, _ = story.change("update", *(f"--set=simulated.quotingEnclave.{value}" for value in values))
    story.change("rollback")
    for reason, image in broken.items():
        story.break_and_undo(reason, image)
    away = story.kill()

    assert load.states() == tenants
    assert {phase for _, phase, _ in tenants.values()} == {"Running"}
    for namespace in (load.namespace, SYSTEM):
        chosen = ("get", "events", f"--namespace={namespace}", "--field-selector=reason=Preempted")
        assert cluster.kubectl_json(*chosen)["items"] == []
    for node in add_on.nodes:
        assert str(sum(pod.epc_mib for pod in load.pods if pod.node == node.name)) == allocatable(cluster, node.name)
    outcome = Outcome.verified(load, party)
    assert outcome.not_offered(load.rate) == []
    assert outcome.failed_only_on(add_on.nodes[0].name, away)
    # Clients get error 42 only because the quoting enclave has changed.
    assert outcome.renewals
    assert min(outcome.renewals) > enclave_began
    assert {(mr_enclave.hex(), svn) for mr_enclave, svn in outcome.quoting_enclaves} == QUOTING_ENCLAVES
