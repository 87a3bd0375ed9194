"""What the chart looks up in the cluster, and refuses: an upgrade that takes daemons from nodes, unasked mixtures."""

import pytest

from testkit.chart_lookups import ALLOWED, SYSTEM
from testkit.chart_manifests import NFD_LABEL, PLUGIN, SIMULATED_LABEL

SIMULATED = ("simulated.enabled=true",)
BESIDE = (*SIMULATED, "simulated.besideHardware=true")
HARDWARE = ("quoteHelper.enabled=false",)
LOSES, CHANGES, HARDWARE_TOO = "nodes-lose-daemons", "nodes-change-platform", "hardware-in-cluster"
OWN_LABEL = "example.com/sgx"
OWN_SELECTOR = {"nodeSelector": {NFD_LABEL: None, OWN_LABEL: "yes"}}
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
ON_AKS = {INSTANCE_TYPE: "Standard_DC4s_v3"}
ON_HARDWARE = {NFD_LABEL: "true"}
TO_SIMULATE = {SIMULATED_LABEL: "true"}
BOTH_NODES = {"hw-1": ON_HARDWARE, "sim-1": TO_SIMULATE}
FAKE_SELECTOR = {"simulated": {"nodeSelector": {SIMULATED_LABEL: None, "example.com/fake": "yes"}}}


@pytest.fixture
def refusal(cluster, installed, upgrade):
    """What the chart says when it refuses an upgrade by this code, from these settings to those."""

    def run(code, nodes, before, after, *, had=None, **options):
        cluster.nodes = nodes
        installed(*before, values=had)
        found, told = upgrade(*after, **options)
        assert found == code
        return told

    return run


def test_an_upgrade_that_changes_no_nodes(cluster, installed, upgrade):
    cluster.nodes = {"hw-1": ON_HARDWARE, "sim-1": TO_SIMULATE, "other": {}}
    installed(*BESIDE)
    assert upgrade(*BESIDE, "logLevel=debug") == ALLOWED
    del cluster.nodes["hw-1"]
    assert upgrade(*SIMULATED) == ALLOWED
    installed(*SIMULATED)
    assert upgrade(*BESIDE) == ALLOWED


def test_beside_hardware_a_hardware_node_is_told_the_label_of_hardware(refusal, values_file):
    told = refusal(LOSES, BOTH_NODES, BESIDE, BESIDE, values=values_file(OWN_SELECTOR))
    assert f"kubectl label node hw-1 {OWN_LABEL}=yes" in told
    assert f"kubectl label node hw-1 {NFD_LABEL}-" in told
    assert SIMULATED_LABEL not in told
    assert "sim-1" not in told


def test_the_label_of_the_other_platform_does_not_keep_a_nodes_daemons(cluster, refusal, upgrade, values_file):
    nodes = {"hw-1": ON_HARDWARE | TO_SIMULATE}
    told = refusal(LOSES, nodes, BESIDE, BESIDE, values=values_file(OWN_SELECTOR))
    assert f"kubectl label node hw-1 {OWN_LABEL}=yes" in told
    cluster.nodes["hw-1"] = ON_HARDWARE | {OWN_LABEL: "yes"}
    assert upgrade(*BESIDE, values=values_file(OWN_SELECTOR)) == ALLOWED


@pytest.mark.parametrize("label", [{OWN_LABEL: "no"}, {}], ids=["another value", "none"])
def test_of_all_labels_each_must_have_its_value(cluster, refusal, upgrade, values_file, label):
    both = values_file({"nodeSelector": {NFD_LABEL: "true", OWN_LABEL: ""}})
    refusal(LOSES, {"hw-1": ON_HARDWARE | label}, HARDWARE, HARDWARE, values=both)
    cluster.nodes = {"hw-1": ON_HARDWARE | {OWN_LABEL: ""}}
    assert upgrade(*HARDWARE, values=both) == ALLOWED


def test_a_simulated_node_is_told_the_label_of_simulation(refusal, values_file):
    told = refusal(LOSES, BOTH_NODES, BESIDE, BESIDE, values=values_file(FAKE_SELECTOR))
    assert "kubectl label node sim-1 example.com/fake=yes" in told
    assert f"kubectl label node sim-1 {SIMULATED_LABEL}-" in told
    assert "hw-1" not in told


def test_terms_for_hardware_say_nothing_of_simulated_nodes(refusal, values_file, aks):
    nodes, fake = {"aks-1": ON_AKS, "sim-1": TO_SIMULATE}, values_file(FAKE_SELECTOR)
    told = refusal(LOSES, nodes, BESIDE, BESIDE, had=aks, values=aks, more=("--values", fake))
    assert "kubectl label node sim-1 example.com/fake=yes" in told


def test_a_simulated_node_that_would_become_hardware_is_not_told_to_be_both(cluster, refusal, upgrade, values_file):
    before = values_file({"simulated": {"nodeSelector": {SIMULATED_LABEL: None, NFD_LABEL: "true"}}})
    told = refusal(CHANGES, {"node-1": ON_HARDWARE}, SIMULATED, BESIDE, had=before)
    assert "node-1" in told
    assert f"kubectl -n {SYSTEM} delete daemonset {PLUGIN}" in told
    assert "kubectl label" not in told
    # Without hardware beside it, it simulates on.
    assert f"kubectl label node node-1 {SIMULATED_LABEL}=true" in upgrade(*SIMULATED)[1]
    cluster.daemon_sets = {}
    assert upgrade(*BESIDE) == ALLOWED


@pytest.mark.parametrize(("before", "suffix"), [(SIMULATED, ""), (BESIDE, "-simulated")])
def test_the_end_of_simulation_is_refused_while_nodes_simulate(cluster, refusal, upgrade, before, suffix):
    told = refusal(LOSES, BOTH_NODES, before, HARDWARE)
    assert "sim-1" in told
    assert "--set simulated.enabled=true" in told
    assert ("--set simulated.besideHardware=true" in told) is (before == BESIDE)
    assert f"kubectl -n {SYSTEM} delete daemonset {PLUGIN}{suffix}\n" in told
    assert "kubectl label" not in told
    assert "hw-1" not in told
    del cluster.daemon_sets[f"{PLUGIN}{suffix}"]
    assert upgrade(*HARDWARE) == ALLOWED


# Simulation in place of hardware.


@pytest.mark.parametrize("before", [HARDWARE, BESIDE])
def test_hardware_with_a_label_is_not_replaced_by_simulation(cluster, refusal, upgrade, before):
    told = refusal(HARDWARE_TOO, dict(BOTH_NODES), before, SIMULATED)
    assert "(hw-1)" in told
    assert "--set simulated.besideHardware=true" in told
    assert f"kubectl label node hw-1 {NFD_LABEL}-" in told
    assert SIMULATED_LABEL not in told
    assert "delete" not in told
    assert upgrade(*BESIDE) == ALLOWED
    cluster.nodes["hw-1"] = {}
    assert upgrade(*SIMULATED) == ALLOWED


def test_a_node_that_runs_the_hardware_plugin_is_hardware_whatever_else_it_is_labelled(cluster, refusal, upgrade):
    cluster.nodes = {"hw-1": ON_HARDWARE | TO_SIMULATE}
    assert upgrade(*SIMULATED) == ALLOWED
    told = refusal(HARDWARE_TOO, cluster.nodes, HARDWARE, SIMULATED)
    assert f"kubectl label node hw-1 {NFD_LABEL}-" in told


def test_a_plugin_that_another_label_chose_is_to_be_deleted(refusal, values_file):
    nodes = {"own-1": {OWN_LABEL: "yes"}, "hw-1": ON_HARDWARE}
    told = refusal(HARDWARE_TOO, nodes, HARDWARE, SIMULATED, had=values_file(OWN_SELECTOR))
    assert "(own-1, hw-1)" in told
    assert f"kubectl label node hw-1 {NFD_LABEL}-" in told
    assert f"kubectl -n {SYSTEM} delete daemonset {PLUGIN}\n" in told


# By terms, whose nodes only the DaemonSet's own count tells.


def test_terms_are_not_given_beside_simulation_alone(cluster, upgrade, aks):
    cluster.nodes = {"sim-1": TO_SIMULATE}
    code, told = upgrade(*SIMULATED, values=aks)
    assert code == "hardware-chosen-and-simulated"
    assert "--set simulated.besideHardware=true" in told
    assert "nodeSelectorTerms=[]" in told
    assert upgrade(*BESIDE, values=aks) == ALLOWED
    none = ("--set-json", "nodeSelectorTerms=[]")
    assert upgrade(*SIMULATED, values=aks, more=none) == ALLOWED


def test_hardware_installed_by_terms_is_not_replaced_by_simulation(cluster, refusal, upgrade, aks):
    told = refusal(HARDWARE_TOO, {"aks-1": ON_AKS}, HARDWARE, SIMULATED, had=aks)
    assert "--set simulated.besideHardware=true" in told
    assert f"kubectl -n {SYSTEM} delete daemonset {PLUGIN}\n" in told
    assert "kubectl label" not in told
    assert upgrade(*BESIDE, values=aks) == ALLOWED
    cluster.daemon_sets[PLUGIN]["status"]["desiredNumberScheduled"] = 0
    assert upgrade(*SIMULATED) == ALLOWED
    cluster.daemon_sets = {}
    assert upgrade(*SIMULATED) == ALLOWED


@pytest.mark.parametrize("settings", [HARDWARE, BESIDE])
def test_terms_that_are_forgotten(cluster, refusal, upgrade, aks, settings):
    told = refusal(LOSES, {"aks-1": ON_AKS}, HARDWARE, settings, had=aks)
    assert "values-aks.yaml" in told
    assert "kubectl label" not in told
    assert upgrade(*settings, values=aks) == ALLOWED
    cluster.daemon_sets[PLUGIN]["status"]["desiredNumberScheduled"] = 0
    assert upgrade(*settings) == ALLOWED


def test_other_terms_are_taken_at_their_word(cluster, installed, upgrade, aks, values_file):
    cluster.nodes = {"aks-1": ON_AKS}
    installed(*HARDWARE, values=aks)
    other = values_file({"nodeSelectorTerms": [{"matchExpressions": [{"key": "pool", "operator": "Exists"}]}]})
    assert upgrade(*HARDWARE, values=other) == ALLOWED
    assert upgrade(*BESIDE, values=other) == ALLOWED
