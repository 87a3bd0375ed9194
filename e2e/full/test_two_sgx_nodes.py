"""Two nodes with (simulated) SGX and one without: what is where, and one root for all quotes, whatever happens."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import pytest

from confcom.errors import ExitCode
from e2e import add_on
from e2e.add_on import EPC, HELPER
from e2e.cluster import Cluster, Node
from e2e.confcom_command import JSON, codes_of, confcom, document_of, status_of
from e2e.daemon_processes import kill
from e2e.relying_party import RelyingParty
from e2e.tenants import Tenant, quoting_pod
from e2e.waiting import until

Nodes = tuple[Node, Node, Node]

BACK_SECONDS = 180.0
"""For a rebooted node to serve again: 20 s are usual."""

pytestmark = pytest.mark.timeout(900, func_only=True)


@pytest.fixture
def relying_party(cluster: Cluster, sgx_nodes: Nodes, tmp_path: Path) -> RelyingParty:
    """It trusts the root as it is before anything happens."""
    return RelyingParty.of(cluster, tmp_path / "trust")


def quotes_verify(tenant: Tenant, names: list[str], relying_party: RelyingParty) -> dict[str, str]:
    """A Pod on each of these nodes gets a quote over a challenge of its own; returns the Pods' UIDs."""
    challenges = {f"{name}-{secrets.token_hex(4)}": (name, secrets.token_hex(32)) for name in names}
    for pod, (name, challenge) in challenges.items():
        tenant.create(quoting_pod(pod, challenge, {EPC: 10}, node=name))
    for pod, (_, challenge) in challenges.items():
        tenant.wait_for_phase(pod, "Succeeded")
        assert relying_party.verify(tenant.quote(pod), challenge)["platform"] == "simulated"
    return {pod: tenant.get(pod)["metadata"]["uid"] for pod in challenges}


def test_one_root_after_an_update_a_kill_and_a_reboot(
    cluster: Cluster, sgx_nodes: Nodes, tenant: Tenant, relying_party: RelyingParty, *, tmp_path: Path, tell
) -> None:
    node, names = sgx_nodes[1], [node.name for node in sgx_nodes[:2]]
    quotes_verify(tenant, names, relying_party)
    before = {add_on.helper_on(cluster, name)["metadata"]["uid"] for name in names}

    began = time.monotonic()
    add_on.install(cluster, names, ["quoteHelper.logQuotesPerPeer=61"])
    tell(f"helpers of two nodes updated after {time.monotonic() - began:.1f} s")
    assert before.isdisjoint({add_on.helper_on(cluster, name)["metadata"]["uid"] for name in names})
    quotes_verify(tenant, names, relying_party)

    killed = add_on.helper_on(cluster, node.name)
    began = time.monotonic()
    assert kill(node, HELPER)

    def restarted() -> bool:
        again = add_on.helper_on(cluster, node.name)
        assert again["metadata"]["uid"] == killed["metadata"]["uid"]
        return again["status"]["containerStatuses"][0]["restartCount"] == 1

    until(restarted, "the helper is back", seconds=BACK_SECONDS)
    tell(f"the helper was ready again after {time.monotonic() - began:.1f} s, as the API shows it")
    quotes_verify(tenant, names, relying_party)

    boot = boot_of(cluster, node)
    began = time.monotonic()
    node.reboot()
    until(lambda: boot_of(cluster, node) != boot, "the API has seen the reboot", seconds=BACK_SECONDS)
    until(lambda: add_on.serves(cluster, names), "both nodes serve", seconds=BACK_SECONDS)
    tell(f"a rebooted node served again after {time.monotonic() - began:.1f} s")
    quotes_verify(tenant, names, relying_party)
    assert RelyingParty.of(cluster, tmp_path / "again").root == relying_party.root
    add_on.install(cluster, names)


def boot_of(cluster: Cluster, node: Node) -> str:
    return str(cluster.kubectl_json("get", "node", node.name)["status"]["nodeInfo"]["bootID"])


def test_an_update_names_a_node_that_is_off_and_reaches_it_later(
    cluster: Cluster, sgx_nodes: Nodes, tenant: Tenant, relying_party: RelyingParty, tell
) -> None:
    off, names = sgx_nodes[1], [node.name for node in sgx_nodes[:2]]

    def is_off() -> bool:
        conditions = cluster.kubectl_json("get", "node", off.name)["status"]["conditions"]
        return {one["status"] for one in conditions if one["type"] == "Ready"} == {"Unknown"}

    update = ("update", "--set", "logLevel=debug")
    try:
        off.kill("kubelet")
        until(is_off, "the API takes the node for lost", seconds=BACK_SECONDS)
        done = confcom(cluster, *update, "--timeout=20", JSON, code=ExitCode.NOT_READY)
        assert "daemons-not-ready" in codes_of(done)
        error = document_of(done)["error"]
        assert off.name in error["what"]
        assert off.name in error["do"]
        tell(error["what"])
        assert "node-not-ready" in codes_of(confcom(cluster, "status", JSON, code=ExitCode.NOT_READY))
        off.start("kubelet")
        until(lambda: not is_off(), "the node is Ready", seconds=BACK_SECONDS)
        confcom(cluster, *update)
        until(lambda: status_of(cluster)["ok"], "all is well", seconds=BACK_SECONDS)
        quotes_verify(tenant, names, relying_party)
    finally:
        cluster.mend()
        add_on.install(cluster, names)
