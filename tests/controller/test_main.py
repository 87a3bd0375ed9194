import asyncio
import json
import sys
from unittest.mock import AsyncMock

import pytest
from prometheus_client import CollectorRegistry

from confcom.controller.main import STALE_SECONDS, assemble, probe_routes
from confcom.controller.metrics import ControllerMetrics
from confcom.controller.settings import settings_parser
from testkit.conditions import until
from testkit.controller import EPC, KUBECONFIG, NODE, http, node, plugin_pod

INVENTORY = {"version": 1, "accounting": {"kind": "capacity", "resource": EPC, "advertised_mib": 64}}
FLAGS = [f"--epc-resource={EPC}", "--node-selector=a=b;c"]
OURS = "/api/v1/namespaces/confcom-system/pods"


class Started:
    def __init__(self, server, connection):
        registry, fetch = CollectorRegistry(), AsyncMock(return_value=json.dumps(INVENTORY).encode())
        settings = settings_parser("", {}).parse(FLAGS)
        self.server = server
        self.controller = assemble(settings, connection, fetch, ControllerMetrics(registry))
        self.routes = probe_routes(self.controller, registry)
        self.sample = registry.get_sample_value
        self.stop = asyncio.Event()

    def readiness(self):
        return int(self.routes["/readyz"]().status)


@pytest.fixture
async def started(server, connection):
    one = Started(server, connection)
    assert one.readiness() == 503
    running = asyncio.ensure_future(one.controller.run(one.stop))
    await until(lambda: one.readiness() == 200)
    yield one
    one.stop.set()
    await running


async def test_what_a_plugin_found_is_written_to_its_node(started, server):
    server.put("nodes", node({}))
    server.put("pods", plugin_pod())
    await until(lambda: server.patches)
    assert server.patches == [{"status": {"capacity": {EPC: "64"}, "allocatable": {EPC: "64"}}}]
    server.put("nodes", node({EPC: "0"}))
    await until(lambda: len(server.patches) == 2)
    server.lose("nodes", server.objects["nodes"][NODE])
    await until(lambda: server.queries(f"/api/v1/nodes/{NODE}"))


async def test_only_what_is_ours_is_watched(started, server):
    await until(lambda: len(watches(server)) == 3)
    assert sorted(watches(server)) == [
        ("/api/v1/namespaces/confcom-system/pods", "app.kubernetes.io/name=confcom,app.kubernetes.io/instance=confcom"),
        ("/api/v1/nodes", "a=b"),
        ("/api/v1/nodes", "c"),
    ]


def watches(server):
    return [(path, query["labelSelector"]) for _, path, query in server.log if "watch" in query]


async def test_a_plugin_that_goes_is_forgotten(started, server):
    server.put("pods", plugin_pod())
    name, capacity = "confcom_controller_plugins", {"accounting": "capacity"}
    await until(lambda: started.sample(name, capacity) == 1)
    server.delete("pods", "p")
    await until(lambda: started.sample(name, capacity) == 0)


async def test_it_is_ready_while_it_knows_the_cluster(started):
    follower = started.controller.informers[0]
    follower.last_contact -= 2 * STALE_SECONDS
    assert started.readiness() == 503
    follower.last_contact += 2 * STALE_SECONDS
    assert started.readiness() == 200


DEEP = """
import asyncio, sys
from prometheus_client import CollectorRegistry
from confcom.controller.main import serve
from confcom.controller.settings import settings_parser

settings = settings_parser("", {}).parse([f"--kubeconfig={sys.argv[1]}"])
asyncio.run(serve(settings, asyncio.Event(), CollectorRegistry()))
"""


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 12),
    reason="CPython 3.12 has its own limit of JSON's levels (1,500 in 3.12.1); the controller's image has CPython 3.11",
)
async def test_nodes_as_deep_as_an_api_server_takes_are_read(server, tmp_path):
    page = json.dumps({"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "n"}, "x": "DEEP"}]})
    page = page.replace('"DEEP"', f"{'[' * 9_900}{']' * 9_900}")
    server.answers = [http(200, page.encode())] * 2  # one answer for Pods, and one for nodes
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.port}"}}
    (tmp_path / "kubeconfig").write_text(json.dumps(KUBECONFIG | {"clusters": [cluster]}))
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", DEEP, str(tmp_path / "kubeconfig"))
    try:
        await until(lambda: server.queries("/api/v1/nodes", watch="true", resourceVersion="7"))
    finally:
        process.kill()
        await process.wait()
