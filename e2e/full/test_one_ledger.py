"""Published manifests fill one node's EPC exactly, because all resource names share one ledger."""

import re

import pytest

from e2e.add_on import EPC
from e2e.confcom_command import SET_ASIDE_MIB
from e2e.other_image import Changes, import_other
from e2e.relying_party import NO_CHALLENGE, RelyingParty
from e2e.sized_nodes import SizedNode, enabled
from e2e.tenants import Tenant, container, manifest, pod
from e2e.waiting import until

CASE_SECONDS = 600
"""Seconds for the case; usually a minute, but much more on a machine that does other work."""
HOLD = ("--hold", "3600")
PUBLISHED = (
    ("seed", "job/sgx-test", 10),
    ("azure-helloworld", "job/azure-helloworld", 10),
    ("azure-attested-tls-server", "deployment/azure-attested-tls-server", 10),
    ("azure-attested-tls-client", "job/azure-attested-tls-client", 5),
    ("coordinator", "deployment/coordinator", 10),
    ("intel-annotation", "job/intel-annotation", 1),
    ("gramine-secret-client", "job/gramine-secret-client", 10),
)
"""Manifests of `e2e/manifests`, the object whose log has the quote, and the object's MiB of EPC."""
PUBLISHED_MIB = sum(mib for _, _, mib in PUBLISHED)
ENDS, NEXT = "azure-attested-tls-client", "quoted-amount"
"""Manifests that ask for the same amount; when the first Pod has ended, the second has room."""
WAYS = (("device", "fits-devices", PUBLISHED_MIB + SET_ASIDE_MIB), ("capacity", "large-epc", 256 * 1024))
"""Each way of counting EPC, the reason for which `auto` chooses it, and the node's MiB of EPC."""


@pytest.fixture(params=WAYS, ids=lambda way: way[0])
def way(request):
    return request.param


@pytest.fixture
def only_node(cluster, nodes, way, namespace, rewriting):
    """The add-on on one node, where the namespace may ask for the provision device."""
    values = {"provision": {"namespaces": [namespace]}}
    with enabled(cluster, [SizedNode(nodes[1], way[2])], values) as made:
        yield made


@pytest.fixture
def tenant(only_node, namespace):
    made = Tenant(only_node.cluster, namespace)
    yield made
    made.kubectl("delete", "jobs,deployments,pods", "--all", "--cascade=foreground")


@pytest.fixture
def create(only_node, tenant, tmp_path):
    """Creates a published manifest without its command; the image runs on after it has made a quote."""
    changes = Changes(arguments=HOLD, variables={"SGX_AESM_ADDR": "1"})
    image = import_other(only_node.cluster, tmp_path, "sample-workload", changes=changes)

    def made(name):
        text = manifest(name, image)
        tenant.create(re.sub(r"^ +command: .*\n", "", text, flags=re.MULTILINE))

    return made


def agree(only_node, way, *, requested, free):
    """Check that `kubectl describe node` and `confcom status` show the same amounts."""
    (node,) = only_node.nodes
    described = only_node.cluster.kubectl("describe", "node", node.name).stdout
    pattern = rf"^ +{re.escape(EPC)}:? +(\d+k?)\b"
    amounts = [int(one.replace("k", "000")) for one in re.findall(pattern, described, re.MULTILINE)]
    assert amounts == [requested + free, requested + free, requested]  # capacity, allocatable, requests
    epc = only_node.epc()[node.name]
    assert (epc["used_mib"], epc["free_mib"]) == (requested, free)
    assert epc["capacity_mib"] == epc["allocatable_mib"] == epc["offered_mib"] == requested + free
    assert (epc["kind"], epc["choice"], epc["found_mib"]) == way
    assert only_node.is_well()


@pytest.mark.timeout(CASE_SECONDS, func_only=True)
def test_published_manifests_fill_one_node(cluster, way, only_node, tenant, create, *, tmp_path):
    relying_party = RelyingParty.of(cluster, tmp_path / "trust")
    everything = way[2] - SET_ASIDE_MIB
    agree(only_node, way, requested=0, free=everything)

    for name, _, _ in PUBLISHED:
        create(name)
    rest = everything - PUBLISHED_MIB
    if rest:
        tenant.create(
            pod("rest", container("main", limits={EPC: rest}, environment={"SGX_AESM_ADDR": "1"}, arguments=HOLD))
        )

    def phases():
        pods = cluster.kubectl_json("get", f"--namespace={tenant.namespace}", "pods")["items"]
        return [one["status"]["phase"] for one in pods]

    running = ["Running"] * (len(PUBLISHED) + bool(rest))
    until(lambda: phases() == running, "all of them run", seconds=180)
    for _, thing, mib in PUBLISHED:
        tenant.wait_for_quote(thing)
        relying_party.verify(tenant.quote(thing), NO_CHALLENGE)
        assert f"enclave memory: {mib} MiB" in tenant.log(thing)
    agree(only_node, way, requested=everything, free=0)

    create(NEXT)
    waiting = tenant.pod_of(NEXT)["metadata"]["name"]
    assert f"Insufficient {EPC}" in tenant.why_pending(waiting)

    tenant.kubectl("delete", "job", ENDS, "--cascade=foreground")

    tenant.wait_for_phase(waiting, "Running")
    tenant.wait_for_quote(waiting)
    relying_party.verify(tenant.quote(waiting), NO_CHALLENGE)
    agree(only_node, way, requested=everything, free=0)
    assert phases() == running
