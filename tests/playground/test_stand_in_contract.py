"""The playground's kubelet stand-in does what the real kubelet does, with the rules of each version."""

import dataclasses
import json
import secrets

import pytest

from confcom.kubelet_api.services import KUBELET_SOCKET_NAME
from confcom.playground.api.errors import NotFoundError
from confcom.playground.kubelet.plugin_registry import KubeletRules
from confcom.playground.kubelet.rules import BackOff
from confcom.playground.node import NAME, Timing
from testkit.kubelet_contract.cases import (
    AllocateContract,
    ListContract,
    RegistrationContract,
    RemovalContract,
    RestartContract,
)
from testkit.kubelet_contract.kubelet import Bench, PodSeen
from testkit.kubelet_contract.version_cases import From137Contract, UpTo136Contract

QUICK = Timing(BackOff(0.05, 0.05), BackOff(0.05, 0.05), dial_seconds=1, stop_grace_seconds=300)


class StandIn:
    """A playground node in this process."""

    image = "sh"
    node_name = NAME
    nodes = 1
    patience = removal_patience = 20.0
    report_seconds = 0.5

    def __init__(self, local):
        self._node = local.node
        self.directory = local.layout.device_plugin_dir
        assert (self.directory / KUBELET_SOCKET_NAME).exists()

    async def counts(self, resource):
        seen = self._node.state().node
        return seen.capacity.get(resource), seen.allocatable.get(resource)

    async def apply(self, manifest):
        self._node.apply(json.dumps(manifest))

    async def pod(self, name):
        seen = self._node.state().pod(name)
        restarts = sum(container.restarts for container in seen.containers)
        return PodSeen(str(seen.phase), seen.reason, seen.message, restarts)

    async def log(self, name, container):
        return self._node.logs(name, container)

    async def delete(self, name):
        try:
            await self._node.delete("pod", name, 0)
        except NotFoundError:
            return

    async def restart(self):
        await self._node.restart_kubelet()


@pytest.fixture
def timing():
    return QUICK


@pytest.fixture(params=list(KubeletRules), ids=str)
def rules(request):
    return request.param


@pytest.fixture
async def bench(start_node, plugins, timing, rules):
    stand_in = StandIn(await start_node(timing=timing, rules=rules))
    one = Bench(stand_in, plugins, f"c{secrets.token_hex(4)}", words=rules is KubeletRules.UP_TO_1_36)
    yield one
    await one.clean()


class TestRegistration(RegistrationContract):
    """Register."""


class TestLists(ListContract):
    """ListAndWatch."""


class TestAllocate(AllocateContract):
    """Allocate, and what becomes of the pod."""


class TestRestart(RestartContract):
    """A kubelet that starts again."""


class TestRemoval(RemovalContract):
    """A plugin that stays away: the stand-in's grace period is shortened."""

    @pytest.fixture
    def timing(self):
        return dataclasses.replace(QUICK, stop_grace_seconds=0.5)


class TestUpTo136(UpTo136Contract):
    """Two instances meet, to 1.36."""

    @pytest.fixture
    def rules(self):
        return KubeletRules.UP_TO_1_36


class TestFrom137(From137Contract):
    """Two instances meet, from 1.37 on."""

    @pytest.fixture
    def rules(self):
        return KubeletRules.FROM_1_37
