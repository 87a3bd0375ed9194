import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from confcom.demo.ledger import AdmissionError, DeviceLedger

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

    @rule(resource=resources, devices=st.dictionaries(st.sampled_from(IDS), st.booleans()))
    def list_arrives(self, resource, devices):
        self.ledger.replace(resource, devices)
        self.devices[resource] = dict(devices)

    @rule(resource=resources)
    def plugin_lost(self, resource):
        self.ledger.mark_unhealthy(resource)
        if resource in self.devices:
            self.devices[resource] = dict.fromkeys(self.devices[resource], False)

    @rule()
    def kubelet_restarts(self):
        self.ledger.forget_devices()
        self.devices = {resource: {} for resource in self.devices}

    @rule(pod=pods, resource=resources, count=st.integers(1, 4))
    def allocate(self, pod, resource, count):
        healthy = {i for i, good in self.devices.get(resource, {}).items() if good}
        held = {i for (_, name), ids in self.holders.items() if name == resource for i in ids}
        assert self.ledger.fits({resource: count}) is (count <= len(healthy) - len(held))
        try:
            chosen = self.ledger.allocate(pod, "main", resource, count)
        except AdmissionError:
            assert len(healthy - held) < count
            return
        if chosen == ():
            assert resource not in self.devices
            return
        assert len(chosen) == len(set(chosen)) == count
        assert set(chosen) <= healthy - held
        self.holders.setdefault((pod, resource), set()).update(chosen)

    @rule(pod=pods)
    def release(self, pod):
        self.ledger.release(pod)
        self.holders = {key: held for key, held in self.holders.items() if key[0] != pod}

    @invariant()
    def sums_agree(self):
        assert self.ledger.capacity() == {name: len(devices) for name, devices in self.devices.items()}
        assert self.ledger.allocatable() == {name: sum(devices.values()) for name, devices in self.devices.items()}
        for resource in RESOURCES:
            held = (ids for (_, name), ids in self.holders.items() if name == resource)
            assert self.ledger.allocated(resource) == sum(map(len, held))


LedgerMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestLedger = LedgerMachine.TestCase


@pytest.mark.parametrize(
    ("requests", "fits"),
    [({}, True), ({"a/a": 0}, True), ({"a/a": 2}, True), ({"a/a": 3}, False), ({"a/a": 1, "n/n": 1}, False)],
)
def test_requests_of_several_resources(requests, fits):
    ledger = DeviceLedger()
    ledger.replace("a/a", {"x": True, "y": True, "ill": False})
    assert ledger.fits(requests) is fits
