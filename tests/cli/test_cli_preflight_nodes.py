"""Preflight: who offers EPC on the nodes already, which have hardware, and can they run the daemons."""

import pytest
import yaml

from confcom.addon.cluster.helm import chart_folder
from confcom.errors import ExitCode
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import EPC

TOLERATE_IT = "--set tolerations[0].key=ToBeDeletedByClusterAutoscaler --set tolerations[0].operator=Exists"
LABEL_A_NODE = (
    "do:  kubectl label node NODE confcom.internal/simulated-sgx=true; or have it done: --simulated-node NODE; for "
    "nodes that come later: --allow-no-nodes"
)
(AKS_TERM,) = yaml.safe_load((chart_folder() / "values-aks.yaml").read_text())["nodeSelectorTerms"]
((AKS_LABEL, AKS_SIZES),) = [(one["key"], one["values"]) for one in AKS_TERM["matchExpressions"]]


def test_another_device_plugin(refused, cluster):
    other = make.daemon_set("x", namespace="kube-system", image="docker.io/intel/intel-sgx-plugin:0.32.0")
    other["metadata"] |= {"name": "intel-sgx-plugin", "labels": {}}
    cluster.objects.append(other)
    told = refused("--simulated")
    assert told[0] == (
        "FAILED   resource names      another SGX device plugin runs on a: the DaemonSet kube-system/intel-sgx-plugin"
    )
    assert "kubectl delete daemonset -n kube-system intel-sgx-plugin" in told[2]


def test_another_device_plugin_elsewhere_is_no_obstacle(confcom, cluster):
    other = make.daemon_set("x", make.HARDWARE, namespace="kube-system", image="intel/intel-sgx-plugin:0.32.0")
    other["metadata"]["labels"] = {}
    cluster.objects.append(other)
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK


def test_resources_that_somebody_offers_already(refused, cluster):
    for part in ("capacity", "allocatable"):
        cluster.node("a")["status"][part][EPC] = "28"
    told = refused("--simulated")
    assert told[0] == f"FAILED   resource names      a offers {EPC} already"
    assert "spec.nodeName=a" in told[2]


@pytest.mark.parametrize("capacity", ["0", "162"])
def test_what_no_pod_can_have_is_what_an_earlier_installation_left(confcom, cluster, capacity):
    cluster.node("a")["status"]["capacity"][EPC] = capacity
    cluster.node("a")["status"]["allocatable"][EPC] = "0"
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK


def test_extended_resources_of_node_feature_discovery(refused, cluster):
    annotation = {"nfd.node.kubernetes.io/extended-resources": "sgx.intel.com/enclave, example.com/x"}
    cluster.node("a")["metadata"]["annotations"] = annotation
    told = refused("--simulated")
    assert told[0] == "FAILED   resource names      Node Feature Discovery offers sgx.intel.com/enclave on a"
    assert "extendedResources" in told[2]


def test_todays_name_for_the_same_memory_is_a_warning(confcom, cluster):
    annotation = {"nfd.node.kubernetes.io/extended-resources": "sgx.intel.com/epc"}
    cluster.node("a")["metadata"]["annotations"] = annotation
    done = confcom("enable", "--simulated")
    assert done.exit_code == ExitCode.OK
    assert "warning  resource names      Node Feature Discovery offers sgx.intel.com/epc on a" in done.stderr


def test_hardware_beside_simulated_nodes_needs_consent(refused, confcom, cluster):
    cluster.objects.append(make.node("metal", make.HARDWARE))
    assert refused("--simulated") == [
        "FAILED   simulation          this cluster has SGX hardware too: metal",
        "why: a workload could land on a simulated node unawares",
        "do:  add --beside-hardware: simulated nodes then offer simulated.confcom.internal/... instead",
    ]
    assert confcom("enable", "--simulated", "--beside-hardware", "--dry-run").exit_code == ExitCode.OK


@pytest.mark.parametrize("size", AKS_SIZES)
def test_azures_sizes_with_sgx_are_hardware_too(refused, cluster, size):
    cluster.objects.append(make.node("aks", {AKS_LABEL: size}))
    assert refused("--simulated")[0].endswith("this cluster has SGX hardware too: aks")


def test_a_node_that_another_vendors_plugin_serves_is_hardware_too(refused, confcom, cluster):
    vendors = {"sgx.intel.com/enclave": "110", "sgx.intel.com/provision": "110"}
    cluster.objects.append(make.node("vendor", resources=vendors))
    assert refused("--simulated")[0].endswith("this cluster has SGX hardware too: vendor")
    done = confcom("enable", "--simulated", "--beside-hardware", "--dry-run")
    assert done.exit_code == ExitCode.OK
    assert "ok       simulation          beside hardware" in done.stderr


def test_a_node_that_pretended_until_now_is_no_hardware(confcom, cluster):
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    elsewhere = {"example.com/sgx": "yes"}
    cluster.node("b")["metadata"]["labels"].update(elsewhere)
    cluster.chart = lambda _: [make.daemon_set("device-plugin", elsewhere)]
    done = confcom("update", "--dry-run")
    assert done.exit_code == ExitCode.OK, done.stderr
    assert "ok       simulation          no node has SGX hardware" in done.stderr


def test_a_node_cannot_be_both(refused, cluster):
    cluster.objects.append(make.node("metal", make.HARDWARE | make.SIMULATED))
    told = refused("--simulated", "--beside-hardware")
    assert told[0] == "FAILED   simulation          metal has SGX hardware, and is to simulate it"
    assert told[2] == "do:  take the label off: kubectl label node metal confcom.internal/simulated-sgx-"


def test_no_node_is_labelled(refused, cluster):
    cluster.node("a")["metadata"]["labels"] = {}
    assert refused("--simulated") == [
        "FAILED   SGX nodes           no node for the daemons",
        "why: none is labelled confcom.internal/simulated-sgx=true",
        LABEL_A_NODE,
    ]


def test_no_node_has_hardware(refused):
    told = refused("--no-quote-helper")
    assert told[1] == "why: none is labelled feature.node.kubernetes.io/cpu-security.sgx.enabled=true"
    assert "without SGX hardware: --simulated" in told[2]


def test_nodes_may_come_later(confcom, cluster):
    cluster.node("a")["metadata"]["labels"] = {}
    done = confcom("enable", "--simulated", "--allow-no-nodes")
    assert done.exit_code == ExitCode.OK
    assert "warning  SGX nodes           no node has SGX yet" in done.stderr


def test_a_node_that_is_not_there(refused):
    assert refused("--simulated-node", "c")[0] == "FAILED   SGX nodes           there is no node c"


def test_a_tainted_node(refused, cluster):
    cluster.node("a")["spec"]["taints"] = [{"key": "sgx", "value": "only", "effect": "NoSchedule"}]
    assert refused("--simulated") == [
        "FAILED   SGX nodes           a is tainted sgx=only:NoSchedule",
        "why: the daemons do not tolerate that, and would not run there",
        "do:  --set tolerations[0].key=sgx --set tolerations[0].operator=Exists",
    ]


def test_a_node_that_is_tainted_later_is_a_warning_to_an_update(confcom, cluster):
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    cluster.node("a")["spec"]["taints"] = [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]
    done = confcom("update", "--set", "logLevel=debug", "--dry-run")
    assert done.exit_code == ExitCode.OK, done.stderr
    told = [line.strip() for line in done.stderr.splitlines()]
    at = told.index("warning  SGX nodes           a is tainted ToBeDeletedByClusterAutoscaler=:NoSchedule")
    assert told[at + 1 : at + 3] == [
        "why: the daemons do not tolerate that: none starts there, and a change ends those that run",
        f"do:  they start when the taint has gone; if it is to stay: {TOLERATE_IT}",
    ]
    cluster.objects.append(make.node("c", make.SIMULATED, taints=[{"key": "new", "effect": "NoSchedule"}]))
    assert confcom("update", "--dry-run").exit_code == ExitCode.OK


def test_a_node_that_is_not_ready_is_a_warning(confcom, cluster):
    cluster.objects.append(make.node("c", make.SIMULATED, ready=False))
    done = confcom("enable", "--simulated", "--dry-run")
    assert done.exit_code == ExitCode.OK
    assert "warning  SGX nodes           c is not Ready" in done.stderr
    assert "do:  its daemons start when it is\n" in done.stderr


def test_an_update_is_told_which_node_it_will_wait_for(confcom, cluster):
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    cluster.node("a")["status"]["conditions"][0]["status"] = "Unknown"
    cluster.lasting = True
    done = confcom("update", "--version", "0.2.0", "--timeout", "30")
    assert done.exit_code == ExitCode.NOT_READY
    warning, _, error = done.stderr.partition("Error: ")
    assert "a is not Ready" in warning
    assert (
        "do:  its daemons are changed when it is, and waited for until then; the other nodes' are changed now"
        in warning
    )
    assert "why: a: device plugin waits: its node is not Ready; a: quote helper waits: its node is not Ready" in error
    assert (
        "do:  bring a back, which goes on by itself then, or take it out of the cluster (kubectl delete node a)"
        in error
    )


def test_a_node_that_both_platforms_choose(refused, cluster):
    own = {"example.com/sgx": "yes"}
    chart = cluster.chart

    def with_own_label(values):
        made = chart(values)
        for one in made:
            if (one["kind"], one["metadata"]["name"]) == ("DaemonSet", "confcom-device-plugin"):
                one["spec"]["template"]["spec"]["nodeSelector"] = own
        return made

    cluster.chart = with_own_label
    cluster.objects.append(make.node("c", make.SIMULATED | own))
    assert refused("--simulated", "--beside-hardware") == [
        "FAILED   simulation          c is chosen for hardware, and to simulate it",
        "why: it has the labels of both, and two plugins would offer EPC on it",
        "do:  take one off, as in: kubectl label node c confcom.internal/simulated-sgx-",
    ]


def test_a_windows_node(refused, cluster):
    cluster.objects.append(make.node("w", make.SIMULATED | {"kubernetes.io/os": "windows"}))
    assert refused("--simulated")[0] == "FAILED   SGX nodes           w runs windows"
