"""The cluster's kubelet for the contract suite, which also tests the demo's device manager."""

import asyncio
import secrets
from collections.abc import Sequence

import pytest

from e2e import add_on
from e2e.cluster import Cluster
from e2e.cluster.addresses import DEVICE_PLUGINS, NODE_NAME
from e2e.images import reference
from e2e.sized_nodes import SizedNode, enabled
from e2e.tenants import Tenant
from testkit.kubelet_contract.kubelet import Bench, PodSeen
from testkit.kubelet_contract.plugin import Plugin

GENEROUS_SECONDS = 40.0
"""Seconds for the kubelet to report to the API, as it does every 10 s, or to restart a failed container."""
FORGET_SECONDS = 400.0
"""Seconds for a kubelet to forget a plugin (5 minutes: endpointStopGracePeriod), and to report this."""


class RealKubelet:
    """The cluster's kubelet. Blocking calls stay out of the event loop, which the test's plugin needs."""

    image = reference("sample-workload")
    node_name = NODE_NAME
    patience = GENEROUS_SECONDS
    report_seconds = 15.0
    removal_patience = FORGET_SECONDS

    def __init__(self, cluster: Cluster, namespace: str):
        self._cluster = cluster
        self._tenant = Tenant(cluster, namespace)
        self.directory = cluster.node.inside(DEVICE_PLUGINS)

    async def counts(self, resource):
        node = await asyncio.to_thread(self._cluster.kubectl_json, "get", "node", NODE_NAME)
        counts = [node["status"][kind].get(resource) for kind in ("capacity", "allocatable")]
        return tuple(None if count is None else int(count) for count in counts)

    async def apply(self, manifest):
        await asyncio.to_thread(self._tenant.create, manifest)

    async def pod(self, name):
        seen = (await asyncio.to_thread(self._tenant.get, name))["status"]
        restarts = sum(container["restartCount"] for container in seen.get("containerStatuses", []))
        unscheduled = next((c for c in seen.get("conditions", []) if c.get("reason") == "Unschedulable"), {})
        reason, message = (seen.get(key, unscheduled.get(key, "")) for key in ("reason", "message"))
        return PodSeen(seen["phase"], reason, message, restarts)

    async def log(self, name, container):
        return (await asyncio.to_thread(self._tenant.kubectl, "logs", name, f"--container={container}")).stdout

    async def delete(self, name):
        await asyncio.to_thread(self._tenant.kubectl, "delete", "pod", name, "--ignore-not-found", "--grace-period=0")

    async def restart(self):
        await asyncio.to_thread(self._cluster.node.restart, "kubelet")


@pytest.fixture
async def bench(cluster, contract_namespace):
    made = []

    async def make_plugin(directory, **settings):
        plugin = Plugin(directory, **settings)
        made.append(plugin)
        await plugin.start()
        return plugin

    one = Bench(RealKubelet(cluster, contract_namespace), make_plugin, f"c{secrets.token_hex(4)}")
    yield one
    await one.clean()
    for plugin in made:
        await plugin.stop()
        plugin.socket.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def contract_namespace(cluster):
    with cluster.new_namespace("contract") as name:
        yield name


@pytest.fixture(scope="session")
def kubelet_version(cluster):
    """The kubelet's major and minor version number."""
    version = cluster.kubectl_json("get", "node", NODE_NAME)["status"]["nodeInfo"]["kubeletVersion"]
    return tuple(map(int, version.removeprefix("v").split(".")[:2]))


@pytest.fixture
def up_to_1_36(kubelet_version):
    if kubelet_version > (1, 36):
        pytest.skip("this is what kubelets to 1.36 do; run without --kubernetes")


@pytest.fixture
def from_1_37(kubelet_version):
    if kubelet_version < (1, 37):
        pytest.skip("this is what kubelets from 1.37 on do: make e2e-1.37")


@pytest.fixture
def tenant(cluster: Cluster, namespace: str) -> Tenant:
    return Tenant(cluster, namespace)


@pytest.fixture
def rewriting(cluster: Cluster):
    if not add_on.changes_pods(cluster):
        pytest.skip("this API server cannot change Pods by policies")


@pytest.fixture
def sizes(nodes):
    """EPC of the add-on's nodes in MiB, unless a module overrides this fixture."""
    return [SizedNode(node, 168) for node in nodes[:2]]


@pytest.fixture(name="add_on")
def enabled_on_sizes(cluster: Cluster, sizes: Sequence[SizedNode]):
    """The add-on on nodes of these sizes; the cluster has nothing of the add-on before and afterwards."""
    with enabled(cluster, sizes) as made:
        yield made


@pytest.fixture
def bare(cluster: Cluster):
    """A cluster without the add-on or its remains; afterwards the fixture removes the case's remains."""
    add_on.uninstall(cluster)
    cluster.kubectl("label", "nodes", "--all", f"{add_on.SIMULATED_LABEL}-")
    for node in cluster.nodes[1:]:  # `confcom status` lists these nodes as long as remains are there
        if add_on.is_remembered(cluster, node.name):
            add_on.forget(cluster, node)
    yield cluster
    add_on.uninstall(cluster)
