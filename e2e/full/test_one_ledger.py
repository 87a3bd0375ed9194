"""Manifests as their authors publish them fill one node's EPC exactly: one ledger, whatever name they ask under."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e import add_on
from e2e.add_on import EPC
from e2e.cluster import Cluster, Node
from e2e.confcom_command import SET_ASIDE_MIB, AddOn
from e2e.other_image import Changes, import_other
from e2e.relying_party import NO_CHALLENGE, RelyingParty
from e2e.sized_nodes import SizedNode, sized_nodes
from e2e.tenants import QUOTE_PREFIX, Manifest, Tenant, container, manifest, pod
from e2e.waiting import until

CASE_SECONDS = 600
"""A minute is usual: much more where others need the CPU too."""
HOLD = ("--hold", "3600")


@dataclass(frozen=True, slots=True)
class Published:
    """A manifest of `e2e/manifests`, the thing whose log has the quote, and what it counts for.

    Where the manifest does not ask for quotes out of process by itself, the image does.
    """

    name: str
    thing: str
    mib: int
    asks_aesmd: bool = False


PUBLISHED = (
    Published("seed", "job/sgx-test", 10, asks_aesmd=True),
    Published("azure-helloworld", "job/azure-helloworld", 10),
    Published("azure-attested-tls-server", "deployment/azure-attested-tls-server", 10),
    Published("azure-attested-tls-client", "job/azure-attested-tls-client", 5),
    Published("coordinator", "deployment/coordinator", 10),
    Published("intel-annotation", "job/intel-annotation", 1, asks_aesmd=True),
    Published("gramine-secret-client", "job/gramine-secret-client", 10),
)
PUBLISHED_MIB = sum(one.mib for one in PUBLISHED)
NEXT, NEXT_MIB = "azure-attested-tls-client", 5
"""Whose end makes room for the next Pod, `quoted-amount`, which asks for the same."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way of counting EPC, which `auto` chooses by the node's size, for this reason."""

    kind: str
    choice: str
    found_mib: int

    @property
    def rest_mib(self) -> int:
        """What the published manifests leave."""
        return self.found_mib - SET_ASIDE_MIB - PUBLISHED_MIB


WAYS = (
    Way("device", "fits-devices", PUBLISHED_MIB + SET_ASIDE_MIB),
    Way("capacity", "large-epc", 256 * 1024),
)


@pytest.fixture(params=WAYS, ids=lambda way: way.kind)
def way(request: pytest.FixtureRequest) -> Way:
    return request.param


@pytest.fixture
def only_node(
    cluster: Cluster, nodes: tuple[Node, Node, Node], way: Way, namespace: str, tmp_path: Path
) -> Iterator[AddOn]:
    """The add-on on one node; the namespace may ask for the provision device."""
    if not add_on.changes_pods(cluster):
        pytest.skip("this API server cannot change Pods by policies")
    values = {"provision": {"namespaces": [namespace]}}
    with sized_nodes(cluster, [SizedNode(nodes[1], way.found_mib)], tmp_path / "values.json", values) as made:
        yield made


@pytest.fixture
def tenant(only_node: AddOn, namespace: str) -> Iterator[Tenant]:
    made = Tenant(only_node.cluster, namespace)
    yield made
    made.kubectl("delete", "jobs,deployments,pods", "--all", "--cascade=foreground")


@pytest.fixture
def staying(only_node: AddOn, tmp_path: Path) -> dict[bool, str]:
    """Images that stay after their quote, by whether the manifest says that quotes are made out of process."""
    changes = {True: Changes(arguments=HOLD), False: Changes(arguments=HOLD, variables={"SGX_AESM_ADDR": "1"})}
    return {
        asks_aesmd: import_other(only_node.cluster, tmp_path, "sample-workload", changes=made)
        for asks_aesmd, made in changes.items()
    }


def as_published(one: Published, image: str) -> str:
    """The manifest with another image, and without the command, which that has not."""
    return re.sub(r"^ +command: .*\n", "", manifest(one.name, image), flags=re.MULTILINE)


def filler(mib: int) -> Manifest:
    """A Pod for what is left of a large node."""
    return pod("rest", container("main", limits={EPC: mib}, environment={"SGX_AESM_ADDR": "1"}, arguments=HOLD))


def phases(tenant: Tenant) -> dict[str, str]:
    pods = tenant.cluster.kubectl_json("get", f"--namespace={tenant.namespace}", "pods")["items"]
    return {one["metadata"]["name"]: one["status"]["phase"] for one in pods}


def agree(only_node: AddOn, node: Node, *, requested: int, free: int, way: Way) -> None:
    """`kubectl describe node` and `confcom status` tell the same."""
    described = only_node.cluster.kubectl("describe", "node", node.name).stdout
    pattern = rf"^ +{re.escape(EPC)}:? +(\d+k?)\b"
    amounts = [int(one.replace("k", "000")) for one in re.findall(pattern, described, re.MULTILINE)]
    assert amounts == [requested + free, requested + free, requested]  # capacity, allocatable, requests
    status = only_node.status()
    (told,) = status["nodes"]
    assert told["name"] == node.name
    epc = told["epc"]
    assert (epc["used_mib"], epc["free_mib"]) == (requested, free)
    assert epc["capacity_mib"] == epc["allocatable_mib"] == epc["offered_mib"] == requested + free
    assert epc["found_mib"] == way.found_mib
    assert (epc["accounting"]["kind"], epc["accounting"]["choice"]) == (way.kind, way.choice)
    assert status["ok"], status["problems"]


@pytest.mark.timeout(CASE_SECONDS, func_only=True)
def test_published_manifests_fill_one_node(
    way: Way, only_node: AddOn, tenant: Tenant, staying: dict[bool, str], tmp_path: Path
) -> None:
    cluster, (node,) = only_node.cluster, only_node.nodes
    relying_party = RelyingParty.of(cluster, tmp_path / "trust")
    agree(only_node, node, requested=0, free=PUBLISHED_MIB + way.rest_mib, way=way)

    for one in PUBLISHED:
        tenant.create(as_published(one, staying[one.asks_aesmd]))
    if way.rest_mib:
        tenant.create(filler(way.rest_mib))

    pods = len(PUBLISHED) + bool(way.rest_mib)
    until(lambda: list(phases(tenant).values()) == ["Running"] * pods, "all of them run", seconds=180)
    for one in PUBLISHED:
        until(lambda thing=one.thing: QUOTE_PREFIX in tenant.log(thing), f"{one.name} has its quote")
        relying_party.verify(tenant.quote(one.thing), NO_CHALLENGE)
        assert f"enclave memory: {one.mib} MiB" in tenant.log(one.thing)
    agree(only_node, node, requested=PUBLISHED_MIB + way.rest_mib, free=0, way=way)

    tenant.create(as_published(Published("quoted-amount", "", NEXT_MIB), staying[False]))
    waiting = tenant.pod_of("quoted-amount")["metadata"]["name"]
    assert f"Insufficient {EPC}" in tenant.why_pending(waiting)
    assert "0/3 nodes are available" in tenant.why_pending(waiting)

    tenant.kubectl("delete", "job", NEXT, "--cascade=foreground")

    tenant.wait_for_phase(waiting, "Running")
    until(lambda: QUOTE_PREFIX in tenant.log(waiting), "the next one has its quote")
    relying_party.verify(tenant.quote(waiting), NO_CHALLENGE)
    agree(only_node, node, requested=PUBLISHED_MIB + way.rest_mib, free=0, way=way)
    assert set(phases(tenant).values()) == {"Running"}
