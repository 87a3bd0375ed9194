"""An API server before 1.36 cannot change Pods by policies: users are told the name to write; all else works."""

import json

import pytest

from confcom.errors import ExitCode
from e2e import add_on
from e2e.add_on import CONTROLLER, EPC, HERE, RELEASE, SYSTEM
from e2e.admission.cases import dry_run
from e2e.admission.pattern import BYTES, MIB, PROVISION, app, template
from e2e.admission.patterns import PATTERNS
from e2e.confcom_command import JSON, SET_ASIDE_MIB, codes_of
from e2e.sized_nodes import SizedNode, enabled
from e2e.waiting import until

pytestmark = pytest.mark.timeout(600, func_only=True)

MOST_DEVICES = 262_144
"""Largest number of devices of a node; the kubelet accepts no longer list."""
HELD_BACK_MIB = 1_000


@pytest.fixture(scope="module")
def sizes(cluster):
    """A node with more EPC than the kubelet can list as devices, and a node with little EPC."""
    large = SizedNode(cluster.nodes[2], MOST_DEVICES + HELD_BACK_MIB + SET_ASIDE_MIB, HELD_BACK_MIB)
    return large, SizedNode(cluster.nodes[1], 168)


@pytest.fixture(scope="module")
def older(cluster, sizes):
    if add_on.changes_pods(cluster):
        pytest.skip("this API server can change Pods by policies: make e2e-1.34")
    with enabled(cluster, sizes) as made:
        yield made


@pytest.mark.usefixtures("nodes")
def test_each_node_counts_devices_and_says_what_is_held_back(older, sizes):
    until(older.is_well, "all is well")  # the last helpers may still be starting
    assert {one["code"] for one in older.status()["notes"]} == {"api-server-old", "epc-held-back"}
    for node, choice in zip(sizes, ("api-server-old", "fits-devices"), strict=True):
        epc = older.epc()[node.name]
        amounts = {epc[f"{one}_mib"] for one in ("offered", "capacity", "allocatable", "free")}
        assert (epc["found_mib"], amounts) == (node.epc_mib, {node.offered_mib})
        assert (epc["kind"], epc["choice"], epc["held_back_mib"]) == ("device", choice, node.held_back_mib)


def test_what_this_api_server_lacks_is_neither_installed_nor_accepted(cluster, older):
    assert "MutatingAdmissionPolicy" not in cluster.helm("get", "manifest", RELEASE, HERE).stdout
    assert CONTROLLER not in add_on.names(cluster, "deployments", SYSTEM)
    assert f"{EPC}: 10" in " ".join(cluster.helm("get", "notes", RELEASE, HERE).stdout.split())
    refused = older.confcom("update", "--set=devicePlugin.accounting=capacity", JSON, code=ExitCode.USAGE)
    assert "capacity-not-supported" in codes_of(refused)


@pytest.mark.usefixtures("older")
def test_authors_are_told_what_to_write_or_refused(tenant):
    asks = app({BYTES: "9M"})
    for kind in ("Job", "Deployment"):
        (warning,) = dry_run(tenant, template(kind, asks)).warnings
        assert f"Write {MIB}: 9" in warning
    assert dry_run(tenant, asks).made["spec"]["containers"][0]["resources"]["limits"] == {BYTES: "9M"}
    for pattern in PATTERNS:
        text = json.dumps(pattern.pod)
        if pattern.refused and MIB in text and BYTES not in text:
            answer = dry_run(tenant, pattern.pod)
            assert (answer.made, pattern.refused in answer.said) == ({}, True)
    (warning,) = dry_run(tenant, template("Job", app({MIB: 10, PROVISION: 1}))).warnings
    assert f"Pods will be refused: container app asks for {PROVISION}" in warning
    assert dry_run(tenant, app({MIB: 10})).warnings == []
