"""The controller's small values of the API server's objects."""

import pytest

from confcom.controller.reconcile.facts import NO_AMOUNT, Amount
from confcom.controller.reconcile.reading import MANAGER, node_facts, pod_facts
from testkit.controller import EPC, RELEASE, node, plugin_pod, pod

OTHER = "simulated.example.com/epc"
RESOURCES = (EPC, OTHER)


def test_amounts_of_a_node():
    facts = node_facts(node({"cpu": "2", EPC: "100k"}, {EPC: "99"}), RESOURCES)
    assert facts.amounts == (Amount(100_000, 99), NO_AMOUNT)
    assert (facts.name, facts.uid) == ("n", "u")
    for without in (node({"cpu": "2"}), {"metadata": {"name": "n"}}):
        assert node_facts(without, RESOURCES).amounts == (NO_AMOUNT, NO_AMOUNT)
    assert node_facts(node({EPC: "8"}, manager=MANAGER), RESOURCES).amounts[0].ours
    assert not node_facts(node({EPC: "8"}, manager="kubelet"), RESOURCES).amounts[0].ours


def read(found):
    facts = pod_facts(found, RESOURCES, RELEASE)
    assert facts is not None
    return facts


def read_plugin(**details):
    plugin = read(plugin_pod(**details)).plugin
    assert plugin is not None
    return plugin


def test_a_bound_pods_requests_are_kept():
    facts = read(pod({EPC: "10"}))
    assert (facts.key, facts.node, facts.requests, facts.plugin) == (("tenant", "t"), "n", (10, 0), None)
    assert facts.accepted
    assert not read(pod({EPC: "10"}, accepted=False)).accepted, "its kubelet says when it started"
    with_overhead = pod({EPC: "10"})
    with_overhead["spec"]["overhead"] = {EPC: "2"}
    assert read(with_overhead).requests == (12, 0)


@pytest.mark.parametrize(
    "unimportant",
    [
        pod(),
        pod({"cpu": "1"}),
        pod({EPC: "10"}, on=""),
        pod({EPC: "10"}, phase="Succeeded"),
        pod({EPC: "10"}, phase="Failed"),
        plugin_pod(namespace="tenant"),
        plugin_pod(owner="ReplicaSet"),
        plugin_pod(labels={"instance": "other"}),
        plugin_pod(labels={"name": "other"}),
        plugin_pod(labels={"component": "quote-helper"}),
        plugin_pod(labels={"component": "device-plugins"}),
    ],
)
def test_nothing_is_kept_of_other_pods(unimportant):
    assert pod_facts(unimportant, RESOURCES, RELEASE) is None


@pytest.mark.parametrize("component", ["device-plugin", "device-plugin-simulated"])
def test_plugins_are_known_by_labels_and_owner(component):
    plugin = read_plugin(labels={"component": component})
    assert (plugin.address, plugin.created) == ("10.0.0.7", "2026-11-28T10:00:00Z")


def test_only_an_address_of_a_running_pod_is_asked():
    assert read_plugin(podIP="fd00::7").address == "[fd00::7]"
    assert read_plugin(phase="Pending").address == ""
    for other in ("127.0.0.1", "169.254.169.254", "fe80::1", "0.0.0.0", "evil.example.com", "10.0.0.7/../x"):
        assert read_plugin(podIP=other).address == "", other


def test_a_restart_or_another_address_is_another_incarnation():
    status = {"name": "device-plugin", "containerID": "containerd://1", "ready": True}
    changes = ({}, {"containerID": "containerd://2"}, {"ready": False})
    found = [read_plugin(containerStatuses=[status | change]) for change in changes]
    found += [read_plugin(podIP=address) for address in ("", "10.0.0.7", "10.0.0.8")]
    assert len({plugin.incarnation for plugin in found}) == 6
