"""What is said about a node's EPC, by what its device plugin told and what its status has."""

import copy
from datetime import UTC, datetime

import pytest

from confcom.addon.model.epc_accounting import (
    EXAMPLES,
    MOST_NODES,
    EpcSeen,
    PluginEpc,
    nodes_to_ask,
    plugin_epc,
    ready_plugins,
)
from confcom.addon.rollout.snapshot import Snapshot
from confcom.addon.status.status import add_on_status
from confcom.kubernetes.epc_accounting import AccountingKind
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import EPC, SYSTEM

DAEMON = make.daemon_set("device-plugin", args=("--simulated", "--capacity-support=supported"))
LARGE = 131_066


def plugin(**more):
    told = {"found": LARGE + 6, "offered": LARGE, "held_back": 0, "kind": AccountingKind.CAPACITY}
    return PluginEpc(**told | {"choice": "large-epc", "reason": "why"} | more)


def pod_of(component, on="n", **more):
    return make.pod(f"{component}-{on}", namespace=SYSTEM, on=on, labels=make.labels(component), **more)


CONTROLLER = pod_of("controller", on="other")


def seen(*, capacity, told, used=0, allocatable=None, maximum=None):
    node = make.node("n", make.SIMULATED, resources={} if capacity is None else {EPC: capacity})
    node["status"]["allocatable"] |= {} if allocatable is None else {EPC: allocatable}
    controller = copy.deepcopy(CONTROLLER)
    controller["spec"]["containers"][0]["args"] = [] if maximum is None else [f"--max-epc-mib={maximum}"]
    pods = [pod_of("device-plugin"), controller]
    pods += [make.pod("app", on="n", limits={EPC: used})] if used else []
    epc = EpcSeen({"n": told} if told else {})
    snapshot = Snapshot(SYSTEM, nodes=(node,), pods=tuple(pods), daemon_sets=(DAEMON,), epc=epc)
    return add_on_status(snapshot, datetime.now(UTC))


def codes(found):
    return [one.code for one in found.problems if one.code != "pods-not-available"]


@pytest.mark.parametrize(
    ("told", "capacity", "used", "code"),
    [
        (plugin(), "131066", 0, None),
        (plugin(found=100_006, offered=100_000), "100k", 0, None),
        (plugin(), None, 0, "capacity-not-written"),
        (plugin(), "0", 0, "capacity-not-written"),
        (plugin(), "2048", 0, "capacity-not-written"),
        (plugin(offered=2_048), "4096", 4_096, "epc-shortfall"),
        (plugin(kind=AccountingKind.DEVICE, offered=2_048), "2048", 0, None),
        (plugin(kind=AccountingKind.DEVICE, offered=2_048), "1024", 0, "epc-not-reported"),
        (None, "1024", 0, None),
    ],
)
def test_what_the_node_has_and_what_its_plugin_offers(told, capacity, used, code):
    assert codes(seen(capacity=capacity, told=told, used=used)) == ([code] if code else [])


@pytest.mark.parametrize(
    ("capacity", "used", "code"),
    [
        ("50000", 0, None),
        ("131066", 0, "capacity-not-written"),
        ("131066", 50_000, "capacity-not-written"),
        ("60000", 60_000, "epc-above-maximum"),
        ("200000", 200_000, "epc-shortfall"),
    ],
)
def test_a_maximum_that_is_less_than_there_is(capacity, used, code):
    found = seen(capacity=capacity, told=plugin(), used=used, maximum=50_000)
    assert codes(found) == ([code] if code else [])
    assert [note.code for note in found.notes] == ["epc-limited"]


@pytest.mark.parametrize("told", [plugin(), plugin(kind=AccountingKind.DEVICE, offered=2_048)])
def test_a_maximum_that_limits_nothing(told):
    found = seen(capacity=str(told.offered), told=told, maximum=LARGE if told == plugin() else 1_000)
    assert codes(found) == []
    assert list(found.notes) == []


def test_allocatable_counts_too():
    assert codes(seen(capacity="131066", allocatable="0", told=plugin())) == ["capacity-not-written"]


@pytest.mark.parametrize(
    ("told", "code"),
    [
        (plugin(), None),
        (
            plugin(kind=AccountingKind.DEVICE, offered=2_048, held_back=LARGE - 2_048, choice="no-policy"),
            "epc-held-back",
        ),
        (
            plugin(kind=AccountingKind.DEVICE, offered=2_048, held_back=LARGE - 2_048, choice="kept-devices"),
            "accounting-change-possible",
        ),
        (plugin(kind=AccountingKind.DEVICE, found=28, offered=28, choice="kept-devices"), None),
        (plugin(kind=AccountingKind.DEVICE, found=2_054, offered=2_048, choice="kept-allocated"), None),
        (plugin(choice="kept-allocated"), None),
        (plugin(offered=1_024, held_back=LARGE - 1_024, choice="kept-allocated"), "epc-held-back"),
    ],
)
def test_what_is_noted_and_no_problem(told, code):
    found = seen(capacity=str(told.offered), told=told)
    assert codes(found) == []
    assert [note.code for note in found.notes] == ([code] if code else [])


def test_a_plugins_inventory():
    accounting = {"kind": "device", "choice": "fits-devices", "advertised_mib": 162, "held_back_mib": 3, "reason": "r"}
    document = {"epc": {"mib": 168}, "accounting": accounting}
    assert plugin_epc(document) == PluginEpc(168, 162, 3, AccountingKind.DEVICE, "fits-devices", "r")


@pytest.mark.parametrize("document", [{}, {"epc": {"mib": 0}, "accounting": {"kind": "device"}}, {"epc": {"mib": 1}}])
def test_an_inventory_that_tells_no_epc(document):
    assert plugin_epc(document) is None


def test_in_a_large_cluster_each_kind_of_node_is_asked():
    nodes = [make.node(f"n{number:03}", make.SIMULATED, resources={EPC: 162}) for number in range(200)]
    odd = [make.node("x", make.SIMULATED, resources={EPC: 28}), make.node("y", make.SIMULATED)]
    plugins = ready_plugins([pod_of("device-plugin", node["metadata"]["name"]) for node in (*nodes, *odd)])
    asked = nodes_to_ask([*nodes, *odd, make.node("without-plugin")], plugins)
    assert set(asked) == {"x", "y", *(f"n{number:03}" for number in range(EXAMPLES))}
    few = [*nodes[: MOST_NODES - 2], *odd]
    assert set(nodes_to_ask(few, plugins)) == {node["metadata"]["name"] for node in few}


def test_plugins_that_are_not_ready_or_end_are_not_asked():
    ending = pod_of("device-plugin", "ending")
    ending["metadata"]["deletionTimestamp"] = make.STARTED
    pods = [pod_of("device-plugin"), pod_of("device-plugin", "new", status=make.not_ready()), ending, CONTROLLER]
    assert list(ready_plugins(pods)) == ["n"]
