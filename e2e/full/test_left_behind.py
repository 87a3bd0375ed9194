"""Somebody removes parts by hand: a node's label, helm's record, or the whole namespace."""

import pytest

from confcom.errors import ExitCode
from e2e.add_on import EPC, HERE, SIMULATED_LABEL, SYSTEM, allocatable, daemons, mark_removal, names
from e2e.cluster.addresses import NODE_NAME
from e2e.confcom_command import JSON, codes_of, confcom, document_of
from e2e.images import CHART_REGISTRY
from e2e.tenants import HOLD, container, pod
from e2e.waiting import until

SERVED = "simulated.collateral.serve=true"
ENABLE = ("enable", "--simulated-node", NODE_NAME, "--set", CHART_REGISTRY)
LABELLED = "--selector=app.kubernetes.io/name=confcom"
EVERYWHERE = (
    *(f"{policy}polic{end}" for policy in ("mutatingadmission", "validatingadmission") for end in ("ies", "ybindings")),
    *("clusterroles", "clusterrolebindings", "roles", "rolebindings"),
)
LOST_MIB = 90

pytestmark = pytest.mark.timeout(600, func_only=True)


def left(cluster):
    listed = cluster.kubectl("get", ",".join(EVERYWHERE), "--all-namespaces", LABELLED, "--output=name").stdout
    return set(listed.split())


def forget_the_release(cluster):
    cluster.kubectl("delete", "secret", HERE, "--selector=owner=helm")


def test_a_node_that_loses_its_label_under_a_pod(cluster, add_on, tenant):
    lost = add_on.nodes[1].name
    main = container("main", limits={EPC: LOST_MIB}, program=HOLD)
    tenant.create(pod("holder", main, node=lost))
    tenant.wait_for_phase("holder", "Running")
    cluster.kubectl("label", "node", lost, f"{SIMULATED_LABEL}-")
    until(lambda: allocatable(cluster, lost) == "0", "the kubelet has told that the plugin is gone")

    until(lambda: len(daemons(cluster)) == 2, "the lost node's daemons have ended", seconds=240)
    status = add_on.status()
    (problem,) = status["problem_details"]
    assert (status["ok"], problem["code"], problem["node"]) == (False, "node-not-selected", lost)
    assert f"request {LOST_MIB} {EPC} of 0" in problem["problem"]
    dry_run = add_on.confcom("update", "--set=logLevel=debug", "--dry-run", JSON)
    assert "pods-lose-quotes" in codes_of(dry_run)
    assert f"{tenant.namespace}/holder on {lost}" in dry_run.stderr

    cluster.kubectl("label", "node", lost, f"{SIMULATED_LABEL}=true")
    until(add_on.is_well, "the node is back", seconds=120)
    assert f"{tenant.namespace}/holder on {lost}" in add_on.confcom("enable", "--no-quote-helper", "--dry-run").stderr


def test_without_helms_record(bare):
    confcom(bare, *ENABLE, "--set", SERVED)
    forget_the_release(bare)
    assert "release-missing" in codes_of(confcom(bare, "status", JSON, code=ExitCode.NOT_READY))
    assert codes_of(confcom(bare, "update", JSON, code=ExitCode.REFUSED)) == {"release-missing"}
    confcom(bare, *ENABLE)
    assert names(bare, "deployments", SYSTEM) == ["confcom-controller"]
    confcom(bare, "status", "--wait")

    forget_the_release(bare)
    assert document_of(confcom(bare, "disable", "--yes", "--no-wait", JSON))["removed"] is True
    assert not left(bare)
    assert not daemons(bare)
    assert not names(bare, "deployments", SYSTEM)


def test_after_the_namespace_was_deleted(bare):
    confcom(bare, *ENABLE)
    mark_removal(bare)  # otherwise the helper serves for three more minutes, and keeps the namespace
    bare.kubectl("delete", "namespace", SYSTEM)
    assert left(bare)
    found = codes_of(confcom(bare, "status", JSON, code=ExitCode.NOT_READY))
    assert {"release-missing", "not-enabled"} <= found
    assert document_of(confcom(bare, "disable", "--yes", "--no-wait", JSON))["removed"] is True
    assert not left(bare)
    assert "release-missing" not in codes_of(confcom(bare, "status", JSON, code=ExitCode.NOT_READY))
