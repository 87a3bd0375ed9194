"""`confcom change-accounting` on a cluster in memory, whose device plugins do what the setting says."""

import pytest

from confcom.addon.operations.change_accounting import CHANGING_SECONDS
from confcom.addon.status.accounting_change import FORGETTING_SECONDS
from confcom.errors import ExitCode
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.chart import default_chart
from testkit.fake_cluster.objects import EPC, SYSTEM

KINDS = {"capacity": "capacity", "devices": "device"}


def setting_of(cluster):
    """By the arguments of the DaemonSet."""
    (plugin,) = cluster.find("DaemonSet", "confcom-device-plugin")
    (arg,) = [one for one in plugin["spec"]["template"]["spec"]["containers"][0]["args"] if "--accounting=" in one]
    return arg.partition("=")[2]


@pytest.fixture
def follow():
    """What a device plugin does with the setting, unless a test says otherwise."""

    def tick(cluster):
        if cluster.find("DaemonSet", "confcom-device-plugin"):
            setting = setting_of(cluster)
            if setting in KINDS:
                cluster.accountings["a"] = {"kind": KINDS[setting], "choice": "set"}

    return tick


@pytest.fixture
def support():
    """What the chart tells the plugins of capacity accounting; a test may change it."""
    return ["--capacity-support=supported"]


@pytest.fixture
def enabled(cluster, confcom, follow, support):
    def chart(values):
        rendered = default_chart(values)
        for one in rendered:
            if one["metadata"]["name"] == "confcom-device-plugin" and one["kind"] == "DaemonSet":
                accounting = values.get("devicePlugin", {}).get("accounting", "auto")
                one["spec"]["template"]["spec"]["containers"][0]["args"] += [f"--accounting={accounting}", *support]
        return rendered

    cluster.chart, cluster.on_tick = chart, follow
    confcom.ok("enable", "--simulated")
    return cluster


def test_to_capacity_takes_until_the_kubelet_has_forgotten_the_devices(confcom, enabled):
    before = enabled.now
    document = confcom.document("change-accounting", "capacity")
    assert document["changed"]
    assert document["setting"] == "capacity"
    (node,) = document["accounting"]
    assert (node["node"], node["kind"], node["offered_mib"]) == ("a", "capacity", 162)
    assert enabled.now - before >= FORGETTING_SECONDS
    assert setting_of(enabled) == "capacity"


def test_what_the_kubelet_undoes_is_waited_for(confcom, enabled, follow):
    began = []

    def tick(cluster):
        follow(cluster)
        if cluster.accountings.get("a", {}).get("kind") == "capacity":
            began[:] = began or [cluster.now]
            undone = cluster.now - began[0] < FORGETTING_SECONDS + 30
            cluster.accountings["a"]["advertised_mib"] = 161 if undone else 162  # the fake kubelet always has 162

    enabled.on_tick = tick
    confcom.ok("change-accounting", "capacity")
    assert enabled.now - began[0] >= FORGETTING_SECONDS + 30


def test_back_to_devices_takes_no_such_time(confcom, enabled):
    confcom.ok("change-accounting", "capacity")
    before = enabled.now
    (node,) = confcom.document("change-accounting", "devices")["accounting"]
    assert node["kind"] == "device"
    assert enabled.now - before < FORGETTING_SECONDS / 2


def test_a_second_time_nothing_is_changed(confcom, enabled):
    confcom.ok("change-accounting", "capacity")
    revisions = len(enabled.revisions)
    assert not confcom.document("change-accounting", "capacity")["changed"]
    assert len(enabled.revisions) == revisions


def test_pods_with_epc_are_in_the_way(confcom, enabled):
    enabled.objects.append(make.pod("app", namespace="shop", on="a", limits={EPC: 10}))
    before = len(enabled.revisions)
    error = confcom.error(ExitCode.REFUSED, "epc-pods-running", "change-accounting", "capacity")
    assert "shop/app" in error["why"]
    assert "kubectl drain a " in error["do"]
    assert len(enabled.revisions) == before
    (app,) = enabled.find("Pod", "app")
    app["status"]["phase"] = "Succeeded"
    confcom.ok("change-accounting", "capacity")


def test_pods_on_nodes_that_would_not_change_are_not_in_the_way(confcom, enabled):
    enabled.objects += [make.pod("app", on="a", limits={EPC: 10}), make.pod("elsewhere", on="b", limits={EPC: 10})]
    confcom.ok("change-accounting", "devices")
    enabled.silent_plugins.add("a")
    confcom.error(ExitCode.REFUSED, "epc-pods-running", "change-accounting", "devices")


@pytest.mark.parametrize("told", ["--capacity-support=policy-off", "--capacity-support=api-server", "--other"])
def test_a_release_that_cannot_count_as_capacity(confcom, enabled, support, told):
    support[:] = [told]
    confcom.error(ExitCode.REFUSED, "capacity-not-supported", "change-accounting", "capacity")
    confcom.ok("change-accounting", "devices")


def test_a_plugin_that_keeps_devices(confcom, enabled):
    """A Pod with EPC was started after the check."""
    enabled.on_tick = lambda cluster: cluster.accountings.update(a={"choice": "kept-allocated", "reason": "allocated"})
    error = confcom.error(ExitCode.NOT_READY, "accounting-kept", "change-accounting", "capacity")
    assert "allocated" in error["why"]


def test_a_node_that_does_not_change(confcom, enabled):
    enabled.on_tick = None
    before = enabled.now
    confcom.error(ExitCode.NOT_READY, "accounting-not-changed", "change-accounting", "capacity", "--timeout", 5)
    assert enabled.now - before >= CHANGING_SECONDS


def test_a_dry_run(confcom, enabled):
    document = confcom.document("change-accounting", "capacity", "--dry-run")
    assert not document["changed"]
    assert "DaemonSet" in {one["kind"] for one in document["would_change"]}
    assert setting_of(enabled) == "auto"
    enabled.objects.append(make.pod("app", on="a", limits={EPC: 10}))
    confcom.error(ExitCode.REFUSED, "epc-pods-running", "change-accounting", "capacity", "--dry-run")


def test_without_waiting(confcom, enabled):
    before = enabled.now
    assert confcom.document("change-accounting", "capacity", "--no-wait")["accounting"] == []
    assert enabled.now - before < FORGETTING_SECONDS
    assert setting_of(enabled) == "capacity"


def test_auto_leaves_devices_alone(confcom, enabled):
    confcom.ok("change-accounting", "devices")
    enabled.objects.append(make.pod("app", on="a", limits={EPC: 10}))
    confcom.ok("change-accounting", "auto")
    assert setting_of(enabled) == "auto"


def test_auto_may_change_what_was_capacity_by_hand(confcom, enabled):
    confcom.ok("change-accounting", "capacity")
    enabled.objects.append(make.pod("app", on="a", limits={EPC: 10}))
    confcom.error(ExitCode.REFUSED, "epc-pods-running", "change-accounting", "auto")


def test_it_needs_a_release(confcom, cluster):
    confcom.error(ExitCode.REFUSED, "not-enabled", "change-accounting", "auto")
    assert not cluster.find("DaemonSet", namespace=SYSTEM)
