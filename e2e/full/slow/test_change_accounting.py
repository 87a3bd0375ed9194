"""docs/how-to/change-accounting.md on a cluster of one node: to capacity, and back to devices."""

import json
from operator import itemgetter

import pytest

from e2e.add_on import EPC
from e2e.cluster import Shape
from e2e.confcom_command import SET_ASIDE_MIB
from e2e.sized_nodes import SizedNode
from e2e.tenants import HOLD, Tenant, container, pod
from e2e.waiting import until
from testkit.documentation import commands

PAGE = "docs/how-to/change-accounting.md"
OFFERED_MIB = 162
BLOCK_SECONDS = 700.0
"""Seconds for one code block of the page: the longest waits 5.5 minutes, and `update` gives up after ten."""
BACK_SECONDS = 180.0
"""Seconds for the controller manager to create the Deployment's Pod again."""
LABELS = {"app": "holds"}

pytestmark = pytest.mark.timeout(1800, func_only=True)


@pytest.fixture(scope="module")
def cluster(start_own_cluster, request):
    """A cluster of one node, in place of the session's."""
    return start_own_cluster(Shape(nodes=1, kubernetes=request.config.option.kubernetes))


@pytest.fixture
def sizes(cluster, rewriting):
    return [SizedNode(cluster.node, OFFERED_MIB + SET_ASIDE_MIB)]


def holder(limits):
    made = pod("holds", container("main", limits=limits, program=HOLD))
    template = {"metadata": {"labels": LABELS}, "spec": made["spec"] | {"restartPolicy": "Always"}}
    spec = {"replicas": 1, "selector": {"matchLabels": LABELS}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "holds"}, "spec": spec}


def test_one_node_changes_to_capacity_and_back(cluster, add_on, tenant: Tenant):
    node = cluster.node.name

    def accounting():
        return itemgetter("kind", "choice", "capacity_mib", "allocatable_mib")(add_on.epc()[node])

    def run(name):
        """Run the lines of the page's code block that has this name, as in ```` ```sh drain ````."""
        lines = [str(one.line).replace("NODE", node) for one in commands(PAGE) if one.name == name]
        assert lines
        cluster.run(["bash", "-c", "\n".join(["set -o errexit", *lines])], timeout=BLOCK_SECONDS)

    def holds():
        wait = ["--for=condition=Available", "deployment/holds", f"--timeout={BACK_SECONDS:.0f}s"]
        tenant.kubectl("wait", *wait, timeout=BACK_SECONDS + 30)

    tenant.create(json.dumps(holder({EPC: OFFERED_MIB})))
    holds()
    assert accounting() == ("device", "fits-devices", OFFERED_MIB, OFFERED_MIB)

    run("drain")
    run("set")
    assert accounting()[:2] == ("device", "kept-allocated")  # the record names the drained Pod's devices
    run("kept-allocated")
    run("wait")
    assert accounting() == ("capacity", "set", OFFERED_MIB, OFFERED_MIB)
    holds()
    until(add_on.is_well, "all is well")

    run("drain")
    run("devices")
    assert accounting()[:2] == ("capacity", "kept-allocated")  # the record names the drained Pod's device
    run("kept-allocated")
    run("back")
    assert accounting() == ("device", "set", OFFERED_MIB, OFFERED_MIB)
    holds()
    until(add_on.is_well, "all is well")
