"""A change of the release that was not finished, in `confcom status` on a cluster in memory."""

import pytest

from testkit.cli_output import commands_in

REMEDIES = {
    ("failed",): ["confcom enable", "confcom disable"],
    ("pending-install",): ["confcom disable --interrupted", "confcom enable"],
    ("failed", "pending-upgrade"): ["confcom disable --interrupted", "confcom enable"],
    ("uninstalling",): ["confcom disable", "confcom enable"],
    ("deployed", "uninstalling"): ["confcom disable", "confcom enable"],
    ("deployed", "failed"): ["confcom enable", "confcom rollback"],
    ("deployed", "pending-upgrade"): ["confcom rollback --interrupted"],
    ("deployed", "pending-rollback"): ["confcom rollback --interrupted"],
}
"""By the revisions' statuses: the commands that the problem names."""


@pytest.mark.parametrize("statuses", REMEDIES, ids=" ".join)
def test_the_remedy_for_an_unfinished_change(confcom, enabled, statuses):
    described = {"failed": 'Upgrade "confcom" failed: x', "pending-upgrade": "Preparing upgrade"}
    enabled.revisions[:] = [
        enabled.revisions[0] | {"revision": number, "status": status, "description": described.get(status, "done")}
        for number, status in enumerate(statuses, 1)
    ]
    assert commands_in(confcom.problem("change-unfinished")) == REMEDIES[statuses]


def test_a_removed_release_with_history_was_not_interrupted(confcom, enabled):
    enabled.remove({("DaemonSet", f"confcom-{one}") for one in ("quote-helper", "device-plugin")})
    enabled.revisions[0] |= {"status": "uninstalled"}
    assert "change-unfinished" not in {one["code"] for one in confcom.problems()}
