"""The real kubelet does what the suite says; the playground's stand-in runs the same suite."""

from kubelet_contract.cases import AllocateContract, ListContract, RegistrationContract, RestartContract


class TestRegistration(RegistrationContract):
    """Register."""


class TestLists(ListContract):
    """ListAndWatch."""


class TestAllocate(AllocateContract):
    """Allocate, and what becomes of the pod."""


class TestRestart(RestartContract):
    """A kubelet that starts again."""
