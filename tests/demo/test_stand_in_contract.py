import secrets

import pytest

from confcom.demo.job_file import Job
from confcom.demo.node import Node
from testkit.kubelet import RULES
from testkit.kubelet_contract.cases import AllocateContract, ListContract, RegistrationContract, RestartContract
from testkit.kubelet_contract.kubelet import Bench, PodSeen
from testkit.kubelet_contract.version_cases import From137Contract, UpTo136Contract

DIAL_SECONDS = 1.0


class StandIn(Node):
    """A demo node with the contract suite's interface; a Pod with a nodeName bypasses the scheduler."""

    image = "sh"
    node_name = "demo"
    patience = 20.0
    report_seconds = 0.2

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.directory = self.device_plugin_dir
        self.devices._dial_seconds = DIAL_SECONDS
        self._pods = {}
        self._bound = set()

    async def _schedule(self, pod):
        if pod.job.name not in self._bound:
            await super()._schedule(pod)

    async def counts(self, resource):
        return self.ledger.capacity().get(resource), self.ledger.allocatable().get(resource)

    async def apply(self, manifest):
        (container,), name = manifest["spec"]["containers"], manifest["metadata"]["name"]
        if manifest["spec"].get("nodeName") == self.node_name:
            self._bound.add(name)
        limits = container["resources"].get("limits", {})
        self._pods[name] = self.submit(
            Job(name, container["name"], container["image"], tuple(container["command"]), limits=limits)
        )

    async def pod(self, name):
        pod = self._pods[name]
        if pod.error is not None:
            return PodSeen(pod.phase, "UnexpectedAdmissionError", pod.error.what)
        return PodSeen(pod.phase, "Unschedulable" if pod.message else "", pod.message)

    async def log(self, name, container):
        return self._pods[name].output()

    async def delete(self, name):
        if not self._pods[name].ended:
            await super().delete(self._pods[name], grace_seconds=0)

    async def restart(self):
        await self.devices.stop()
        await self.devices.start()


@pytest.fixture
def rules():
    return "1.36"


@pytest.fixture
async def bench(start_node, plugins, rules):
    stand_in = await start_node(node_type=StandIn, new_registry=RULES[rules])
    one = Bench(stand_in, plugins, f"c{secrets.token_hex(4)}", words=rules == "1.36")
    yield one
    await one.clean()


TestRegistration = RegistrationContract
TestLists = ListContract
TestAllocate = AllocateContract
TestRestart = RestartContract


class TestUpTo136(UpTo136Contract):
    """Cases of two plugin instances for rules up to 1.36."""


class TestFrom137(From137Contract):
    """Cases of two plugin instances for rules from 1.37 on."""

    @pytest.fixture
    def rules(self):
        return "1.37"
