"""What a person sees when a check before `confcom enable` fails: nothing is changed, and it says why and what to do."""

import pytest
import yaml
from fake_cluster import objects as make
from fake_cluster.cluster import default_chart
from fake_cluster.objects import EPC, SYSTEM

from confcom.addon.helm import chart_folder
from confcom.errors import ExitCode

DENIED = (
    "why: not allowed: create validatingadmissionpolicies.admissionregistration.k8s.io; "
    "create daemonsets.apps in confcom-system"
)
ONLY_PRIVILEGED = (
    "why: the daemons need host directories, and the quote helper the node's process IDs: only the level privileged "
    "allows that"
)
RELABEL = (
    "do:  kubectl label namespace confcom-system pod-security.kubernetes.io/enforce=privileged --overwrite; or name "
    "another one with --namespace"
)
UNKNOWN_PODS = "it is not known whether the namespace confcom-system takes the daemons' Pods"
CREATING = 'Error from server (Forbidden): error when creating "STDIN":'
TOLERATE_IT = "--set tolerations[0].key=ToBeDeletedByClusterAutoscaler --set tolerations[0].operator=Exists"
LABEL_A_NODE = (
    "do:  kubectl label node NODE confcom.internal/simulated-sgx=true; or have it done: --simulated-node NODE; for "
    "nodes that come later: --allow-no-nodes"
)


@pytest.fixture
def refused(confcom, cluster):
    """Enables, and gives what was told about the check that failed."""

    def call(*arguments, code=ExitCode.REFUSED):
        done = confcom("enable", *arguments)
        assert done.exit_code == code, done.output
        assert "Error: nothing was changed" in done.stderr
        assert not cluster.revisions
        assert not cluster.find("DaemonSet", namespace=SYSTEM)
        lines = done.stderr.splitlines()
        at = next(index for index, line in enumerate(lines) if line.startswith("  FAILED"))
        return [line.strip() for line in lines[at : at + 3]]

    return call


def test_all_is_well(confcom):
    done = confcom("enable", "--simulated", "--dry-run")
    assert done.exit_code == ExitCode.OK
    checked = [line.split()[0] for line in done.stderr.splitlines()[1:11]]
    assert checked == ["ok"] * 10


def test_no_helm(refused, cluster):
    cluster.missing = {"helm"}
    assert refused("--simulated", code=ExitCode.UNAVAILABLE) == [
        "FAILED   helm                the chart cannot be installed",
        "why: there is no helm on PATH",
        "do:  install helm; https://helm.sh/docs/intro/install/",
    ]


def test_an_old_helm(refused, cluster):
    cluster.helm_version = "v2.17.0"
    assert refused("--simulated") == [
        "FAILED   helm                helm v2.17.0 is not supported",
        "why: the chart is tried with helm 4 and 3",
        "do:  install helm 4",
    ]


@pytest.mark.parametrize("version", ["v3.12.3+g3a31588", "v3.2.4"])
def test_a_helm_3_without_dry_runs_on_the_server(refused, cluster, version):
    cluster.helm_version = version
    assert refused("--simulated") == [
        f"FAILED   helm                helm {version} is too old",
        "why: --dry-run=server, by which the chart is checked before anything is changed, came with helm 3.13",
        "do:  install helm 4, or 3.13 or newer of helm 3",
    ]
    assert [line for line in cluster.calls if line[0] == "helm"] == [["helm", "version", "--short"]]


@pytest.mark.parametrize("version", ["v3.13.0+g825e86f", "v3.22.0+g0a3b"])
def test_helm_3_is_accepted(confcom, cluster, version):
    cluster.helm_version = version
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK


def test_no_kubectl(refused, cluster):
    cluster.missing = {"kubectl"}
    assert refused("--simulated", code=ExitCode.UNAVAILABLE)[1] == "why: there is no kubectl on PATH"


def test_the_api_server_does_not_answer(refused, cluster):
    cluster.away = True
    assert refused("--simulated", code=ExitCode.UNAVAILABLE) == [
        "FAILED   API server          the API server cannot be reached",
        "why: The connection to the server 10.0.0.1:6443 was refused",
        "do:  try by hand: kubectl version --output=json --request-timeout=20s",
    ]


def test_an_old_kubernetes(refused, cluster):
    cluster.kubernetes = "v1.29.4"
    assert refused("--simulated") == [
        "FAILED   Kubernetes version  Kubernetes v1.29.4 is too old",
        "why: ValidatingAdmissionPolicy is served from 1.30 on",
        "do:  upgrade the cluster; 1.34 to 1.37 are tried",
    ]


@pytest.mark.parametrize("version", ["v1.30.0", "v1.38.0-rc.1"])
def test_a_kubernetes_that_is_not_tried_is_a_warning(confcom, cluster, version):
    cluster.kubernetes = version
    done = confcom("enable", "--simulated")
    assert done.exit_code == ExitCode.OK
    assert f"warning  Kubernetes version  {version} is not tried" in done.stderr


def test_the_chart_refuses_the_values(refused):
    assert refused(code=ExitCode.USAGE) == [
        "FAILED   chart and values    the chart refuses these values: simulated.enabled is false",
        "why: it quotes by a simulated platform only",
        "do:  add --set simulated.enabled=true; or stop",
    ]


def test_permissions(refused, cluster):
    cluster.denied = {"create daemonsets", "create validatingadmissionpolicies"}
    assert refused("--simulated") == [
        "FAILED   permissions         this user may not do everything that is needed",
        DENIED,
        "do:  ask a cluster administrator for these permissions, or to run this command",
    ]


def test_who_may_not_read_is_told_what_the_api_server_says(refused, cluster):
    cluster.denied = {"list secrets", "list nodes", "create daemonsets"}
    assert "secrets is forbidden" in refused("--simulated", code=ExitCode.UNAVAILABLE)[1]


def test_who_may_not_look_up_the_release_is_told_of_all_permissions_at_once(confcom, cluster):
    cluster.denied = {"list secrets", "create daemonsets"}
    missing = "list secrets in confcom-system; create daemonsets.apps in confcom-system"
    assert missing in confcom("enable", "--simulated").stderr


def test_who_may_not_clean_nodes_is_warned(confcom, cluster):
    cluster.denied = {"patch nodes/status"}
    done = confcom("enable", "--simulated")
    assert done.exit_code == ExitCode.OK
    assert "warning  permissions         this user could not disable the add-on without leftovers" in done.stderr


def test_another_installation(refused, cluster):
    cluster.objects.append(make.daemon_set("device-plugin", namespace="sgx"))
    assert refused("--simulated") == [
        "FAILED   installation        the add-on is installed in the namespace sgx already, as the release confcom",
        "why: two of them would offer the same EPC twice, and take it from the nodes when either ends",
        "do:  use that one (--namespace sgx), or remove it first: helm uninstall confcom --namespace sgx",
    ]


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_the_namespaces_pod_security_level(refused, cluster, level):
    labels = {"pod-security.kubernetes.io/enforce": level}
    cluster.objects.append({"kind": "Namespace", "metadata": {"name": SYSTEM, "labels": labels}})
    assert refused("--simulated") == [
        f"FAILED   Pod Security        the namespace confcom-system enforces the Pod Security level {level}",
        ONLY_PRIVILEGED,
        RELABEL,
    ]


def test_another_policy_refuses_the_daemons_pods(refused, cluster):
    cluster.objects.append({"kind": "Namespace", "metadata": {"name": SYSTEM}})
    cluster.pod_refusal = f'{CREATING} admission webhook "x" denied the request: no hostPath'
    told = refused("--simulated")
    assert told[0].endswith("the API server refuses the Pods of confcom-device-plugin in the namespace confcom-system")
    assert told[1].endswith('admission webhook "x" denied the request: no hostPath')


def pod_security(done):
    """What is told of that check."""
    lines = done.stderr.splitlines()
    at = next(index for index, line in enumerate(lines) if " Pod Security " in line)
    return [line.strip() for line in lines[at : at + 3]]


@pytest.mark.parametrize(
    "said",
    [
        "Unable to connect to the server: context deadline exceeded",
        f'{CREATING} pods "p" is forbidden: error looking up service account x/default: it was not found',
        f'{CREATING} pods is forbidden: User "eve" cannot create resource "pods" in API group "" in the namespace "x"',
        f'{CREATING} Internal error occurred: failed calling webhook "x": no endpoints available',
    ],
)
def test_no_answer_about_the_daemons_pods_is_no_refusal(confcom, cluster, said):
    cluster.objects.append({"kind": "Namespace", "metadata": {"name": SYSTEM}})
    cluster.pod_refusal = said
    done = confcom("enable", "--simulated")
    assert done.exit_code == ExitCode.OK, done.stderr
    assert pod_security(done) == [
        f"warning  Pod Security        {UNKNOWN_PODS}",
        f"why: {said}",
        "do:  if it does not, `confcom enable` and `confcom status` say what refuses them",
    ]


def test_who_may_not_create_pods_cannot_try_one(confcom, cluster):
    cluster.objects.append({"kind": "Namespace", "metadata": {"name": SYSTEM}})
    cluster.denied = {"create pods"}
    done = confcom("enable", "--simulated")
    assert done.exit_code == ExitCode.OK, done.stderr
    assert "ok       permissions         everything needed is allowed" in done.stderr
    assert pod_security(done)[:2] == [
        f"warning  Pod Security        {UNKNOWN_PODS}",
        "why: not allowed: create pods in confcom-system, by which it is tried; none would be created",
    ]
    assert not [line for line in cluster.calls if "--dry-run=server" in line and line[0] == "kubectl"]


def test_a_namespace_that_cannot_be_read_is_not_one_that_is_not_there(refused, cluster):
    cluster.objects.append({"kind": "Namespace", "metadata": {"name": SYSTEM}})
    cluster.denied = {"get namespaces"}
    assert refused("--simulated-node", "b", code=ExitCode.REFUSED)[1] == (
        "why: not allowed: get namespaces in confcom-system"
    )
    assert "confcom.internal/simulated-sgx" not in cluster.node("b")["metadata"]["labels"]


def test_what_the_api_server_says_of_a_namespace_is_told(confcom, cluster):
    cluster.denied = {"get namespaces"}
    told = pod_security(confcom("enable", "--simulated"))
    assert told[0] == "FAILED   Pod Security        the namespace confcom-system cannot be read"
    assert "namespaces is forbidden" in told[1]


@pytest.mark.parametrize(
    "needed", ["list events", "list controllerrevisions", "get daemonsets", "watch jobs", "list roles", "get secrets"]
)
def test_what_the_wait_and_helm_need_is_asked_too(refused, cluster, needed):
    hook = make.failed_hook("confcom-simulated-root-1", "", "")
    hook["metadata"]["annotations"] = {"helm.sh/hook": "pre-install"}
    role = hook | {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}
    cluster.chart = lambda values: [*default_chart(values), hook, role]
    cluster.denied = {needed}
    assert f"not allowed: {needed}" in refused("--simulated")[1]


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


(AKS_TERM,) = yaml.safe_load((chart_folder() / "values-aks.yaml").read_text())["nodeSelectorTerms"]
((AKS_LABEL, AKS_SIZES),) = [(one["key"], one["values"]) for one in AKS_TERM["matchExpressions"]]


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


def test_a_windows_node(refused, cluster):
    cluster.objects.append(make.node("w", make.SIMULATED | {"kubernetes.io/os": "windows"}))
    assert refused("--simulated")[0] == "FAILED   SGX nodes           w runs windows"


def test_an_update_is_checked_too(confcom, cluster):
    assert confcom("enable", "--simulated").exit_code == ExitCode.OK
    cluster.denied = {"patch daemonsets"}
    done = confcom("update", "--set", "logLevel=debug")
    assert done.exit_code == ExitCode.REFUSED
    assert "not allowed: patch daemonsets.apps" in done.stderr
    assert len(cluster.revisions) == 1
