"""Carrying out what was decided."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from confcom.controller.api_server.applying import Applier
from confcom.controller.api_server.errors import ConflictError, RefusedError
from confcom.controller.metrics import ControllerMetrics
from confcom.controller.reconcile.decision import Rules
from confcom.controller.reconcile.facts import Accounting, Offer
from confcom.controller.reconcile.reading import node_facts, pod_facts
from confcom.controller.reconcile.shortfall_events import REASON
from confcom.controller.reconcile.state import ClusterState
from confcom.errors import UnavailableError
from testkit.controller import EPC, RELEASE, node, plugin_pod, pod, written

RULES = Rules((EPC,), 1000, 300)
PLUGIN = ("confcom-system", "p")


def tenant(mib, name="t"):
    return pod({EPC: str(mib)}, name)


class FakeApi:
    """One node and its Pods, as they really are."""

    def __init__(self):
        self.node = node({})
        self.pods: list[dict] = []
        self.patches: list[dict] = []
        self.events: list[dict] = []
        self.failure: UnavailableError | None = None
        self.meanwhile: Callable[[], None] | None = None
        """What happens after a patch, before its answer arrives."""

    async def read_node(self, name):
        return self.node

    async def read_pods(self, node, take):
        for one in self.pods:
            take(one)

    async def patch_node_status(self, name, patch):
        if self.failure:
            raise self.failure
        version = patch.get("metadata", {}).get("resourceVersion")
        if version and version != self.node["metadata"]["resourceVersion"]:
            raise ConflictError("changed")
        self.patches.append(patch)
        mib, version = patch["status"]["capacity"][EPC], f"{self.node['metadata']['resourceVersion']}0"
        self.node = node({}, version=version) if mib is None else written(mib, version=version)
        if self.meanwhile is not None:
            self.meanwhile()

    async def post_event(self, event):
        self.events.append(event)


class Setting:
    def __init__(self):
        self.now = 0.0
        self.api = FakeApi()
        self.state = ClusterState(RULES, lambda: self.now)
        self.registry = CollectorRegistry()
        self.applier = Applier(
            self.state,
            self.api,
            rules=RULES,
            release=RELEASE,
            metrics=ControllerMetrics(self.registry),
            instance="pod-1",
            clock=lambda: self.now,
            utc_now=lambda: datetime.fromtimestamp(self.now, UTC),
        )

    def watch(self, *pods):
        """Have the state know what the API server has."""
        self.state.set_node(node_facts(self.api.node, RULES.resources))
        for one in pods:
            facts = pod_facts(one, RULES.resources, RELEASE)
            assert facts is not None
            self.state.set_pod(facts.key, facts)

    def answer(self, mib):
        found = self.state.plugin(PLUGIN)
        assert found is not None
        self.state.set_offer(PLUGIN, found.incarnation, Offer(Accounting.CAPACITY, EPC, mib))

    def has_plugin(self, mib):
        self.api.pods.append(plugin_pod())
        self.watch(plugin_pod())
        self.answer(mib)

    async def pass_time(self, seconds):
        self.watch()
        self.now += seconds
        self.applier.tick()
        await self.applier.apply()
        self.watch()
        await self.applier.apply()

    def sample(self, name, **labels):
        return self.registry.get_sample_value(f"confcom_controller_{name}", labels)


@pytest.fixture
def setting():
    return Setting()


async def test_capacity_and_allocatable_are_written_once(setting):
    setting.has_plugin(64)
    await setting.applier.apply()
    await setting.pass_time(1000)
    assert setting.api.patches == [{"status": {"capacity": {EPC: "64"}, "allocatable": {EPC: "64"}}}]
    assert setting.applier._pacing._last == {}  # what is kept of a node ends with its pauses
    assert setting.sample("writes_total", kind="give") == 1


async def test_a_stale_watch_takes_nothing_from_pods(setting):
    setting.api.node = written("64")
    setting.api.pods = [tenant(40)]
    setting.has_plugin(10)
    await setting.applier.apply()
    assert setting.api.patches[0]["status"]["capacity"] == {EPC: "40"}
    assert setting.api.patches[0]["metadata"] == {"resourceVersion": "1"}
    assert [event["reason"] for event in setting.api.events] == [REASON]
    assert setting.sample("writes_total", kind="take") == 1


async def test_a_stale_watch_removes_no_key_of_a_node_with_a_plugin(setting):
    setting.api.node = written("64")
    setting.api.pods = [plugin_pod()]
    setting.watch()
    await setting.applier.apply()
    await setting.pass_time(301)
    assert setting.api.patches == []


async def test_a_change_seen_before_the_own_answer_is_not_forgotten(setting):
    setting.has_plugin(64)

    def wipe():
        setting.api.node = node({EPC: "0"})
        setting.watch()
        setting.api.meanwhile = None

    setting.api.meanwhile = wipe
    await setting.applier.apply()
    setting.now += 60
    setting.applier.tick()
    await setting.applier.apply()
    assert setting.api.node["status"]["capacity"] == {EPC: "64"}


async def test_the_key_is_removed_in_time(setting):
    setting.api.node = written("64")
    setting.watch()
    await setting.applier.apply()
    assert setting.sample("waiting_nodes") == 1
    await setting.pass_time(299)
    assert setting.api.patches == []
    await setting.pass_time(1)
    assert setting.api.patches[0]["status"] == {"capacity": {EPC: None}, "allocatable": {EPC: None}}
    assert setting.sample("waiting_nodes") == 0
    assert setting.sample("writes_total", kind="remove") == 1


async def test_a_node_that_is_gone_is_forgotten(setting):
    setting.api.node = written("64")
    setting.watch()
    await setting.applier.apply()
    setting.state.remove_node("n")
    setting.now = 400
    setting.applier.tick()
    await setting.applier.apply()
    assert (setting.api.patches, setting.sample("waiting_nodes")) == ([], 0)


async def test_a_conflict_is_tried_again_later(setting, caplog):
    setting.api.node = written("64")
    setting.watch()
    await setting.applier.apply()
    setting.api.failure = ConflictError("changed")
    await setting.pass_time(301)
    assert setting.api.patches == []
    assert [one for one in caplog.records if one.levelname == "WARNING"] == []  # it is usual
    setting.api.failure = None
    await setting.pass_time(5)
    assert len(setting.api.patches) == 1


async def test_a_refused_write_is_counted_and_repeated_more_rarely(setting):
    setting.has_plugin(64)
    setting.api.failure = RefusedError("denied")
    await setting.applier.apply()
    for _ in range(300):
        await setting.pass_time(1)
    attempts = setting.sample("write_failures_total", code="api-server-refused")
    assert attempts is not None
    assert 5 <= attempts <= 12
    setting.api.failure = None
    await setting.pass_time(60)
    assert len(setting.api.patches) == 1


async def test_who_overwrites_the_capacity_is_not_fought_without_pause(setting):
    setting.has_plugin(64)
    await setting.applier.apply()
    for _ in range(300):
        setting.api.node = node({EPC: "0"})
        setting.watch()
        await setting.pass_time(1)
    assert 5 <= len(setting.api.patches) <= 12
    assert setting.sample("rewrites_total") == len(setting.api.patches) - 1


async def test_a_shortfall_is_told_once_and_when_it_changes(setting):
    setting.has_plugin(10)
    setting.api.pods.append(tenant(40))
    setting.watch(tenant(40))
    await setting.applier.apply()
    await setting.pass_time(60)
    assert len(setting.api.events) == 1
    event = setting.api.events[0]
    assert event["involvedObject"] == {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}
    assert setting.sample("shortfall_nodes") == 1
    setting.watch(tenant(5, "more"))
    await setting.pass_time(1)
    assert len(setting.api.events) == 2
    await setting.pass_time(1800)
    assert len(setting.api.events) == 3
    assert len({event["metadata"]["name"] for event in setting.api.events}) == 3
    setting.answer(100)
    await setting.applier.apply()
    assert setting.sample("shortfall_nodes") == 0


async def test_a_shortfall_that_ends_without_a_write_is_over(setting):
    setting.api.node = written("64")
    setting.has_plugin(10)
    setting.api.pods.append(tenant(40))
    setting.watch(tenant(40))
    await setting.applier.apply()
    setting.watch()
    setting.answer(40)
    await setting.applier.apply()
    assert (len(setting.api.patches), setting.sample("shortfall_nodes")) == (1, 0)


async def test_a_shortfall_of_a_node_that_came_back_is_told_again(setting):
    setting.has_plugin(10)
    setting.watch(tenant(40))
    await setting.applier.apply()
    setting.state.remove_node("n")
    await setting.applier.apply()
    setting.applier.tick()
    await setting.applier.apply()
    assert setting.sample("shortfall_nodes") == 0
    setting.watch()
    await setting.applier.apply()
    assert len(setting.api.events) == 2


async def test_nothing_is_written_before_all_is_listed(setting):
    setting.has_plugin(64)
    listed = [asyncio.Event(), asyncio.Event()]
    listed[0].set()
    task = asyncio.ensure_future(setting.applier.run(listed))
    for _ in range(10):
        await asyncio.sleep(0)
    assert setting.api.patches == []
    listed[1].set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(setting.api.patches) == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
