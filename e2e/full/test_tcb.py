"""`confcom tcb` on the real cluster: every staging, by the pages of the nodes' quote helpers."""

import pytest

from confcom.simulation.collateral_staging import Staging
from e2e.confcom_command import JSON, document_of

pytestmark = pytest.mark.timeout(400, func_only=True)

STATUSES = {
    Staging.NONE: ("UpToDate", "UpToDate", 0, 0),
    Staging.EARLY: ("UpToDate", "OutOfDate", 0, 8),
    Staging.OUT_OF_DATE: ("OutOfDate", "OutOfDate", 8, 8),
    Staging.CONFIGURATION_NEEDED: ("ConfigurationNeeded", "ConfigurationNeeded", 8, 8),
    Staging.SW_HARDENING_NEEDED: ("SWHardeningNeeded", "SWHardeningNeeded", 8, 8),
    Staging.RELAUNCH_ADVISED: ("UpToDate", "UpToDate", 0, 0),
    Staging.REVOKED: ("Revoked", "Revoked", 8, 8),
    Staging.EXPIRED: (None, None, 5, 5),
}


def test_every_staging_is_shown_for_all_nodes(add_on):
    for staging, (standard, early, code, early_code) in STATUSES.items():
        add_on.confcom("update", f"--set=simulated.staging={staging}")
        (group,) = document_of(add_on.confcom("tcb", JSON, code=code))["groups"]
        assert sorted(group["names"]) == sorted(node.name for node in add_on.nodes)
        assert [(group[name] or {}).get("status") for name in ("standard", "early")] == [standard, early]
        add_on.confcom("tcb", "--early", JSON, code=early_code)
    add_on.confcom("update", "--set=simulated.staging=none")
