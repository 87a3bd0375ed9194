"""Preflight's checks of the nodes, by themselves."""

import pytest
import yaml

from confcom.addon.cluster.helm import chart_folder
from confcom.addon.model.chart_objects import Plan
from confcom.addon.preflight.node_checks import check_losses, check_nodes, check_simulation
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import ENCLAVE, EPC, HARDWARE, SIMULATED

PLAN = Plan((make.daemon_set("device-plugin"), make.daemon_set("quote-helper")))


(AKS_TERM,) = yaml.safe_load((chart_folder() / "values-aks.yaml").read_text())["nodeSelectorTerms"]
((AKS_LABEL, AKS_SIZES),) = [(one["key"], one["values"]) for one in AKS_TERM["matchExpressions"]]
HARDWARE_PLAN = Plan((make.daemon_set("device-plugin", HARDWARE, args=()),))
BOTH_PLAN = Plan((*HARDWARE_PLAN.manifests, make.daemon_set("device-plugin-simulated")))
NODE, METAL, BOTH = (
    make.node(name, labels) for name, labels in (("n", SIMULATED), ("metal", HARDWARE), ("both", HARDWARE | SIMULATED))
)
SIMULATED_BY_NAME = make.node("metal", {"own": "yes"} | SIMULATED)
OWN_HARDWARE = make.daemon_set("device-plugin", {"own": "yes"}, args=())


@pytest.mark.parametrize(
    ("plan", "nodes", "code"),
    [
        (HARDWARE_PLAN, [NODE, METAL], "simulation-not-wanted"),
        (PLAN, [NODE], "no-hardware-in-cluster"),
        (BOTH_PLAN, [NODE, METAL], "simulation-beside-hardware"),
        (PLAN, [NODE, METAL], "hardware-in-cluster"),
        (PLAN, [NODE, make.node("vendor", resources={EPC: 100})], "hardware-in-cluster"),
        (PLAN, [NODE, make.node("aks", {AKS_LABEL: AKS_SIZES[-1]})], "hardware-in-cluster"),
        (PLAN, [make.node("n", SIMULATED, resources={EPC: 100})], "no-hardware-in-cluster"),
        (PLAN, [NODE, BOTH], "hardware-node-simulated"),
        (Plan((*PLAN.manifests, OWN_HARDWARE)), [SIMULATED_BY_NAME], "node-chosen-twice"),
    ],
)
def test_simulation_and_hardware(plan, nodes, code):
    assert [one.code for one in check_simulation(plan, nodes, [])] == [code]


@pytest.mark.parametrize(
    ("resources", "supported", "code"),
    [
        ({EPC: 4090}, "supported", "no-hardware-in-cluster"),
        ({EPC: 4090}, "no-controller", "hardware-in-cluster"),
        ({EPC: 4090, ENCLAVE: 1024}, "supported", "hardware-in-cluster"),
    ],
)
def test_capacity_of_a_node_that_simulated_is_no_hardware(resources, supported, code):
    installed = make.daemon_set("device-plugin", args=("--simulated", f"--capacity-support={supported}"))
    nodes = [NODE, make.node("was-simulated", resources=resources)]
    assert [one.code for one in check_simulation(PLAN, nodes, [installed])] == [code]


def test_nodes_that_would_lose_their_daemons():
    nodes = [make.node(name, SIMULATED, resources={EPC: epc}) for name, epc in (("serving", 100), ("idle", 0))]
    other = Plan((make.daemon_set("device-plugin", {"own": "yes"}),))
    (finding,) = check_losses(other, nodes, PLAN.daemon_sets, anyway="helm rollback confcom 1")
    assert finding.code == "nodes-lose-daemons"
    assert "serving" in finding.what
    assert "idle" not in finding.what
    assert "own=yes" in finding.remedy
    assert "helm rollback confcom 1" in finding.remedy
    assert list(check_losses(PLAN, nodes, PLAN.daemon_sets, anyway="")) == []


@pytest.mark.parametrize("installed", [True, False])
def test_a_taint_does_not_forbid_a_change_of_running_daemons(installed):
    node = make.node("n", SIMULATED, taints=[{"key": "sgx", "value": "only", "effect": "NoSchedule"}])
    there = PLAN.daemon_sets if installed else ()
    found = list(check_nodes(PLAN, [node], there, unknown=[], allow_none=False))
    assert [one.code for one in found] == ["node-tainted", "nodes-found"]
    assert found[0].outcome == ("warning" if installed else "FAILED")
