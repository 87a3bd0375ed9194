"""The cluster's simulated root is deleted while helpers run."""

import secrets

import pytest

from e2e.add_on import EPC, SYSTEM
from e2e.confcom_command import HELPER, enabled, uids
from e2e.relying_party import RelyingParty
from e2e.tenants import quoting_pod
from e2e.waiting import until

FOLLOW_SECONDS = 330.0
"""For helpers to take another root: their kubelets look at volumes every minute, after failures every two."""


def is_trusted(tenant, node, party):
    """Whether a relying party takes a quote of that node."""
    name, challenge = f"asks-{secrets.token_hex(4)}", secrets.token_hex(32)
    tenant.create(quoting_pod(name, challenge, {EPC: 1}, node=node.name))
    tenant.wait_for_phase(name, "Succeeded")
    return party.trusts(tenant.quote(name), challenge)


@pytest.mark.timeout(900, func_only=True)
def test_a_deleted_root_is_named_and_made_again(cluster, nodes, tenant, tmp_path):
    with enabled(cluster, nodes[:2], epc_mib=28) as add_on:
        before = RelyingParty.of(cluster, tmp_path / "before")
        assert all(is_trusted(tenant, node, before) for node in add_on.nodes)
        helpers = uids(add_on.pods(HELPER))

        cluster.kubectl("delete", "secret", "confcom-simulated-platform", f"--namespace={SYSTEM}")
        told = until(lambda: add_on.status()["problem_details"], "status says that the root is gone")
        assert "root-record-missing" in {one["code"] for one in told}
        assert is_trusted(tenant, add_on.nodes[0], before)  # nothing has happened to the helpers

        add_on.confcom("enable", "--simulated")
        after = RelyingParty.of(cluster, tmp_path / "after")
        assert after.root != before.root
        until(add_on.is_well, "every helper has the new root", seconds=FOLLOW_SECONDS)
        for node in add_on.nodes:
            assert is_trusted(tenant, node, after)
            assert not is_trusted(tenant, node, before)
        assert uids(add_on.pods(HELPER)) == helpers  # none was replaced
