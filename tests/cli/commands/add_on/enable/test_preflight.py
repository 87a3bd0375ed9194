"""Checks before `confcom enable`: one that fails changes nothing, and its finding has a code, a reason and a remedy."""

import pytest

from confcom.addon.model.chart_objects import EPC_NAMES_POLICY
from confcom.errors import ExitCode
from testkit.cli_output import finding_of, findings_of
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import ENCLAVE, EPC, SYSTEM


def test_all_is_well(confcom):
    assert confcom.findings("enable", "--simulated", "--dry-run") == {
        "helm": ("ok", "helm-supported"),
        "API server": ("ok", "api-server-answers"),
        "Kubernetes version": ("ok", "kubernetes-supported"),
        "chart and values": ("ok", "values-accepted"),
        "permissions": ("ok", "permissions-granted"),
        "installation": ("ok", "not-installed"),
        "Pod Security": ("ok", "namespace-will-be-created"),
        "resource names": ("ok", "resources-free"),
        "simulation": ("ok", "no-hardware-in-cluster"),
        "SGX nodes": ("ok", "nodes-found"),
    }


def sets(**more):
    """Sets these fields of the cluster."""
    return lambda cluster: [setattr(cluster, name, value) for name, value in more.items()]


def adds(*objects):
    return lambda cluster: cluster.objects.extend(objects)


def labels(node, labels):
    return lambda cluster: cluster.node(node)["metadata"].update(labels=labels)


def annotates(names):
    return lambda cluster: cluster.node("a")["metadata"]["annotations"].update(
        {"nfd.node.kubernetes.io/extended-resources": names}
    )


def offers(node, resource, capacity, allocatable=None):
    def change(cluster):
        status = cluster.node(node)["status"]
        status["capacity"][resource], status["allocatable"][resource] = capacity, allocatable or capacity

    return change


def taints(cluster):
    cluster.node("a")["spec"]["taints"] = [{"key": "sgx", "value": "only", "effect": "NoSchedule"}]


def other_plugin(selector=make.SIMULATED):
    other = make.daemon_set("x", selector, namespace="kube-system", image="docker.io/intel/intel-sgx-plugin:0.32.0")
    other["metadata"] |= {"name": "intel-sgx-plugin", "labels": {}}
    return other


def running_plugin(namespace, *, volumes=True, scheduled=1):
    directory = {"name": "device-plugins", "hostPath": {"path": "/var/lib/kubelet/device-plugins"}}
    made = make.daemon_set("device-plugin", namespace=namespace, volumes=[directory] if volumes else [])
    return made | {"status": {"currentNumberScheduled": scheduled}}


SIMULATED, BESIDE = ("--simulated",), ("--simulated", "--beside-hardware")
POLICIES = {"create daemonsets", "create validatingadmissionpolicies"}
POLICIES_TOLD = f"create validatingadmissionpolicies.admissionregistration.k8s.io; create daemonsets.apps in {SYSTEM}"
WINDOWS = make.node("w", make.SIMULATED | {"kubernetes.io/os": "windows"})
BOTH = make.node("both", make.HARDWARE | make.SIMULATED)
REFUSALS = [
    (sets(missing={"helm"}), SIMULATED, "helm", "program-not-found", "helm"),
    (sets(missing={"kubectl"}), SIMULATED, "API server", "program-not-found", "kubectl"),
    (sets(helm_version="v3.22.0+g0a3b"), SIMULATED, "helm", "helm-too-old", "v3.22.0"),
    (sets(away=True), SIMULATED, "API server", "cluster-request-failed", "kubectl version --output=json"),
    (sets(kubernetes="v1.29.4"), SIMULATED, "Kubernetes version", "kubernetes-too-old", "v1.29.4"),
    (sets(), (), "chart and values", "aesmd-image-missing", "--set simulated.enabled=true"),
    (sets(denied=POLICIES), SIMULATED, "permissions", "permissions-missing", POLICIES_TOLD),
    (
        adds(running_plugin("sgx")),
        SIMULATED,
        "installation",
        "installed-elsewhere",
        "confcom --namespace sgx",
    ),
    (adds(other_plugin()), SIMULATED, "resource names", "other-device-plugin", "-n kube-system intel-sgx-plugin"),
    (offers("a", EPC, "28"), SIMULATED, "resource names", "resource-offered-already", "spec.nodeName=a"),
    (annotates(f"{ENCLAVE}, example.com/x"), SIMULATED, "resource names", "nfd-offers-resource", ENCLAVE),
    (adds(make.node("m", make.HARDWARE)), SIMULATED, "simulation", "hardware-in-cluster", "--beside-hardware"),
    (adds(BOTH), BESIDE, "simulation", "hardware-node-simulated", "label node both confcom.internal/simulated-sgx-"),
    (labels("a", {}), SIMULATED, "SGX nodes", "no-nodes", "confcom.internal/simulated-sgx=true"),
    (sets(), ("--no-quote-helper",), "SGX nodes", "no-nodes", "node.kubernetes.io/cpu-security.sgx.enabled=true"),
    (sets(), ("--simulated-node", "missing"), "SGX nodes", "node-not-found", " missing"),
    (
        taints,
        SIMULATED,
        "SGX nodes",
        "node-tainted",
        "--set tolerations[0].key=sgx --set tolerations[0]",
    ),
    (adds(WINDOWS), SIMULATED, "SGX nodes", "node-not-linux", "windows"),
]
EXIT_CODES = {
    "program-not-found": ExitCode.UNAVAILABLE,
    "cluster-request-failed": ExitCode.UNAVAILABLE,
    "aesmd-image-missing": ExitCode.USAGE,
}
"""The others are refusals."""


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: row[3])
def test_one_check_refuses(refused, cluster, row):
    change, arguments, check, code, told = row
    change(cluster)
    found = refused(*arguments, check=check, code=code, exit_code=EXIT_CODES.get(code, ExitCode.REFUSED))
    assert told in " ".join((found["what"], found["why"], found["do"]))


def test_an_old_helm_is_asked_for_nothing_else(confcom, cluster):
    """What depends on a check that failed is skipped."""
    cluster.helm_version = "v3.22.0"
    found = confcom.findings("enable", "--simulated", exit_code=ExitCode.REFUSED)
    assert len(found) == 10
    assert found["SGX nodes"] == ("skipped", "not-checked")
    assert [line for line in cluster.calls if line[0] == "helm"] == [["helm", "version", "--short"]]


NOTES = [
    (sets(helm_version="v4.0.0+g99cd196"), SIMULATED, "helm", ("ok", "helm-supported")),
    (sets(kubernetes="v1.30.0"), SIMULATED, "Kubernetes version", ("warning", "kubernetes-not-tested")),
    (sets(kubernetes="v1.38.0-rc.1"), SIMULATED, "Kubernetes version", ("warning", "kubernetes-not-tested")),
    (sets(denied={"patch nodes/status"}), SIMULATED, "permissions", ("warning", "cleaning-not-permitted")),
    (adds(other_plugin(make.HARDWARE)), SIMULATED, "resource names", ("ok", "resources-free")),
    (offers("a", EPC, "162", "0"), SIMULATED, "resource names", ("ok", "resources-free")),
    (offers("a", EPC, "0"), SIMULATED, "resource names", ("ok", "resources-free")),
    (sets(kubernetes="v1.35.4"), SIMULATED, "resource names", ("ok", "epc-names-not-replaced")),
    (labels("a", {}), (*SIMULATED, "--allow-no-nodes"), "SGX nodes", ("warning", "no-nodes")),
    (adds(make.node("m", make.HARDWARE)), (*BESIDE, "--dry-run"), "simulation", ("ok", "simulation-beside-hardware")),
]


@pytest.mark.parametrize("row", NOTES, ids=lambda row: row[3][1])
def test_a_check_passes_or_warns(confcom, cluster, row):
    change, arguments, check, found = row
    change(cluster)
    document = confcom.document("enable", *arguments)
    assert findings_of(document)[check] == found
    assert bool(document.get("warnings")) is (found[0] == "warning")


def test_permissions_are_told_all_at_once(confcom, cluster):
    cluster.denied = {"list secrets", "list nodes", "create daemonsets"}
    document = confcom.document("enable", "--simulated", exit_code=ExitCode.UNAVAILABLE)
    found = finding_of(document, "permissions")
    assert (found["outcome"], found["code"]) == ("failed", "permissions-missing")
    assert f"list secrets in {SYSTEM}; create daemonsets.apps in {SYSTEM}" in found["why"]
    for check, kind in (("chart and values", "secrets"), ("SGX nodes", "nodes")):
        found = finding_of(document, check)
        assert found["outcome"] == "failed"
        assert f"{kind} is forbidden" in found["why"]


@pytest.mark.parametrize("written", [{"volumes": False}, {"scheduled": 0}], ids=str)
def test_labels_alone_are_no_installation(confcom, cluster, written):
    """A tenant may write a DaemonSet with these labels; its Pods may not mount that directory."""
    cluster.objects.append(running_plugin("team-a", **written))
    document = confcom.document("enable", "--simulated")
    found = [one for one in document["findings"] if one["check"] == "installation"]
    assert [(one["outcome"], one["code"]) for one in found] == [
        ("warning", "labels-of-the-add-on"),
        ("ok", "not-installed"),
    ]


def test_intels_name_of_node_feature_discovery_is_a_warning(confcom, cluster):
    annotates("sgx.intel.com/epc")(cluster)
    document = confcom.document("enable", "--simulated")
    codes = [one["code"] for one in document["findings"] if one["check"] == "resource names"]
    assert codes == ["nfd-offers-epc", "epc-names-of-others"]


@pytest.fixture
def with_intels_plugin(cluster):
    """Another node's device plugin offers EPC by Intel's name."""
    offers("b", "sgx.intel.com/epc", "8Gi")(cluster)
    return cluster


@pytest.mark.parametrize("mutate", ["off", "on"])
def test_pods_for_nodes_of_another_plugin(confcom, with_intels_plugin, mutate):
    """They are left as they are, unless the values say otherwise."""
    more = ("--set", "admission.mutate=on", "--set", "controller.enabled=false") if mutate == "on" else ()
    code = "epc-names-of-others-replaced" if mutate == "on" else "epc-names-of-others"
    assert confcom.findings("enable", "--simulated", *more)["resource names"] == ("warning", code)
    policies = {one["metadata"]["name"] for one in with_intels_plugin.find("MutatingAdmissionPolicy")}
    assert policies == ({EPC_NAMES_POLICY} if mutate == "on" else set())
    assert with_intels_plugin.revisions[-1]["values"]["admission"] == {"mutate": mutate}
    assert confcom.document("enable", "--simulated", *more)["changed"] is False


def test_a_node_that_is_not_ready_is_a_warning(confcom, enabled):
    enabled.node("a")["status"]["conditions"][0]["status"] = "Unknown"
    enabled.lasting = True
    warned = confcom.document("update", "--version", "0.2.0", "--dry-run")["findings"]
    assert [(one["check"], one["code"]) for one in warned if one["outcome"] == "warning"] == [
        ("SGX nodes", "node-not-ready")
    ]
    error = confcom.error(ExitCode.NOT_READY, "daemons-not-ready", "update", "--version", "0.2.0", "--timeout", "30")
    assert error["why"].startswith("a: device plugin ")
    assert "; a: quote helper " in error["why"]
    assert "kubectl delete node a" in error["do"]
