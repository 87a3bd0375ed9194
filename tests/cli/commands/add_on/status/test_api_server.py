"""`confcom status` where the add-on was installed for an API server that is too old for some things."""

from testkit.fake_cluster import objects as make


def test_the_version_decides_and_update_is_proposed(confcom, enabled):
    for_old = ("--simulated", "--api-server=1.35", "--capacity-support=api-server")
    enabled.chart = lambda _: [make.daemon_set("device-plugin", args=for_old)]
    confcom.ok("update")
    for version, code in (("v1.35.4", "epc-names-not-replaced"), ("v1.36.3", "api-server-upgraded")):
        enabled.kubernetes = version
        found = confcom.document("status")
        assert [note["code"] for note in found["notes"]] == [code]
        assert found["ok"]
    enabled.chart = lambda _: [make.daemon_set("device-plugin", args=("--simulated", "--api-server=1.36"))]
    confcom.ok("update")
    assert confcom.document("status")["notes"] == []
