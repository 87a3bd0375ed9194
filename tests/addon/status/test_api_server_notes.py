"""What status says of an API server that is, or was, too old for the policy that rewrites Pods."""

from datetime import UTC, datetime

import pytest

from confcom.addon.rollout.snapshot import Snapshot
from confcom.addon.status.status import add_on_status
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import SYSTEM

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def daemons(*flags):
    return (make.daemon_set("quote-helper"), make.daemon_set("device-plugin", args=("--simulated", *flags)))


FOR_1_35 = daemons("--api-server=1.35", "--capacity-support=api-server")


def notes(daemon_sets, api_server):
    seen = Snapshot(SYSTEM, nodes=(make.node("a"),), daemon_sets=daemon_sets, api_server=api_server)
    return {note.code: note.text for note in add_on_status(seen, NOW).notes}


@pytest.mark.parametrize(
    ("api_server", "code", "part"),
    [
        *((one, "epc-names-not-replaced", make.EPC) for one in ("v1.35.4", "v1.34.4+k3s1", "")),
        *((one, "api-server-upgraded", "`confcom update`") for one in ("v1.36.0", "v1.37.2-gke.1", "v2.0.0")),
    ],
)
def test_an_old_or_upgraded_api_server(api_server, code, part):
    found = notes(FOR_1_35, api_server)
    assert list(found) == [code]
    assert part in found[code]


@pytest.mark.parametrize("support", ["supported", "offline", "policy-off", "controller-off", ""])
def test_what_was_installed_for_it_says_nothing(support):
    assert notes(daemons("--api-server=1.36", f"--capacity-support={support}"), "v1.37.2") == {}
