"""The real kubelet, 1.36.3, does what the suite says; the playground's stand-in runs the same suite."""

from kubelet_contract.cases import AllocateContract, ListContract, RegistrationContract, RestartContract
from kubelet_contract.version_cases import UpTo136Contract


class TestRegistration(RegistrationContract):
    """Register."""


class TestLists(ListContract):
    """ListAndWatch."""


class TestAllocate(AllocateContract):
    """Allocate, and what becomes of the pod."""


class TestRestart(RestartContract):
    """A kubelet that starts again."""


class TestUpTo136(UpTo136Contract):
    """Where versions differ."""
