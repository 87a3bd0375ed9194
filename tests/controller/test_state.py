import pytest

from confcom.controller.decision import Amount, Change, Decision, NodeFacts, PluginPod, Rules
from confcom.controller.state import ClusterState
from confcom.kubernetes.epc_accounting import AccountingKind
from confcom.kubernetes.inventory import EpcOffer

EPC = "example.com/epc"
RULES = Rules((EPC,), maximum_mib=1000, gone_seconds=300)
NO_AMOUNT = Amount()
OURS = Amount(64, 64, ours=True)


@pytest.fixture
def state(clock):
    clock.now = 0.0
    made = ClusterState(RULES, clock)
    made.set_node(node())
    made.changed.clear()
    return made


def node(amount=NO_AMOUNT, name="n", version=0):
    return NodeFacts(name, f"uid-{name}", (amount,), version)


def plugin(name="p", *, created="1", incarnation="i", on="n"):
    return PluginPod(name, on, "10.0.0.1", created, incarnation)


def capacity(mib):
    return EpcOffer(AccountingKind.CAPACITY, EPC, None, mib)


def take_in(state, *plugins):
    for one in plugins:
        state.set_plugin(one)


def test_what_does_not_change_has_nothing_looked_at(state):
    for version in range(2):
        state.set_node(node(version=version))
        take_in(state, plugin())
        state.set_offer(plugin(), capacity(64))
        changed = state.take_changed()
    assert changed == []
    assert state.nodes["n"].version == 1


def test_an_answer_of_another_incarnation_is_ignored(state):
    take_in(state, plugin(incarnation="new"))
    state.set_offer(plugin(incarnation="old"), capacity(64))
    state.set_offer(plugin("gone"), capacity(64))
    assert state.decide("n") == Decision()


def test_the_newest_plugin_decides(state):
    old, new = plugin("z-old", created="1"), plugin("a-new", created="2")
    take_in(state, old, new)
    state.set_offer(old, capacity(10))
    state.set_offer(new, capacity(20))
    assert state.decide("n").changes == (Change(EPC, 20, lowers=False),)


def test_a_node_without_a_plugin_loses_its_key_in_time(state, clock):
    state.set_node(node(OURS))
    assert state.decide("n") == Decision(waits=True)
    clock.now = 299
    take_in(state, plugin())
    assert state.decide("n") == Decision()
    state.remove_plugin("p")
    assert state.decide("n") == Decision(waits=True)
    clock.now = 400
    assert state.decide("n") == Decision(waits=True)
    clock.now = 599
    assert state.decide("n") == Decision(reads=True)


def test_a_node_of_the_same_name_is_a_new_one(state, clock):
    state.set_node(node(OURS))
    assert state.decide("n") == Decision(waits=True)
    state.remove_node("n")
    clock.now = 1000
    state.set_node(node(OURS))
    assert state.take_changed() == ["n"]
    assert state.decide("n") == Decision(waits=True)


@pytest.mark.parametrize("amount", [NO_AMOUNT, Amount(64, 64), Amount(None, 64, ours=True)])
def test_a_node_without_a_plugin_and_without_our_key_is_forgotten(state, amount):
    state.remove_node("n")
    state.set_node(node(amount))
    assert (state.take_changed(), state.nodes) == ([], {})
    state.doubt_node("n")
    assert (state.take_changed(), state.knows("n")) == ([], False)


def test_an_answer_replaces_nothing_later(state):
    """A late answer must not replace newer data, because several watches report the same node."""
    state.set_node(node(OURS, version=9))
    state.set_node(node(version=8))
    assert state.nodes["n"].amounts == (OURS,)
    state.set_node(node(version=10))
    assert state.nodes["n"].amounts == (NO_AMOUNT,)


def test_a_plugin_that_moves_or_goes_has_its_nodes_looked_at(state):
    state.set_node(node(name="m"))
    take_in(state, plugin())
    state.set_node(node(OURS))
    state.take_changed()
    take_in(state, plugin(on="m"))
    assert sorted(state.take_changed()) == ["m", "n"]
    state.set_node(node(OURS, name="m"))
    state.take_changed()
    state.remove_plugin("p")
    assert state.take_changed() == ["m"]
    state.doubt_node("n")
    assert state.decide("n").reads  # another watch may still report the node


def test_a_plugin_has_changed_once_for_each_incarnation(state):
    restarted = plugin(incarnation="restarted")
    assert [state.set_plugin(one) for one in (plugin(), plugin(), restarted, restarted)] == [True, False, True, False]
