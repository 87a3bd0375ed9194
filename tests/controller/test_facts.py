import json

import pytest
from msgspec import Raw

from confcom.controller.decision import Amount, NodePods, Requested
from confcom.controller.facts import add_pod, node_facts
from confcom.controller.facts import plugin_pod as read_plugin_pod
from confcom.kubernetes.names import FIELD_MANAGER
from testkit.controller import EPC, RELEASE, node, plugin_pod, pod

OTHER = "simulated.example.com/epc"
RESOURCES = (EPC, OTHER)
NO_AMOUNT = Amount()


def facts_of(node):
    return node_facts(node, RESOURCES)


def test_amounts_of_a_node():
    facts = facts_of(node({"cpu": "2", EPC: "100k"}, {EPC: "99"}))
    assert facts.amounts == (Amount(100_000, 99), NO_AMOUNT)
    assert (facts.name, facts.uid) == ("n", "u")
    for without in (node({"cpu": "2"}), {"metadata": {"name": "n"}}):
        assert facts_of(without).amounts == (NO_AMOUNT, NO_AMOUNT)
    assert facts_of(node({EPC: "8"}, manager=FIELD_MANAGER)).amounts[0].ours
    assert not facts_of(node({EPC: "8"}, manager="kubelet")).amounts[0].ours


def requested(*pods):
    found = NodePods((Requested(), Requested()))
    for one in pods:
        found = add_pod(found, Raw(json.dumps(one).encode()), RESOURCES, RELEASE)
    return found


def read_plugin(**details):
    plugin = read_plugin_pod(plugin_pod(**details), RELEASE)
    assert plugin is not None
    return plugin


def test_what_pods_request_is_summed_and_what_was_accepted():
    with_overhead = pod({EPC: "10"}) | {"spec": {"nodeName": "n", "overhead": {EPC: "2"}}}
    sidecar = {"restartPolicy": "Always", "resources": {"limits": {OTHER: "5"}}}
    with_sidecar = pod({OTHER: "1"})
    with_sidecar["spec"]["initContainers"] = [sidecar]
    found = requested(pod({EPC: "10"}), pod({EPC: "3"}, accepted=False), with_overhead, with_sidecar, pod())
    assert found == NodePods((Requested(15, 12), Requested(6, 6)))


def test_plugins_are_seen_among_a_nodes_pods():
    found = requested(plugin_pod("a"), plugin_pod("b", namespace="tenant"), pod(namespace=RELEASE.namespace))
    assert found.plugins == ("a",)


@pytest.mark.parametrize(
    "other",
    [
        pod(),
        plugin_pod(phase="Failed"),
        plugin_pod(namespace="tenant"),
        plugin_pod(owner="ReplicaSet"),
        plugin_pod(labels={"instance": "other"}),
        plugin_pod(labels={"name": "other"}),
        plugin_pod(labels={"component": "quote-helper"}),
        plugin_pod() | {"spec": {}},
    ],
)
def test_other_pods_are_no_plugins(other):
    assert read_plugin_pod(other, RELEASE) is None


@pytest.mark.parametrize("component", ["device-plugin", "device-plugin-simulated"])
def test_plugins_are_known_by_labels_and_owner(component):
    plugin = read_plugin(labels={"component": component})
    assert (plugin.address, plugin.created) == ("10.0.0.7", "2026-11-28T10:00:00Z")


ODD = ("fd00::7%eth0", "::ffff:127.0.0.1")


def test_only_an_address_of_a_running_pod_is_asked():
    assert read_plugin(podIP="fd00::7").address == "fd00::7"
    assert read_plugin(phase="Pending").address == ""
    for other in ("127.0.0.1", "169.254.169.254", "fe80::1", "0.0.0.0", "evil.example.com", "10.0.0.7/../x", *ODD):
        assert read_plugin(podIP=other).address == "", other


def test_a_restart_or_another_address_is_another_incarnation():
    status = {"name": "device-plugin", "containerID": "containerd://1", "ready": True}
    changes = ({}, {"containerID": "containerd://2"}, {"ready": False})
    found = [read_plugin(containerStatuses=[status | change]) for change in changes]
    found += [read_plugin(podIP=address) for address in ("", "10.0.0.7", "10.0.0.8")]
    assert len({plugin.incarnation for plugin in found}) == 6
