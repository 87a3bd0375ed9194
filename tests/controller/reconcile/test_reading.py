"""The controller's small values of the API server's objects."""

from __future__ import annotations

import pytest

from confcom.controller.reconcile.facts import NO_AMOUNT, Amount
from confcom.controller.reconcile.reading import MANAGER, node_facts, pod_facts
from testkit.controller_objects import EPC, RELEASE, node, plugin_pod, pod

OTHER = "simulated.example.com/epc"
RESOURCES = (EPC, OTHER)


def test_amounts_are_parsed_in_the_order_of_the_resources() -> None:
    facts = node_facts(node({"cpu": "2", EPC: "100k"}, {EPC: "99"}), RESOURCES)
    assert facts.amounts == (Amount(100_000, 99), NO_AMOUNT)
    assert (facts.name, facts.uid) == ("n", "u")


def test_a_node_without_them_has_none() -> None:
    assert node_facts(node({"cpu": "2"}), RESOURCES).amounts == (NO_AMOUNT, NO_AMOUNT)
    assert node_facts({"metadata": {"name": "n"}}, RESOURCES).amounts == (NO_AMOUNT, NO_AMOUNT)


def test_who_wrote_a_key_is_known_by_its_field_manager() -> None:
    assert node_facts(node({EPC: "8"}, manager=MANAGER), RESOURCES).amounts[0].ours
    assert not node_facts(node({EPC: "8"}, manager="kubelet"), RESOURCES).amounts[0].ours


def test_a_bound_pods_requests_are_kept() -> None:
    facts = pod_facts(pod({EPC: "10"}), RESOURCES, RELEASE)
    assert facts is not None
    assert (facts.key, facts.node, facts.requests, facts.plugin) == (("tenant", "t"), "n", (10, 0), None)


def test_a_pod_is_accepted_once_its_kubelet_says_when_it_started() -> None:
    accepted, bound = (pod_facts(pod({EPC: "10"}, accepted=one), RESOURCES, RELEASE) for one in (True, False))
    assert accepted is not None
    assert bound is not None
    assert (accepted.accepted, bound.accepted) == (True, False)


def test_the_overhead_of_a_runtime_class_counts() -> None:
    found = pod({EPC: "10"})
    found["spec"]["overhead"] = {EPC: "2"}
    facts = pod_facts(found, RESOURCES, RELEASE)
    assert facts is not None
    assert facts.requests == (12, 0)


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
def test_nothing_is_kept_of_other_pods(unimportant: dict) -> None:
    assert pod_facts(unimportant, RESOURCES, RELEASE) is None


@pytest.mark.parametrize("component", ["device-plugin", "device-plugin-simulated"])
def test_plugins_are_known_by_labels_and_owner(component: str) -> None:
    facts = pod_facts(plugin_pod(labels={"component": component}), RESOURCES, RELEASE)
    assert facts is not None
    assert facts.plugin is not None
    assert (facts.plugin.address, facts.plugin.created) == ("10.0.0.7", "2026-11-28T10:00:00Z")


@pytest.mark.parametrize(
    ("found", "address"),
    [
        ("fd00::7", "[fd00::7]"),
        ("127.0.0.1", ""),
        ("169.254.169.254", ""),
        ("fe80::1", ""),
        ("0.0.0.0", ""),
        ("evil.example.com", ""),
        ("10.0.0.7/../x", ""),
    ],
)
def test_only_an_address_of_a_pod_is_asked(found: str, address: str) -> None:
    facts = pod_facts(plugin_pod(podIP=found), RESOURCES, RELEASE)
    assert facts is not None
    assert facts.plugin is not None
    assert facts.plugin.address == address


def test_a_plugin_that_does_not_run_is_not_asked() -> None:
    facts = pod_facts(plugin_pod(phase="Pending"), RESOURCES, RELEASE)
    assert facts is not None
    assert facts.plugin is not None
    assert facts.plugin.address == ""


def test_a_restarted_container_is_another_incarnation() -> None:
    status = {"name": "device-plugin", "containerID": "containerd://1", "ready": True}
    first = pod_facts(plugin_pod(containerStatuses=[status]), RESOURCES, RELEASE)
    other = pod_facts(plugin_pod(containerStatuses=[status | {"containerID": "containerd://2"}]), RESOURCES, RELEASE)
    waiting = pod_facts(plugin_pod(containerStatuses=[status | {"ready": False}]), RESOURCES, RELEASE)
    assert len({one.plugin.incarnation for one in (first, other, waiting) if one and one.plugin}) == 3


def test_an_address_makes_another_incarnation() -> None:
    found = [pod_facts(plugin_pod(podIP=address), RESOURCES, RELEASE) for address in ("", "10.0.0.7", "10.0.0.8")]
    assert len({one.plugin.incarnation for one in found if one and one.plugin}) == 3
