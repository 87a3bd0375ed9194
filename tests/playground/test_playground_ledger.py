import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from confcom.playground.kubelet.ledger import MAX_EVENTS, AdmissionError, DeviceLedger

RESOURCES = ["example.com/a", "example.com/b"]
PODS = ["p", "q", "r"]
resources, pods = st.sampled_from(RESOURCES), st.sampled_from(PODS)
IDS = [f"d{i}" for i in range(6)]


class LedgerMachine(RuleBasedStateMachine):
    """A model that keeps everything as plain sets, beside the ledger."""

    def __init__(self):
        super().__init__()
        self.ledger = DeviceLedger()
        self.devices = {}
        self.holders = {}
        self.gone = set()

    @rule(resource=resources, devices=st.dictionaries(st.sampled_from(IDS), st.booleans()))
    def list_arrives(self, resource, devices):
        self.ledger.replace(resource, devices)
        self.devices[resource] = dict(devices)
        self.gone.discard(resource)

    @rule(resource=resources)
    def plugin_lost(self, resource):
        self.ledger.mark_unhealthy(resource)
        if resource in self.devices:
            self.devices[resource] = dict.fromkeys(self.devices[resource], False)

    @rule(resource=resources)
    def resource_removed(self, resource):
        self.ledger.remove(resource)
        if self.devices.pop(resource, None) is not None:
            self.gone.add(resource)

    @rule()
    def kubelet_restarts(self):
        self.ledger.forget_devices()
        self.devices = {resource: {} for resource in self.devices}

    @rule(pod=pods, resource=resources, count=st.integers(1, 4))
    def allocate(self, pod, resource, count):
        healthy = {i for i, good in self.devices.get(resource, {}).items() if good}
        free = healthy - {i for (_, name), held in self.holders.items() if name == resource for i in held}
        try:
            chosen = self.ledger.allocate(pod, "main", resource, count)
        except AdmissionError:
            assert len(free) < count
            return
        if chosen == ():
            assert resource not in self.devices
            assert resource not in self.gone
            assert resource not in {name for _, name in self.holders}
            return
        assert len(chosen) == len(set(chosen)) == count
        assert set(chosen) <= free
        self.holders.setdefault((pod, resource), set()).update(chosen)

    @rule(pod=pods)
    def release(self, pod):
        self.ledger.release(pod)
        self.holders = {key: held for key, held in self.holders.items() if key[0] != pod}

    @invariant()
    def sums_agree(self):
        gone = dict.fromkeys(self.gone, 0)
        counts = {name: len(devices) for name, devices in self.devices.items()}
        assert self.ledger.capacity() == counts | gone
        healthy = {name: sum(devices.values()) for name, devices in self.devices.items()}
        assert self.ledger.allocatable() == healthy | gone
        held = {}
        for (_, resource), ids in self.holders.items():
            held[resource] = held.get(resource, 0) + len(ids)
        assert self.ledger.allocated() == held
        assert sum(line.count for line in self.ledger.lines()) == sum(held.values())
        for pod in PODS:
            assert self.ledger.allocated(pod) == {
                resource: len(ids) for (holder, resource), ids in self.holders.items() if holder == pod
            }


LedgerMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestLedger = LedgerMachine.TestCase


def test_when_a_pod_is_rejected_and_when_the_node_is_out_of_the_resource():
    """Why, in the kubelet's words, is in the contract suite."""

    def rejection(pod, count=1):
        with pytest.raises(AdmissionError) as caught:
            ledger.allocate(pod, "c", "example.com/a", count)
        return caught.value.pod_reason

    ledger = DeviceLedger()
    ledger.replace("example.com/a", {"x": True})
    ledger.allocate("o", "c", "example.com/a", 1)
    ledger.remove("example.com/a")
    assert rejection("p") == "UnexpectedAdmissionError"
    ledger.release("o")
    assert [rejection("p") for _ in range(2)] == ["UnexpectedAdmissionError", "OutOfexample.com/a"]
    assert ledger.allocate("p", "c", "example.com/never", 1) == ()
    ledger.replace("example.com/a", {"x": False})
    assert rejection("p") == "UnexpectedAdmissionError"
    ledger.replace("example.com/a", {"x": True, "y": True})
    ledger.allocate("p", "c", "example.com/a", 1)
    assert rejection("q", count=2) == "UnexpectedAdmissionError"


def test_the_journal_tells_what_was_given_and_taken_back_and_is_bounded():
    ledger = DeviceLedger()
    ledger.replace("example.com/a", {"x": True, "y": True})
    ledger.allocate("p", "main", "example.com/a", 2)
    ledger.release("p")
    first, second = ledger.events()
    assert (first.reason, first.pod, first.container, first.resource, first.count) == (
        "Allocated", "p", "main", "example.com/a", 2,
    )  # fmt: skip
    assert "2 of 2" in first.message
    assert (second.reason, second.pod) == ("Released", "p")
    assert "0 of 2" in second.message
    for _ in range(MAX_EVENTS):
        ledger.allocate("p", "main", "example.com/a", 1)
        ledger.release("p")
    assert len(ledger.events()) == MAX_EVENTS
