"""The real kubelet behaves as the contract suite says; the demo's device manager runs the same suite."""

import pytest

from testkit.kubelet_contract.cases import (
    AllocateContract,
    ListContract,
    PodContract,
    RegistrationContract,
    RestartContract,
)
from testkit.kubelet_contract.version_cases import From137Contract, UpTo136Contract

TestRegistration = RegistrationContract
TestLists = ListContract
TestAllocate = AllocateContract
TestPods = PodContract
TestRestart = RestartContract


@pytest.mark.usefixtures("up_to_1_36")
class TestUpTo136(UpTo136Contract):
    """Two instances meet (up to 1.36)."""


@pytest.mark.usefixtures("from_1_37")
class TestFrom137(From137Contract):
    """Two instances meet (from 1.37 on)."""
