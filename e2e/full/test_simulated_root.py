"""One simulated root on two nodes: through a reboot and a rehearsal, and when its Secret is deleted."""

import json

import pytest

from confcom.errors import ExitCode
from confcom.simulation.root_seed import RootSeed
from e2e.add_on import HELPER, HERE, ROOT_SECRET
from e2e.confcom_command import JSON, codes_of, uids
from e2e.relying_party import CONFCOM, RelyingParty
from e2e.sized_nodes import SizedNode
from e2e.waiting import until

BACK_SECONDS = 180.0
"""Seconds for two nodes' helpers to be replaced, and for a rebooted node to serve again; usually 20."""

pytestmark = pytest.mark.timeout(900, func_only=True)


@pytest.fixture
def sizes(nodes):
    return [SizedNode(node, 28) for node in nodes[:2]]


@pytest.fixture
def trusted_on(add_on, tenant):
    """Gets a quote on each node; returns the nodes whose quote a relying party accepts."""
    return lambda party: [node for node in add_on.nodes if party.trusts(*tenant.quoted_on(node.name))]


def test_one_root_after_a_reboot(cluster, add_on, trusted_on, tmp_path):
    every, node = [*add_on.nodes], add_on.nodes[1]
    party = RelyingParty.of(cluster, tmp_path / "before")
    assert trusted_on(party) == every

    def boot():
        return cluster.kubectl_json("get", "node", node.name)["status"]["nodeInfo"]["bootID"]

    first = boot()
    node.reboot()
    until(lambda: boot() != first, "the API has seen the reboot", seconds=BACK_SECONDS)
    until(add_on.is_well, "both nodes serve", seconds=BACK_SECONDS)
    add_on.wait_for_epc()
    assert trusted_on(party) == every
    assert RelyingParty.of(cluster, tmp_path / "after").root == party.root


FETCH = """rm -r "$0/collateral"; coproc kubectl port-forward service/confcom-simulated-pcs 8081 -n confcom-system
read -r -u "${COPROC[0]}" && "$@" collateral fetch - --from=http://127.0.0.1:8081 --out="$0/collateral"
code=$?; kill "$COPROC_PID"; exit $code"""


def test_collateral_is_served_as_it_is_staged(cluster, add_on, tenant, tmp_path):
    party, helpers = RelyingParty.of(cluster, tmp_path), uids(add_on.pods(HELPER))
    quote, challenge = tenant.quoted_on(add_on.nodes[0].name)
    add_on.confcom("update", "--set=simulated.collateral.serve=true")
    for staging, judged in (("out-of-date", [False, "OutOfDate"]), ("none", [True, "UpToDate"])):
        add_on.confcom("update", f"--set=simulated.staging={staging}")
        assert [add_on.status()[key] for key in ("ok", "staging")] == [True, staging]
        cluster.run(["bash", "-c", FETCH, str(tmp_path), *CONFCOM], input=quote.hex())
        assert [party.verdict(quote, challenge)[key] for key in ("ok", "tcb_status")] == judged
    assert uids(add_on.pods(HELPER)) == helpers


EXPIRED, FUTURE, OTHER = (
    {key: value.decode() for key, value in RootSeed(bytes(32), when).encode().items()}
    for when in (0, 4_000_000_000, 1_767_225_600)
)
GARBAGE = {"seed": "garbage"}


def test_a_changed_root_is_told_and_spread_by_no_command(cluster, add_on, tenant, tmp_path):
    add_on.confcom("update", "--set=simulated.collateral.serve=true")
    helpers, party = uids(add_on.pods(HELPER)), RelyingParty.of(cluster, tmp_path / "trust")
    own = cluster.kubectl_json("get", "secret", ROOT_SECRET, HERE)["data"]

    def put(**values):
        cluster.kubectl("patch", "secret", ROOT_SECRET, HERE, "--type=merge", "--patch", json.dumps(values))

    cases = ((GARBAGE, "unusable"), (EXPIRED, "unusable"), (FUTURE, "unusable"), (OTHER, "s-differ"))
    for values, end in cases:
        code = f"simulated-root{'' if end[0] == 's' else '-'}{end}"
        put(stringData=values)
        assert code in add_on.codes()
        for change in (("update", "--set=logLevel=debug"), ("enable",)):
            assert code in codes_of(add_on.confcom(*change, JSON, code=ExitCode.REFUSED))
        folder = str(tmp_path / "changed")
        exported = add_on.confcom("simulation", "export", HERE, folder, JSON, code=ExitCode.UNUSABLE)
        assert codes_of(exported) <= {"simulated-root-unusable", code}
    found = next(one["problem"] for one in add_on.status()["problem_details"] if one["code"] == code)
    assert "the collateral that is served" in found
    put(data=own)
    assert add_on.is_well()
    assert uids(add_on.pods(HELPER)) == helpers
    quote, challenge = tenant.quoted_on(add_on.nodes[0].name)
    (root,) = [one for one in party.verify(quote, challenge)["checks"] if one["code"] == "root"]
    assert (party.trust / "root.sha256").read_text().strip() in root["found"]


def test_a_deleted_root_is_named_and_made_again(cluster, add_on, trusted_on, tmp_path):
    before, helpers = RelyingParty.of(cluster, tmp_path / "before"), uids(add_on.pods(HELPER))
    cluster.kubectl("delete", "secret", ROOT_SECRET, HERE)

    until(lambda: "simulated-root-missing" in add_on.codes(), "status says that the root is missing")
    assert trusted_on(before) == [*add_on.nodes]  # the helpers are unchanged
    assert uids(add_on.pods(HELPER)) == helpers

    for command in ("update", "enable"):
        done = add_on.confcom(command, JSON, code=ExitCode.REFUSED)
        assert "simulated-root-missing" in codes_of(done)
    add_on.confcom("enable", "--simulated", "--new-root")
    after = RelyingParty.of(cluster, tmp_path / "after")
    assert after.root != before.root
    until(add_on.is_well, "every helper has the new root", seconds=BACK_SECONDS)
    assert not uids(add_on.pods(HELPER)) & helpers
    assert trusted_on(after) == [*add_on.nodes]
    assert trusted_on(before) == []
