"""Nodes with 1 TiB and with 28 MiB of EPC: how their EPC is counted, and what a disabled add-on leaves."""

import secrets
import subprocess

import pytest

from e2e.add_on import EPC
from e2e.beside import beside
from e2e.confcom_command import JSON, document_of
from e2e.relying_party import RelyingParty
from e2e.sized_nodes import SizedNode
from e2e.tenants import container, pod
from e2e.waiting import until

BYTES = "sgx.intel.com/epc"
HOLD = ("--hold", "3600")

pytestmark = [pytest.mark.timeout(900, func_only=True), pytest.mark.usefixtures("rewriting")]


@pytest.fixture
def sizes(nodes):
    return SizedNode(nodes[2], 1024 * 1024), SizedNode(nodes[1], 28)


def test_one_tib_beside_a_small_node(cluster, add_on, sizes, tenant, tmp_path):
    large, small = sizes
    until(add_on.is_well, "all is well")
    for node, kind, choice in ((large, "capacity", "large-epc"), (small, "device", "fits-devices")):
        epc = add_on.epc()[node.name]
        amounts = {epc[f"{one}_mib"] for one in ("offered", "capacity", "allocatable", "free")}
        assert (epc["found_mib"], amounts, epc["used_mib"]) == (node.epc_mib, {node.offered_mib}, 0)
        assert (epc["kind"], epc["choice"], epc["held_back_mib"]) == (kind, choice, 0)

    party = RelyingParty.of(cluster, tmp_path / "trust")
    for node, amount, mib in ((large, "900Gi", 900 * 1024), (small, "10Mi", 10)):
        challenge = secrets.token_hex(32)
        environment = {"SGX_AESM_ADDR": "1", "CONFCOM_CHALLENGE": challenge}
        main = container("main", limits={BYTES: amount}, environment=environment, arguments=HOLD)
        tenant.create(pod(node.name, main, node=node.name))
        tenant.wait_for_phase(node.name, "Running")
        tenant.wait_for_quote(node.name)
        party.verify(tenant.quote(node.name), challenge)
        assert f"CONFCOM_SGX_EPC_MIB={mib}" in tenant.kubectl("exec", node.name, "--", "env").stdout.splitlines()
        epc = add_on.epc()[node.name]
        assert (epc["used_mib"], epc["free_mib"]) == (mib, node.offered_mib - mib)

    tenant.create(pod("more", container("main", limits={BYTES: "200Gi"})))
    assert f"3 Insufficient {EPC}" in tenant.why_pending("more")
    tenant.delete(large.name)
    until(lambda: tenant.get("more")["spec"].get("nodeName") == large.name, "it is on the large node")
    tenant.delete("more")

    large.write(cluster, None)
    until(lambda: large.is_offered(cluster), "what somebody has removed is there again")


def test_disable_removes_the_keys_at_once(cluster, add_on, sizes, tenant):
    """If disabling set the keys to zero instead, the kubelet's next start would end a Pod."""
    node, amount = sizes[0].node, str(sizes[0].offered_mib)
    main = container("main", limits={EPC: 2**19}, environment={"SGX_AESM_ADDR": "1"}, arguments=HOLD)
    tenant.create(pod("holding", main))
    tenant.wait_for_phase("holding", "Running")
    key = EPC.replace(".", r"\.")
    shown = f"--output=jsonpath={{.status.capacity.{key}}}/{{.status.allocatable.{key}}}{{'\\n'}}"
    with beside(cluster, "get", "node", node.name, "--watch", shown, output=subprocess.PIPE) as watch:
        done = add_on.confcom("disable", "--yes", "--no-wait", JSON)
        assert EPC not in document_of(done)["leftovers"].get(node.name, [])
        status = cluster.kubectl_json("get", "node", node.name)["status"]
        assert not any(EPC in status[part] for part in ("capacity", "allocatable"))
        node.restart("kubelet")
        until(cluster.ready, "the node is Ready")
        watch.terminate()
        seen = [line.split("/") for line in watch.communicate(timeout=30)[0].decode().splitlines()]
    assert (seen[0], seen[-1]) == ([amount, amount], ["", ""])
    assert all(one in {amount, ""} for event in seen for one in event)
    found = tenant.get("holding")["status"]
    assert (found["phase"], found["containerStatuses"][0]["restartCount"]) == ("Running", 0)
