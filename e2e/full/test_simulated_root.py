"""The Secret with the cluster's simulated root is deleted or changed while helpers run."""

import secrets

import pytest

from e2e.add_on import EPC, ROOT_SECRET, SYSTEM
from e2e.confcom_command import HELPER, enabled, uids
from e2e.relying_party import RelyingParty
from e2e.tenants import quoting_pod
from e2e.waiting import until

RESTART_SECONDS = 120.0
"""For the helpers of two nodes to be replaced, one after the other."""

pytestmark = pytest.mark.timeout(600, func_only=True)


def is_trusted(tenant, node, party):
    """Whether a relying party takes a quote of that node."""
    name, challenge = f"asks-{secrets.token_hex(4)}", secrets.token_hex(32)
    tenant.create(quoting_pod(name, challenge, {EPC: 1}, node=node.name))
    tenant.wait_for_phase(name, "Succeeded")
    return party.trusts(tenant.quote(name), challenge)


def problems(add_on):
    return {one["code"] for one in add_on.status()["problem_details"]}


def test_a_deleted_root_is_named_and_made_again(cluster, nodes, tenant, tmp_path):
    with enabled(cluster, nodes[:2], epc_mib=28) as add_on:
        before = RelyingParty.of(cluster, tmp_path / "before")
        assert all(is_trusted(tenant, node, before) for node in add_on.nodes)
        helpers = uids(add_on.pods(HELPER))

        cluster.kubectl("delete", "secret", ROOT_SECRET, f"--namespace={SYSTEM}")
        until(lambda: "simulated-root-missing" in problems(add_on), "status says that the root is missing")
        assert is_trusted(tenant, add_on.nodes[0], before)  # nothing has happened to the helpers
        assert uids(add_on.pods(HELPER)) == helpers

        add_on.confcom("enable", "--simulated")
        after = RelyingParty.of(cluster, tmp_path / "after")
        assert after.root != before.root
        until(add_on.is_well, "every helper has the new root", seconds=RESTART_SECONDS)
        assert not uids(add_on.pods(HELPER)) & helpers
        for node in add_on.nodes:
            assert is_trusted(tenant, node, after)
            assert not is_trusted(tenant, node, before)
