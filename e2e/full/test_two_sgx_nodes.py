"""Two nodes with (simulated) SGX and one without: what is where, and one root for all quotes, whatever happens."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from confcom.errors import ExitCode
from e2e import add_on
from e2e.add_on import EPC, HELPER, SYSTEM
from e2e.cluster import Cluster, Node
from e2e.confcom_command import JSON, codes_of, document_of
from e2e.probes import answers_by_pod
from e2e.relying_party import RelyingParty
from e2e.tenants import Tenant, quoting_pod
from e2e.waiting import until

Nodes = tuple[Node, Node, Node]

OUR_PREFIXES = ("kubernetes.azure.com/", "sgx.intel.com/", "confcom.internal/")
PLUGINS = "/var/lib/kubelet/device-plugins"
EPC_OF_A_TENANT = {EPC: 10}
CASE_SECONDS = 400
"""25 to 40 s are usual for those that replace or restart something: much more where others need the CPU too."""
UPDATE_SECONDS = 240.0
"""For one command that changes the daemons, and waits for them."""
BACK_SECONDS = 180.0
"""For a rebooted node to serve again: 20 s are usual."""


@pytest.fixture
def relying_party(cluster: Cluster, sgx_nodes: Nodes, tmp_path: Path) -> RelyingParty:
    """It trusts the root as it is before anything happens."""
    return RelyingParty.of(cluster, tmp_path / "trust")


@dataclass
class Applications:
    """On both SGX nodes, whose quotes one relying party accepts."""

    tenant: Tenant
    nodes: Nodes
    relying_party: RelyingParty
    folder: Path

    @property
    def names(self) -> list[str]:
        return [node.name for node in self.nodes[:2]]

    def quotes_verify(self, when: str) -> None:
        """One on each node gets a quote over a challenge of its own, and the relying party accepts it."""
        challenges = {name: secrets.token_hex(32) for name in self.names}
        for name, challenge in challenges.items():
            self.tenant.create(quoting_pod(f"{when}-{name}", challenge, EPC_OF_A_TENANT, node=name))
        for name, challenge in challenges.items():
            self.tenant.wait_for_phase(f"{when}-{name}", "Succeeded")
            verdict = self.relying_party.verify(self.tenant.quote(f"{when}-{name}"), challenge)
            assert verdict["platform"] == "simulated"

    def root_is_the_same(self) -> bool:
        return RelyingParty.of(self.tenant.cluster, self.folder).root == self.relying_party.root


@pytest.fixture
def applications(sgx_nodes: Nodes, tenant: Tenant, relying_party: RelyingParty, tmp_path: Path) -> Applications:
    return Applications(tenant, sgx_nodes, relying_party, tmp_path / "exported-again")


def found_on(cluster: Cluster, node: Node) -> dict[str, list[str]]:
    """What a node has of ours, but for the controller, which may be on any."""

    def there(*paths: str) -> list[str]:
        return node.run(["find", *paths, "-mindepth", "1", "-maxdepth", "1"], check=False).stdout.split()

    seen = cluster.kubectl_json("get", "node", node.name)
    named = {*seen["metadata"]["labels"], *seen["status"]["capacity"], *seen["status"]["allocatable"]}
    pods = cluster.kubectl_json("get", "pods", f"--namespace={SYSTEM}", f"--field-selector=spec.nodeName={node.name}")
    programs = node.run(["ps", "-eo", "args"]).stdout
    return {
        "pods": [one for pod in pods["items"] if (one := pod["metadata"]["labels"][add_on.COMPONENT]) != "controller"],
        "names": sorted(name for name in named if name.startswith(OUR_PREFIXES)),
        "devices": [path for path in there("/dev") if "sgx" in path],
        "directories": [path for path in there("/run", "/var/run/") if path.endswith("/aesmd")],
        "sockets": [path for path in there(PLUGINS) if not Path(path).name.startswith("kubelet")],
        "programs": [one for one in programs.splitlines() if "-m confcom." in one and "confcom.controller" not in one],
    }


def test_nothing_of_ours_is_on_the_node_without_sgx(cluster: Cluster, sgx_nodes: Nodes) -> None:
    *with_sgx, without = sgx_nodes
    for node in with_sgx:
        found = found_on(cluster, node)
        assert sorted(found["pods"]) == sorted(add_on.DAEMONS)
        assert EPC in found["names"]
        assert found["directories"]
        assert found["sockets"]
        assert len(found["programs"]) == len(add_on.DAEMONS)
        # Simulation makes none on the node.
        assert found["devices"] == []

    assert not any(found_on(cluster, without).values())


def test_two_applications_share_one_helper(
    cluster: Cluster, sgx_nodes: Nodes, tenant: Tenant, relying_party: RelyingParty
) -> None:
    node = sgx_nodes[1].name
    challenges = {name: secrets.token_hex(32) for name in ("one", "two")}
    for name, challenge in challenges.items():
        tenant.create(quoting_pod(name, challenge, EPC_OF_A_TENANT, node=node))
    for name, challenge in challenges.items():
        tenant.wait_for_phase(name, "Succeeded")
        relying_party.verify(tenant.quote(name), challenge)

    helpers = [pod for pod in add_on.daemons(cluster) if pod["metadata"]["labels"][add_on.COMPONENT] == HELPER]
    assert [pod["spec"]["nodeName"] for pod in helpers].count(node) == 1
    here, on_the_other = (answers_by_pod(cluster, name) for name in (node, sgx_nodes[0].name))
    for name in challenges:
        uid = tenant.get(name)["metadata"]["uid"]
        assert here[uid]["success"] > 0
        assert here[uid]["failure"] == 0
        assert uid not in on_the_other


@pytest.mark.timeout(CASE_SECONDS, func_only=True)
def test_quotes_of_both_nodes_verify_with_one_root_also_after_an_update(
    cluster: Cluster, applications: Applications, tell
) -> None:
    names = applications.names
    applications.quotes_verify("before")
    before = {add_on.helper_on(cluster, name)["metadata"]["uid"] for name in names}

    began = time.monotonic()
    add_on.install(cluster, names, ["quoteHelper.logQuotesPerPeer=61"])
    tell(f"helpers of two nodes updated after {time.monotonic() - began:.1f} s")

    try:
        assert before.isdisjoint({add_on.helper_on(cluster, name)["metadata"]["uid"] for name in names})
        applications.quotes_verify("after")
        assert applications.root_is_the_same()
    finally:
        add_on.install(cluster, names)


@pytest.mark.timeout(CASE_SECONDS, func_only=True)
def test_quotes_of_both_nodes_verify_with_one_root_also_after_a_helper_was_killed(
    cluster: Cluster, applications: Applications, tell
) -> None:
    node = applications.nodes[1]
    applications.quotes_verify("before")
    helper = add_on.helper_on(cluster, node.name)
    (container,) = helper["status"]["containerStatuses"]
    identifier = container["containerID"].removeprefix("containerd://")
    tasks = {line.split()[0]: line.split()[1] for line in node.run(["ctr", "tasks", "list"]).stdout.splitlines()}

    began = time.monotonic()
    node.run(["kill", "-KILL", tasks[identifier]])

    def restarted() -> bool:
        (again,) = add_on.helper_on(cluster, node.name)["status"]["containerStatuses"]
        return again["restartCount"] == container["restartCount"] + 1 and again["ready"]

    until(restarted, "the helper is back", seconds=BACK_SECONDS)
    tell(f"the helper was ready again after {time.monotonic() - began:.1f} s, as the API shows it")
    assert add_on.helper_on(cluster, node.name)["metadata"]["uid"] == helper["metadata"]["uid"]
    applications.quotes_verify("after")
    assert applications.root_is_the_same()


@pytest.mark.timeout(CASE_SECONDS, func_only=True)
def test_quotes_of_both_nodes_verify_with_one_root_also_after_a_reboot(
    cluster: Cluster, applications: Applications, tell
) -> None:
    node = applications.nodes[1]

    def boot() -> str:
        return str(cluster.kubectl_json("get", "node", node.name)["status"]["nodeInfo"]["bootID"])

    applications.quotes_verify("before")
    before = boot()

    began = time.monotonic()
    node.reboot()

    until(lambda: boot() != before, "the API has seen the reboot", seconds=BACK_SECONDS)
    until(lambda: add_on.serves(cluster, applications.names), "both nodes serve", seconds=BACK_SECONDS)
    tell(f"a rebooted node served again after {time.monotonic() - began:.1f} s")
    applications.quotes_verify("after")
    assert applications.root_is_the_same()


@pytest.mark.timeout(CASE_SECONDS, func_only=True)
def test_an_update_beside_a_node_that_is_off_names_it_and_reaches_it_when_it_is_back(
    cluster: Cluster, applications: Applications, tell
) -> None:
    off, names = applications.nodes[1], applications.names

    def confcom(*arguments: str, code: ExitCode = ExitCode.OK) -> subprocess.CompletedProcess[str]:
        done = cluster.run([sys.executable, "-m", "confcom", *arguments], check=False, timeout=UPDATE_SECONDS)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def is_off() -> bool:
        conditions = cluster.kubectl_json("get", "node", off.name)["status"]["conditions"]
        return {one["status"] for one in conditions if one["type"] == "Ready"} == {"Unknown"}

    update = ("update", "--set", "logLevel=debug")
    try:
        off.kill("kubelet")
        until(is_off, "the API takes the node for lost", seconds=BACK_SECONDS)
        done = confcom(*update, "--timeout=20", JSON, code=ExitCode.NOT_READY)
        assert codes_of(done) >= {"daemons-not-ready"}
        error = document_of(done)["error"]
        assert off.name in error["what"]
        assert off.name in error["do"]
        tell(error["what"])
        assert "node-not-ready" in codes_of(confcom("status", JSON, code=ExitCode.NOT_READY))
        off.start("kubelet")
        until(lambda: not is_off(), "the node is Ready", seconds=BACK_SECONDS)
        confcom(*update)
        until(lambda: status_of(cluster)["ok"], "all is well", seconds=BACK_SECONDS)
        applications.quotes_verify("after")
    finally:
        cluster.mend()
        add_on.install(cluster, names)


def status_of(cluster: Cluster) -> dict[str, Any]:
    return document_of(cluster.run([sys.executable, "-m", "confcom", "status", JSON], check=False))
