"""Preflight: who offers EPC on the nodes already, which have hardware, and can they run the daemons."""

import pytest
import yaml

from confcom.addon.cluster.helm import chart_folder
from confcom.addon.model.chart_objects import EPC_NAMES_POLICY
from confcom.errors import ExitCode
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import EPC

OWNERS, SIMULATION, NODES = "resource names", "simulation", "SGX nodes"
(AKS_TERM,) = yaml.safe_load((chart_folder() / "values-aks.yaml").read_text())["nodeSelectorTerms"]
((AKS_LABEL, AKS_SIZES),) = [(one["key"], one["values"]) for one in AKS_TERM["matchExpressions"]]


def test_another_device_plugin(refused, cluster):
    other = make.daemon_set("x", namespace="kube-system", image="docker.io/intel/intel-sgx-plugin:0.32.0")
    other["metadata"] |= {"name": "intel-sgx-plugin", "labels": {}}
    cluster.objects.append(other)
    remedy = "kubectl delete daemonset -n kube-system intel-sgx-plugin"
    refused("--simulated", check=OWNERS, code="other-device-plugin", what="kube-system/intel-sgx-plugin", do=remedy)


def test_another_device_plugin_elsewhere_is_no_obstacle(confcom, cluster):
    other = make.daemon_set("x", make.HARDWARE, namespace="kube-system", image="intel/intel-sgx-plugin:0.32.0")
    other["metadata"]["labels"] = {}
    cluster.objects.append(other)
    confcom.ok("enable", "--simulated")


def test_resources_that_somebody_offers_already(refused, cluster):
    for part in ("capacity", "allocatable"):
        cluster.node("a")["status"][part][EPC] = "28"
    refused("--simulated", check=OWNERS, code="resource-offered-already", what=EPC, do="spec.nodeName=a")


@pytest.mark.parametrize("capacity", ["0", "162"])
def test_what_no_pod_can_have_is_what_an_earlier_installation_left(confcom, cluster, capacity):
    cluster.node("a")["status"]["capacity"][EPC] = capacity
    cluster.node("a")["status"]["allocatable"][EPC] = "0"
    confcom.ok("enable", "--simulated")


def test_extended_resources_of_node_feature_discovery(refused, cluster):
    annotation = {"nfd.node.kubernetes.io/extended-resources": "sgx.intel.com/enclave, example.com/x"}
    cluster.node("a")["metadata"]["annotations"] = annotation
    refused("--simulated", check=OWNERS, code="nfd-offers-resource", what="sgx.intel.com/enclave")


def test_todays_name_for_the_same_memory_is_a_warning(confcom, cluster):
    annotation = {"nfd.node.kubernetes.io/extended-resources": "sgx.intel.com/epc"}
    cluster.node("a")["metadata"]["annotations"] = annotation
    document = confcom.document("enable", "--simulated")
    codes = [one["code"] for one in document["findings"] if one["check"] == OWNERS]
    assert codes == ["nfd-offers-epc", "epc-names-of-others"]


@pytest.fixture
def with_intels_plugin(cluster):
    """Another node's device plugin offers EPC by Intel's name."""
    for part in ("capacity", "allocatable"):
        cluster.node("b")["status"][part]["sgx.intel.com/epc"] = "8Gi"
    return cluster


def names_are_replaced(cluster):
    return {one["metadata"]["name"] for one in cluster.find("MutatingAdmissionPolicy")} == {EPC_NAMES_POLICY}


def test_pods_for_nodes_of_another_plugin_are_left_as_they_are(confcom, with_intels_plugin):
    found = confcom.findings("enable", "--simulated")
    assert found[OWNERS] == ("warning", "epc-names-of-others")
    assert not names_are_replaced(with_intels_plugin)
    assert with_intels_plugin.revisions[-1]["values"]["admission"] == {"mutate": "off"}
    assert confcom.document("enable", "--simulated")["changed"] is False


def test_who_says_so_has_pods_changed_beside_another_plugin(confcom, with_intels_plugin):
    found = confcom.findings(
        "enable", "--simulated", "--set", "admission.mutate=on", "--set", "controller.enabled=false"
    )
    assert found[OWNERS] == ("warning", "epc-names-of-others-replaced")
    assert names_are_replaced(with_intels_plugin)


@pytest.mark.parametrize(("kubernetes", "code"), [("v1.35.4", "epc-names-not-replaced"), ("v1.36.3", "resources-free")])
def test_an_older_api_server_cannot_change_pods_and_enable_says_so(confcom, cluster, kubernetes, code):
    cluster.kubernetes = kubernetes
    assert confcom.findings("enable", "--simulated")[OWNERS] == ("ok", code)


@pytest.mark.parametrize(
    "node",
    [
        make.node("metal", make.HARDWARE),
        make.node("vendor", resources={"sgx.intel.com/enclave": "110", "sgx.intel.com/provision": "110"}),
        *(make.node(f"aks-{size}", {AKS_LABEL: size}) for size in AKS_SIZES),
    ],
    ids=lambda node: node["metadata"]["name"],
)
def test_hardware_beside_simulated_nodes_needs_consent(refused, confcom, cluster, node):
    cluster.objects.append(node)
    name = node["metadata"]["name"]
    refused("--simulated", check=SIMULATION, code="hardware-in-cluster", what=name, do="--beside-hardware")
    found = confcom.findings("enable", "--simulated", "--beside-hardware", "--dry-run")
    assert found[SIMULATION] == ("ok", "simulation-beside-hardware")


def test_a_node_that_pretended_until_now_is_no_hardware(confcom, enabled):
    elsewhere = {"example.com/sgx": "yes"}
    enabled.node("b")["metadata"]["labels"].update(elsewhere)
    enabled.chart = lambda _: [make.daemon_set("device-plugin", elsewhere)]
    assert confcom.findings("update", "--dry-run")[SIMULATION] == ("ok", "no-hardware-in-cluster")


def test_a_node_cannot_be_both(refused, cluster):
    cluster.objects.append(make.node("metal", make.HARDWARE | make.SIMULATED))
    remedy = "kubectl label node metal confcom.internal/simulated-sgx-"
    refused("--simulated", "--beside-hardware", check=SIMULATION, code="hardware-node-simulated", do=remedy)


def test_no_node_is_labelled(refused, cluster):
    cluster.node("a")["metadata"]["labels"] = {}
    label = "confcom.internal/simulated-sgx=true"
    remedy = refused("--simulated", check=NODES, code="no-nodes", why=label)["do"]
    assert all(one in remedy for one in (f"kubectl label node NODE {label}", "--simulated-node", "--allow-no-nodes"))


def test_no_node_has_hardware(refused):
    label = "feature.node.kubernetes.io/cpu-security.sgx.enabled=true"
    refused("--no-quote-helper", check=NODES, code="no-nodes", why=label, do="--simulated")


def test_nodes_may_come_later(confcom, cluster):
    cluster.node("a")["metadata"]["labels"] = {}
    assert confcom.findings("enable", "--simulated", "--allow-no-nodes")[NODES] == ("warning", "no-nodes")


def test_a_node_that_is_not_there(refused):
    assert refused("--simulated-node", "missing", check=NODES, code="node-not-found")["what"].endswith(" missing")


def test_a_tainted_node(refused, cluster):
    cluster.node("a")["spec"]["taints"] = [{"key": "sgx", "value": "only", "effect": "NoSchedule"}]
    found = refused("--simulated", check=NODES, code="node-tainted", what="sgx=only:NoSchedule")
    assert found["do"] == "--set tolerations[0].key=sgx --set tolerations[0].operator=Exists"


def test_a_node_that_is_tainted_later_is_a_warning_to_an_update(confcom, enabled):
    enabled.node("a")["spec"]["taints"] = [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]
    document = confcom.document("update", "--set", "logLevel=debug", "--dry-run")
    (found,) = [one for one in document["findings"] if one["outcome"] == "warning"]
    assert (found["check"], found["code"]) == (NODES, "node-tainted")
    assert "ToBeDeletedByClusterAutoscaler=:NoSchedule" in found["what"]
    assert "--set tolerations[0].key=ToBeDeletedByClusterAutoscaler" in found["do"]
    enabled.objects.append(make.node("c", make.SIMULATED, taints=[{"key": "new", "effect": "NoSchedule"}]))
    confcom.ok("update", "--dry-run")


def test_a_node_that_is_not_ready_is_a_warning(confcom, cluster):
    cluster.objects.append(make.node("c", make.SIMULATED, ready=False))
    found = [
        one for one in confcom.document("enable", "--simulated", "--dry-run")["findings"] if one["outcome"] != "ok"
    ]
    assert [(one["check"], one["code"]) for one in found] == [(NODES, "node-not-ready")]


def test_an_update_is_told_which_node_it_waits_for(confcom, enabled):
    enabled.node("a")["status"]["conditions"][0]["status"] = "Unknown"
    enabled.lasting = True
    warned = confcom.document("update", "--version", "0.2.0", "--dry-run")["findings"]
    assert ("node-not-ready", "warning") in [(one["code"], one["outcome"]) for one in warned]
    error = confcom.error(ExitCode.NOT_READY, "daemons-not-ready", "update", "--version", "0.2.0", "--timeout", "30")
    assert error["why"].startswith("a: device plugin ")
    assert "; a: quote helper " in error["why"]
    assert "kubectl delete node a" in error["do"]


def test_a_node_that_both_platforms_choose(refused, cluster):
    own = {"example.com/sgx": "yes"}

    def choose(daemon, _):
        if daemon["metadata"]["name"] == "confcom-device-plugin":
            daemon["spec"]["template"]["spec"]["nodeSelector"] = own

    cluster.change_daemon_sets(choose)
    cluster.objects.append(make.node("c", make.SIMULATED | own))
    remedy = "kubectl label node c confcom.internal/simulated-sgx-"
    refused("--simulated", "--beside-hardware", check=SIMULATION, code="node-chosen-twice", do=remedy)


def test_a_windows_node(refused, cluster):
    cluster.objects.append(make.node("w", make.SIMULATED | {"kubernetes.io/os": "windows"}))
    refused("--simulated", check=NODES, code="node-not-linux", what="windows")
