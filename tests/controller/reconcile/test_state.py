"""The cluster as the controller knows it."""

import random

import pytest

from confcom.controller.reconcile.decision import Change, Decision, Rules
from confcom.controller.reconcile.facts import (
    NO_AMOUNT,
    Accounting,
    Amount,
    NodeFacts,
    Offer,
    PluginPod,
    PodFacts,
    Requested,
)
from confcom.controller.reconcile.state import ClusterState

EPC = "example.com/epc"
RULES = Rules((EPC,), maximum_mib=1000, gone_seconds=300)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def state(clock):
    """One node, without anything."""
    made = ClusterState(RULES, clock)
    made.set_node(node())
    made.take_changed()
    return made


def node(amount=NO_AMOUNT, name="n"):
    return NodeFacts(name, f"uid-{name}", (amount,))


def tenant(mib, name="t", on="n", *, accepted=True):
    return PodFacts(("ns", name), on, (mib,), None, accepted)


def accepted(mib):
    return (Requested(mib, mib),)


def plugin(name="p", *, created="1", incarnation="i", on="n"):
    return PodFacts(("system", name), on, (0,), PluginPod("10.0.0.1", created, incarnation), accepted=True)


def capacity(mib):
    return Offer(Accounting.CAPACITY, EPC, mib)


def take_in(state, *pods):
    for pod in pods:
        state.set_pod(pod.key, pod)


def test_a_plugins_answer_has_its_node_looked_at(state):
    take_in(state, plugin())
    assert state.take_changed() == ["n"]
    assert state.decide("n") == Decision()
    state.set_offer(("system", "p"), "i", capacity(64))
    assert state.take_changed() == ["n"]
    assert state.decide("n").changes == (Change(EPC, 64, takes=False),)


def test_what_does_not_change_has_nothing_looked_at(state):
    for _ in range(2):
        state.set_node(node())
        take_in(state, plugin(), tenant(3))
        state.set_offer(("system", "p"), "i", capacity(64))
        changed = state.take_changed()
    assert changed == []


def test_an_answer_of_another_incarnation_is_ignored(state):
    take_in(state, plugin(incarnation="new"))
    state.set_offer(("system", "p"), "old", capacity(64))
    state.set_offer(("system", "gone"), "i", capacity(64))
    assert state.decide("n") == Decision()


def test_what_a_kubelet_has_accepted_is_summed_by_itself(state):
    take_in(state, tenant(3, "a"), tenant(4, "b", accepted=False))
    assert state.requested("n") == (Requested(bound=7, accepted=3),)
    state.take_changed()
    take_in(state, tenant(4, "b"))
    assert state.requested("n") == accepted(7)
    assert state.take_changed() == ["n"]


def test_the_newest_plugin_decides(state):
    take_in(state, plugin("z-old", created="1"), plugin("a-new", created="2"))
    state.set_offer(("system", "z-old"), "i", capacity(10))
    state.set_offer(("system", "a-new"), "i", capacity(20))
    assert state.decide("n").changes == (Change(EPC, 20, takes=False),)


def test_a_node_without_a_plugin_loses_its_key_in_time(state, clock):
    state.set_node(node(Amount(64, 64, ours=True)))
    assert state.decide("n") == Decision(waits=True)
    clock.now = 299
    take_in(state, plugin())
    assert state.decide("n") == Decision()
    state.set_pod(("system", "p"), None)
    assert state.decide("n") == Decision(waits=True)
    clock.now = 400
    assert state.decide("n") == Decision(waits=True)
    clock.now = 599
    assert state.decide("n").changes == (Change(EPC, None, takes=True),)


def test_a_node_of_the_same_name_is_a_new_one(state, clock):
    there = node(Amount(64, 64, ours=True))
    state.set_node(there)
    assert state.decide("n") == Decision(waits=True)
    state.remove_node("n")
    clock.now = 1000
    state.set_node(there)
    assert state.take_changed() == ["n"]
    assert state.decide("n") == Decision(waits=True)


def test_a_pod_that_goes_has_its_node_looked_at(state):
    state.set_node(node(name="m"))
    take_in(state, tenant(3))
    state.take_changed()
    take_in(state, tenant(3, on="m"))
    assert sorted(state.take_changed()) == ["m", "n"]
    state.set_pod(("ns", "t"), None)
    assert state.take_changed() == ["m"]


def test_what_was_read_just_now_decides_and_is_not_kept(state, clock):
    state.set_node(node(Amount(64, 64, ours=True)))
    state.decide("n")
    clock.now = 300
    there = node(Amount(64, 64, ours=True))
    assert state.decide_for(there, [tenant(1)]) == Decision(waits=True)
    assert state.decide_for(node(), []) == Decision()
    assert state.decide("n").changes == (Change(EPC, None, takes=True),)


def test_plugins_are_to_be_asked_once_for_each_incarnation(state):
    take_in(state, plugin(), tenant(3))
    assert state.take_unasked() == [("system", "p")]
    take_in(state, plugin())
    assert state.take_unasked() == []
    take_in(state, plugin(incarnation="restarted"))
    assert state.take_unasked() == [("system", "p")]


def test_plugins_are_counted_by_their_accounting(state):
    take_in(state, plugin("a"), plugin("b"), tenant(3))
    state.set_offer(("system", "a"), "i", capacity(64))
    assert state.plugins_by_accounting() == {"capacity": 1, "unknown": 1}
    state.set_pod(("system", "a"), None)
    assert state.plugins_by_accounting() == {"unknown": 1}


def test_after_any_events_it_knows_what_a_new_one_would():
    chance = random.Random(1)
    state = ClusterState(RULES, Clock())
    there: dict[tuple[str, str], PodFacts] = {}
    for _ in range(3000):
        pod = tenant(chance.randrange(5), str(chance.randrange(20)), on=chance.choice("abc"))
        if chance.random() < 0.4:
            there.pop(pod.key, None)
            state.set_pod(pod.key, None)
        else:
            there[pod.key] = pod
            state.set_pod(pod.key, pod)
    for name in "abc":
        assert state.requested(name) == accepted(sum(pod.requests[0] for pod in there.values() if pod.node == name))
