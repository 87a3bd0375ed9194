"""The controller's parts together, with an API server that a case scripts."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from confcom.controller.limits_and_deadlines import STALE_SECONDS
from confcom.controller.main import Controller, probe_routes
from confcom.controller.metrics import ControllerMetrics
from confcom.controller.settings import parse_settings
from testkit.controller import EPC, NODE, node, plugin_pod

INVENTORY = json.dumps(
    {"version": 1, "accounting": {"kind": "capacity", "resource": EPC, "advertised_mib": 64}}
).encode()


class Feed:
    """Has what it was given, and changes nothing afterwards."""

    def __init__(self, *things):
        self.things = things

    async def list(self, take):
        for thing in self.things:
            take(thing)
        return "1"

    async def watch(self, version):
        await asyncio.Event().wait()
        yield "ADDED", {}


class Started:
    def __init__(self, *pods):
        self.patched = asyncio.Event()
        self.patches: list[tuple[str, dict]] = []
        registry = CollectorRegistry()
        api = SimpleNamespace(nodes=Feed(node({})), pods=Feed(*pods), patch_node_status=self._patch)
        self.controller = Controller(
            parse_settings([f"--epc-resource={EPC}"], prog="", environ={}),
            api,
            SimpleNamespace(fetch=self._fetch),
            metrics=ControllerMetrics(registry),
            instance="controller-1",
        )
        self.routes = probe_routes(self.controller, registry)
        self.stop = asyncio.Event()

    async def _patch(self, name, patch):
        self.patches.append((name, patch))
        self.patched.set()

    async def _fetch(self, address):
        return INVENTORY

    def readiness(self):
        return int(self.routes["/readyz"]().status)


@pytest.fixture
async def started():
    one = Started(plugin_pod())
    running = asyncio.ensure_future(one.controller.run(one.stop))
    yield one
    one.stop.set()
    await running


async def test_what_a_plugin_found_is_written_to_its_node(started):
    await asyncio.wait_for(started.patched.wait(), 30)
    assert started.patches == [(NODE, {"status": {"capacity": {EPC: "64"}, "allocatable": {EPC: "64"}}})]


async def test_it_is_ready_while_it_knows_the_cluster():
    one = Started()
    assert one.readiness() == 503
    running = asyncio.ensure_future(one.controller.run(one.stop))
    for follower in one.controller._followers.values():
        await asyncio.wait_for(follower.synced.wait(), 30)
    assert one.readiness() == 200
    one.controller._followers["pods"].last_contact -= STALE_SECONDS
    assert one.readiness() == 503
    one.controller._followers["pods"].last_contact += STALE_SECONDS
    assert one.readiness() == 200
    one.stop.set()
    await running
