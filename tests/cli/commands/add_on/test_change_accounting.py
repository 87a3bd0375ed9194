"""`confcom change-accounting` on a cluster in memory, whose device plugins do what the setting says."""

import pytest

from confcom.addon.cluster.kubectl import MOST_ASKED
from confcom.addon.operations.change_accounting import CHANGING_SECONDS
from confcom.addon.status.accounting_change import FORGETTING_SECONDS
from confcom.errors import ExitCode
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.chart import default_chart
from testkit.fake_cluster.objects import ENCLAVE, EPC, SYSTEM

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


def test_to_capacity_takes_until_devices_are_forgotten(confcom, enabled):
    before = enabled.now
    document = confcom.document("change-accounting", "capacity")
    assert (document["changed"], document["setting"], setting_of(enabled)) == (True, "capacity", "capacity")
    (node,) = document["accounting"]
    assert (node["node"], node["kind"], node["offered_mib"]) == ("a", "capacity", 162)
    assert enabled.now - before >= FORGETTING_SECONDS
    revisions = len(enabled.revisions)
    assert not confcom.document("change-accounting", "capacity")["changed"]
    assert len(enabled.revisions) == revisions
    before = enabled.now
    confcom.ok("change-accounting", "devices")
    assert enabled.now - before < FORGETTING_SECONDS / 2


def test_what_the_kubelet_undoes_is_waited_for(confcom, enabled, follow):
    began = []

    def tick(cluster):
        follow(cluster)
        if cluster.accountings.get("a", {}).get("kind") == "capacity":
            began[:] = began or [cluster.now]
            undone = 30 <= cluster.now - began[0] < FORGETTING_SECONDS + 30
            cluster.accountings["a"]["advertised_mib"] = 161 if undone else 162  # the fake kubelet always has 162

    enabled.on_tick = tick
    confcom.ok("change-accounting", "capacity")
    assert enabled.now - began[0] >= FORGETTING_SECONDS + 30


def test_a_node_that_changes_gives_the_others_more_time(confcom, enabled):
    enabled.objects.append(make.node("c", make.SIMULATED))
    enabled.settle()
    confcom.ok("change-accounting", "capacity", "--no-wait")
    began = enabled.now

    def tick(cluster):
        for node, seconds in (("a", CHANGING_SECONDS - 30), ("c", 2 * CHANGING_SECONDS - 90)):
            if cluster.now - began >= seconds:
                cluster.accountings[node] = {"kind": "capacity", "choice": "set"}

    enabled.on_tick = tick
    nodes = confcom.document("change-accounting", "capacity")["accounting"]
    assert [node["node"] for node in nodes] == ["a", "c"]


def test_pods_with_epc_are_in_the_way(confcom, enabled):
    enabled.objects.append(make.pod("app", namespace="shop", on="a", limits={EPC: 10}))
    before = len(enabled.revisions)
    for more in ((), ("--dry-run",)):
        error = confcom.error(ExitCode.REFUSED, "epc-pods-running", "change-accounting", "capacity", *more)
        assert "shop/app" in error["why"]
        assert "kubectl drain a " in error["do"]
    assert len(enabled.revisions) == before
    (app,) = enabled.find("Pod", "app")
    app["status"]["phase"] = "Succeeded"
    confcom.ok("change-accounting", "capacity")


def test_every_node_with_such_pods_is_asked(confcom, enabled):
    names = [f"n{number:03}" for number in range(MOST_ASKED + 5)]
    for name in names:
        enabled.objects += [make.node(name, make.SIMULATED), make.pod(f"app-{name}", on=name, limits={EPC: 10})]
    enabled.settle()
    confcom.ok("change-accounting", "devices", "--dry-run")
    enabled.accountings[names[-1]] = {"kind": "capacity", "choice": "set"}
    error = confcom.error(ExitCode.REFUSED, "epc-pods-running", "change-accounting", "devices", "--dry-run")
    assert f"app-{names[-1]}" in error["why"]
    assert f"app-{names[0]}" not in error["why"]


@pytest.mark.parametrize("told", ["--capacity-support=policy-off", "--capacity-support=api-server", "--other"])
def test_a_release_that_cannot_count_as_capacity(confcom, enabled, support, told):
    support[:] = [told]
    confcom.error(ExitCode.REFUSED, "capacity-not-supported", "change-accounting", "capacity")
    confcom.ok("change-accounting", "devices")


class Record:
    """A kubelet's record of devices: it names ended Pods until the quote helper's Pod is made anew.

    The device plugin reads it at its start.
    """

    def __init__(self, cluster, kept):
        self.cluster, self.kept, self.stale = cluster, kept, True
        self.helper, self.plugin = self._uid("quote-helper"), ""
        cluster.on_tick = lambda _: self.tick()

    def _uid(self, component):
        pods = [one for one in self.cluster.find("Pod", namespace=SYSTEM) if component in one["metadata"]["name"]]
        return pods[0]["metadata"]["uid"] if pods else None

    def tick(self):
        self.stale = self.stale and self._uid("quote-helper") in {self.helper, None}
        setting, plugin = setting_of(self.cluster), self._uid("device-plugin")
        if setting != "auto" and plugin not in {self.plugin, None}:
            self.plugin = plugin
            other = self.kept != KINDS[setting]
            self.cluster.accountings["a"] = (
                {"kind": self.kept, "choice": "kept-allocated", "reason": "containers hold devices"}
                if self.stale and other
                else {"kind": KINDS[setting], "choice": "set"}
            )


@pytest.mark.parametrize(("setting", "kept"), [("capacity", "device"), ("devices", "capacity")])
def test_a_kubelet_is_made_to_forget_ended_pods(confcom, enabled, setting, kept):
    enabled.accountings["a"] = {"kind": kept, "choice": "set"}
    record, before = Record(enabled, kept), enabled.now
    (node,) = confcom.document("change-accounting", setting)["accounting"]
    assert node["kind"] == KINDS[setting]
    assert record._uid("quote-helper") != record.helper
    assert enabled.now - before >= (FORGETTING_SECONDS if setting == "capacity" else 0)


def keep_devices(cluster):
    cluster.accountings["a"] = {"choice": "kept-allocated", "reason": "containers hold devices"}


@pytest.mark.parametrize("helper", [True, False], ids=["helper renewed", "no helper"])
def test_a_kubelet_that_does_not_forget(confcom, enabled, helper):
    before = enabled.daemon("quote-helper")["metadata"]["uid"]
    if not helper:  # nothing that the command may restart there has a device
        confcom.ok("enable", "--simulated", "--no-quote-helper")
    enabled.on_tick = keep_devices
    error = confcom.error(ExitCode.NOT_READY, "accounting-kept-for-ended-pods", "change-accounting", "capacity")
    assert "containers hold devices" in error["why"]
    assert ENCLAVE in error["do"]
    assert enabled.daemon("device-plugin")["metadata"]["name"] in error["do"]
    assert not helper or enabled.daemon("quote-helper")["metadata"]["uid"] != before


def test_pods_that_were_started_after_the_check(confcom, enabled):
    def tick(cluster):
        keep_devices(cluster)
        if not cluster.find("Pod", "app"):
            cluster.objects.append(make.pod("app", namespace="shop", on="a", limits={EPC: 10}))

    enabled.on_tick = tick
    helper = enabled.daemon("quote-helper")["metadata"]["uid"]
    error = confcom.error(ExitCode.NOT_READY, "accounting-kept", "change-accounting", "capacity")
    assert "shop/app" in error["why"]
    assert enabled.daemon("quote-helper")["metadata"]["uid"] == helper


def test_a_node_that_does_not_change(confcom, enabled):
    enabled.on_tick = None
    before = enabled.now
    confcom.error(ExitCode.NOT_READY, "accounting-not-changed", "change-accounting", "capacity", "--timeout", 5)
    assert enabled.now - before >= CHANGING_SECONDS


def test_a_dry_run_and_no_wait(confcom, enabled):
    document = confcom.document("change-accounting", "capacity", "--dry-run")
    assert not document["changed"]
    assert "DaemonSet" in {one["kind"] for one in document["would_change"]}
    assert setting_of(enabled) == "auto"
    before = enabled.now
    assert confcom.document("change-accounting", "capacity", "--no-wait")["accounting"] == []
    assert enabled.now - before < FORGETTING_SECONDS
    assert setting_of(enabled) == "capacity"


def test_auto_may_change_what_a_maximum_lets_fit_devices(confcom, enabled, support):
    enabled.accountings["a"] = {"kind": "capacity", "choice": "large-epc", "advertised_mib": 8_192}
    enabled.objects.append(make.pod("app", on="a", limits={EPC: 10}))
    confcom.ok("change-accounting", "auto", "--dry-run")
    support.append("--max-epc-mib=1024")
    confcom.error(ExitCode.REFUSED, "epc-pods-running", "change-accounting", "auto", "--dry-run")


def test_it_needs_a_release(confcom, cluster):
    confcom.error(ExitCode.REFUSED, "not-enabled", "change-accounting", "auto")
    assert not cluster.find("DaemonSet", namespace=SYSTEM)


def test_the_controllers_maximum_is_all_that_is_waited_for(confcom, enabled):
    """The fake kubelet has 162 MiB."""
    controller = make.pod("controller", namespace=SYSTEM, on="b", labels=make.labels("controller"))
    controller["spec"]["containers"][0]["args"] = ["--max-epc-mib=162"]
    enabled.objects.append(controller)
    enabled.on_tick = lambda cluster: cluster.accountings.update(
        a={"kind": "capacity", "choice": "set", "advertised_mib": 500}
    )
    (node,) = confcom.document("change-accounting", "capacity")["accounting"]
    assert node["offered_mib"] == 500


def test_a_quote_helper_that_does_not_come_back(confcom, enabled):
    def tick(cluster):
        keep_devices(cluster)
        if not cluster.find("Pod", helper):
            cluster.broken_images[image] = make.waiting("ImagePullBackOff", "no such image")

    helper = enabled.daemon("quote-helper")["metadata"]["name"]
    image = enabled.daemon("quote-helper")["spec"]["containers"][0]["image"]
    enabled.on_tick = tick
    error = confcom.error(ExitCode.NOT_READY, "daemons-not-ready", "change-accounting", "capacity")
    assert "ImagePullBackOff" in error["why"]
