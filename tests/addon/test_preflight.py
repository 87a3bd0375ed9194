from dataclasses import replace

import pytest

from confcom.addon.api import ClusterAccessError, ForbiddenError, RefusedError
from confcom.addon.chart_objects import EPC_NAMES_POLICY
from confcom.addon.helm import ChartError, Rendering, Values
from confcom.addon.preflight import (
    Check,
    Need,
    Outcome,
    Permission,
    PreflightInputs,
    permissions_needed,
    run_checks,
)
from confcom.addon.tenants import tenant_pod
from confcom.kubernetes.names import INTEL_EPC
from confcom.kubernetes.node import Node
from confcom.kubernetes.workload import Workload
from testkit import cluster_objects as make
from testkit.chart_golden import golden
from testkit.cluster_objects import ENCLAVE, EPC, HARDWARE, SIMULATED, SYSTEM

OWN = {"own": "yes"}
NFD = "nfd.node.kubernetes.io/extended-resources"
NODE, METAL = make.node("n", SIMULATED), make.node("metal", HARDWARE)
PLUGIN, HELPER = make.daemon_set("device-plugin"), make.daemon_set("quote-helper")
HARDWARE_PLUGIN = make.daemon_set("device-plugin", HARDWARE, args=())
POLICY = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy"}
POLICY |= {"metadata": {"name": EPC_NAMES_POLICY}}
TAINTED = make.node("n", SIMULATED, taints=[{"key": "sgx", "value": "only", "effect": "NoSchedule"}])
INPUTS = PreflightInputs(
    SYSTEM,
    Values(),
    helm_version="v4.3.1",
    server_version="v1.36.3",
    rendering=Rendering((PLUGIN, HELPER), {}),
    denied=(),
    has_namespace=True,
    nodes=(Node.parse(NODE),),
)


def plan(*manifests):
    return {"rendering": Rendering(manifests, {})}


def other_plugin(selector=SIMULATED, image="docker.io/intel/intel-sgx-plugin:0.32.0"):
    made = make.daemon_set("x", selector, namespace="kube-system", image=image)
    made["metadata"] |= {"name": "intel-sgx-plugin", "labels": {}}
    return made


def installation(namespace="sgx", path="/var/lib/kubelet/device-plugins"):
    return make.daemon_set("device-plugin", namespace=namespace, volumes=[{"name": "d", "hostPath": {"path": path}}])


def offering(name="n", labels=SIMULATED, **resources):
    node = make.node(name, labels, resources={EPC: 28})
    node["status"]["allocatable"] |= resources
    return node


def findings(changes, check=None):
    """Findings for inputs with these changes; nodes and DaemonSets in `changes` become objects of the API."""
    types = {"nodes": Node, "daemon_sets": Workload}
    given = [name for name in types if changes.get(name) is not None]
    parsed = {name: tuple(map(types[name].parse, changes[name])) for name in given}
    return [one for one in run_checks(replace(INPUTS, **changes | parsed)) if check in {None, one.check}]


def unread(check, error, **empty):
    return {"errors": {check: error}, **empty}


def test_a_cluster_without_faults():
    assert {(one.check, one.outcome) for one in findings({})} == {(check, Outcome.OK) for check in Check}


@pytest.mark.parametrize(
    ("name", "node"), [("simulated", NODE), ("hardware-plugin-only", METAL), ("hardware-aesmd", METAL)]
)
def test_the_charts_objects_are_understood(name, node):
    found = findings(plan(*golden(name).values()) | {"nodes": (node,)})
    assert {one.code for one in found} == {"passed"}


DENIED = (Permission("create", "daemonsets", "apps", SYSTEM), Permission("patch", "nodes/status"))
NO_HELM = ClusterAccessError("helm cannot be run", error_code="program-not-found")
REFUSED, INVALID = (RefusedError("no", why="violates PodSecurity", invalid=invalid) for invalid in (False, True))
AWAY = ClusterAccessError("no", why="timeout")
NFD_ENCLAVE = make.node("n", SIMULATED, annotations={NFD: f"{ENCLAVE}, example.com/x"})
NFD_EPC, INTELS = make.node("b", annotations={NFD: INTEL_EPC}), make.node("b", resources={INTEL_EPC: "8Gi"})
AZURES = make.node("aks", {"node.kubernetes.io/instance-type": "Standard_DC4s_v3"})
BOTH, OWN_NODE = make.node("both", HARDWARE | SIMULATED), make.node("n", OWN | SIMULATED)
OWN_PLUGIN = make.daemon_set("device-plugin", OWN, args=())
OFFERS_ENCLAVES = offering("was", {}, **{ENCLAVE: "5"})
HELM, KUBERNETES, NODES, VALUES, PERMISSIONS, POD_SECURITY, OWNERS, SIMULATION = Check
REWRITES, UNRENDERED = plan(PLUGIN, POLICY), unread(VALUES, ChartError("no"), rendering=None)
COUNTED = {"daemon_sets": (make.daemon_set("device-plugin", args=("--simulated", "--capacity-support=supported")),)}
CASES = [
    # The columns are the change of the inputs, check, outcome, code, and words in the finding.
    (unread(HELM, NO_HELM, helm_version=""), HELM, "FAILED", "program-not-found", "helm"),
    ({"helm_version": "v3.22.0+g0a3b"}, HELM, "FAILED", "version-too-old", "v3.22.0"),
    (unread(KUBERNETES, AWAY, server_version=""), KUBERNETES, "FAILED", "cluster-request-failed", "timeout"),
    ({"server_version": "v1.29.4"}, KUBERNETES, "FAILED", "version-too-old", "v1.29.4"),
    ({"server_version": "v1.38.0-rc.1"}, KUBERNETES, "ok", "passed", "v1.38.0"),
    (UNRENDERED, VALUES, "FAILED", "chart-values-refused", "no"),
    ({"denied": DENIED}, PERMISSIONS, "FAILED", "permissions-missing", f"create daemonsets.apps in {SYSTEM}"),
    (unread(PERMISSIONS, AWAY, denied=None), PERMISSIONS, "FAILED", "cluster-request-failed", "timeout"),
    ({"daemon_sets": (installation(),)}, OWNERS, "FAILED", "other-device-plugin", "--namespace sgx"),
    # A tenant may create a DaemonSet with our labels, but its Pods may not mount the device plugin directory.
    ({"daemon_sets": (installation(path="/x"),)}, OWNERS, "ok", "passed", ""),
    ({"daemon_sets": (installation(SYSTEM),)}, OWNERS, "ok", "passed", ""),
    (unread(OWNERS, AWAY), OWNERS, "FAILED", "cluster-request-failed", "timeout"),
    ({"admission": {"d": REFUSED}}, POD_SECURITY, "FAILED", "object-refused", "enforce=privileged"),
    ({"admission": {"d": INVALID}}, VALUES, "FAILED", "object-invalid", "violates PodSecurity"),
    ({"admission": {"d": AWAY}}, POD_SECURITY, "warning", "admission-unknown", "timeout"),
    ({"has_namespace": False}, POD_SECURITY, "ok", "passed", "will be created"),
    (unread(POD_SECURITY, ForbiddenError("no"), has_namespace=False), POD_SECURITY, "FAILED", "forbidden", "no"),
    (unread(SIMULATION, AWAY), SIMULATION, "FAILED", "cluster-request-failed", "timeout"),
    ({"daemon_sets": (other_plugin(),)}, OWNERS, "FAILED", "other-device-plugin", "intel-sgx-plugin in kube-system"),
    ({"daemon_sets": (other_plugin(HARDWARE),)}, OWNERS, "ok", "passed", ""),
    ({"daemon_sets": (other_plugin(image="sgx-plugin/x"),)}, OWNERS, "ok", "passed", ""),
    ({"nodes": (offering(),)}, OWNERS, "FAILED", "resource-offered-already", EPC),
    ({"nodes": (offering(),), "daemon_sets": (PLUGIN,)}, OWNERS, "ok", "passed", ""),
    ({"nodes": (offering(**{EPC: "0"}),)}, OWNERS, "ok", "passed", ""),
    ({"nodes": (NFD_ENCLAVE,)}, OWNERS, "FAILED", "resource-offered-already", ENCLAVE),
    ({"nodes": (NODE, NFD_EPC)}, OWNERS, "warning", "epc-names-of-others", "left as they are"),
    (REWRITES | {"nodes": (NODE, INTELS)}, OWNERS, "warning", "epc-names-of-others", "--set admission.mutate=off"),
    (REWRITES | {"limit_ranges": ("sgx in team-a",)}, OWNERS, "warning", "limit-range-of-old-name", "sgx in team-a"),
    ({"limit_ranges": ("sgx in team-a",)}, OWNERS, "ok", "passed", ""),
    (plan(HARDWARE_PLUGIN) | {"nodes": (NODE, METAL)}, SIMULATION, "ok", "passed", "not wanted"),
    ({"nodes": (NODE, METAL)}, SIMULATION, "FAILED", "hardware-in-cluster", "--beside-hardware"),
    ({"nodes": (NODE, offering("vendor", {}))}, SIMULATION, "FAILED", "hardware-in-cluster", "vendor"),
    ({"nodes": (NODE, AZURES)}, SIMULATION, "FAILED", "hardware-in-cluster", "aks"),
    (plan(PLUGIN, HARDWARE_PLUGIN) | {"nodes": (NODE, METAL)}, SIMULATION, "ok", "passed", "beside hardware"),
    ({"nodes": (offering(),), "daemon_sets": (PLUGIN,)}, SIMULATION, "ok", "passed", "no node has SGX hardware"),
    ({"nodes": (BOTH,)}, SIMULATION, "FAILED", "node-chosen-twice", "label node both confcom.internal/simulated-sgx-"),
    (plan(PLUGIN, OWN_PLUGIN) | {"nodes": (OWN_NODE,)}, SIMULATION, "FAILED", "node-chosen-twice", "simulated-sgx-"),
    # Amounts from the controller stay on a once simulated node; only a plugin offers the enclave device.
    (COUNTED | {"nodes": (NODE, offering("was", {}))}, SIMULATION, "ok", "passed", "no node has SGX hardware"),
    (COUNTED | {"nodes": (NODE, OFFERS_ENCLAVES)}, SIMULATION, "FAILED", "hardware-in-cluster", "was"),
    ({"nodes": ()}, NODES, "FAILED", "no-nodes", "confcom.internal/simulated-sgx=true"),
    (plan(HARDWARE_PLUGIN), NODES, "FAILED", "no-nodes", "cpu-security.sgx.enabled=true"),
    ({"nodes": (), "allow_no_nodes": True}, NODES, "warning", "no-nodes", "simulated-sgx=true"),
    (UNRENDERED | {"nodes": (make.node("n"),)}, NODES, "FAILED", "no-nodes", "to simulate: --simulated-node"),
    (UNRENDERED | {"nodes": (METAL,)}, NODES, "skipped", "not-checked", ""),
    ({"unknown_nodes": ("missing",)}, NODES, "FAILED", "node-not-found", "missing"),
    (unread(NODES, AWAY, nodes=None), NODES, "FAILED", "cluster-request-failed", "timeout"),
    ({"nodes": (TAINTED,)}, NODES, "FAILED", "node-tainted", "--set tolerations[0].key=sgx"),
    # The taint is there to drain one node, and such a drain does not forbid changes of other nodes.
    ({"nodes": (TAINTED,), "daemon_sets": (PLUGIN,)}, NODES, "warning", "node-tainted", "sgx=only:NoSchedule"),
]


@pytest.mark.parametrize(("changes", "check", "outcome", "code", "words"), CASES)
def test_one_fault(changes, check, outcome, code, words):
    first = findings(changes, check)[0] if outcome == "ok" else None
    found = first or next(one for one in findings(changes, check) if one.code == code)
    assert (found.outcome, found.code) == (outcome, code)
    assert words in f"{found.what} {found.why} {found.remedy}"


def test_checks_that_depend_on_a_failed_one_are_skipped():
    bare = PreflightInputs(SYSTEM, Values(), helm_version="v3.1.0", server_version="v1.36.3")
    found = {one.check: one.outcome for one in run_checks(bare)}
    assert found.pop(Check.HELM) is Outcome.FAILED
    assert found.pop(Check.KUBERNETES) is Outcome.OK
    assert found.keys() == set(Check) - {Check.HELM, Check.KUBERNETES}
    assert set(found.values()) == {Outcome.SKIPPED}


def plugin_with(epc_mib, *flags):
    support = ("--api-server=1.36", "--capacity-support=supported", "--helper-epc-mib=3")
    args = ("--simulated", f"--simulated-epc-mib={epc_mib}", *support, *flags)
    return make.daemon_set("device-plugin", args=args)


def real_plugin(*flags):
    return make.daemon_set("device-plugin", HARDWARE, args=("--api-server=1.36", "--helper-epc-mib=3", *flags))


def limited(mib):
    """The controller's Deployment with this maximum of EPC per node in MiB."""
    return make.daemon_set("controller", args=(f"--max-epc-mib={mib}",)) | {"kind": "Deployment"}


def many_devices(version):
    """A plugin in a cluster without EPC capacity, where a node may have had 4,096 devices since 1.35."""
    args = ("--simulated", "--simulated-epc-mib=4102", f"--api-server={version}", "--helper-epc-mib=3")
    return make.daemon_set("device-plugin", args=args)


KEPT = [
    # Columns: the present plugin, the node's MiB, its Pods' MiB, the next plugin, and that plugin's MiB.
    (plugin_with(1_048_576), 1_048_570, 917_504, plugin_with(1_024), 1_018),
    (plugin_with(1_048_576), 1_048_570, 917_504, plugin_with(1_048_576, "--reserve-epc-mib=1000000"), 48_570),
    (plugin_with(168), 162, 100, plugin_with(168, "--reserve-epc-mib=100"), 62),
    (plugin_with(168), 162, 10, plugin_with(168, "--max-epc-mib=20"), 20),
    (plugin_with(168), 162, 10, plugin_with(168, "--accounting=capacity"), 162),
    (real_plugin(), 162, 100, real_plugin("--reserve-epc-mib=100"), 62),
    (real_plugin(), 162, 100, real_plugin("--reserve-epc-mib=200"), 0),
    (real_plugin("--max-epc-mib=100"), 100, 10, real_plugin("--max-epc-mib=50"), 50),
    # The EPC that an earlier change kept back is still kept back.
    (plugin_with(28), 162, 100, plugin_with(50), 44),
    (plugin_with(1_048_576), 1_048_570, 917_504, (plugin_with(1_048_576), limited(1_024)), 1_024),
    # In these cases no EPC is kept back.
    (plugin_with(1_048_576), 1_048_570, 1_000, plugin_with(524_288), None),
    (plugin_with(168), 162, 100, plugin_with(200), None),
    (plugin_with(168), 162, 0, plugin_with(28), None),
    (plugin_with(168), 162, 100, plugin_with(168, "--log-level=debug"), None),
    (real_plugin(), 162, 100, real_plugin(), None),
    (plugin_with(1_048_576), 1_048_570, 1_000, (plugin_with(1_048_576), limited(1_024)), None),
    (plugin_with(168), 162, 100, (plugin_with(168), limited(20)), None),
    (real_plugin(), 0, 100, real_plugin("--accounting=capacity"), None),
    (real_plugin("--max-epc-mib=100"), 100, 10, real_plugin("--max-epc-mib=100", "--reserve-epc-mib=20"), None),
    (plugin_with(168, "--accounting=capacity"), 162, 100, plugin_with(168, "--accounting=devices"), None),
    (plugin_with(168, "--accounting=capacity"), 162, 100, plugin_with(200, "--accounting=capacity"), None),
    # The setting `auto` removes no devices, even if a new node would count EPC in the other way.
    (many_devices("1.36"), 4_096, 10, many_devices("1.37"), None),
    (many_devices("1.35"), 4_096, 10, many_devices("1.36"), None),
    (many_devices("1.35"), 4_096, 10, plugin_with(4_102), None),
    (plugin_with(4_102), 4_096, 2_000, (plugin_with(4_102), limited(1_024)), None),
]


@pytest.mark.parametrize(("now", "offers", "requested", "then", "mib"), KEPT)
def test_less_epc_is_kept_back_while_pods_hold_it(now, offers, requested, then, mib):
    manifests = then if isinstance(then, tuple) else (then,)
    labels = SIMULATED if "--simulated" in now["spec"]["template"]["spec"]["containers"][0]["args"] else HARDWARE
    node = make.node("n", labels, resources={EPC: offers})
    if offers > 4_096:  # nodes of this cluster have at most 4,096 devices; more EPC counts as capacity
        node["metadata"]["managedFields"] = [make.writes_of([EPC])]
    here = {
        "nodes": (node,),
        "daemon_sets": (now,),
        "pods": (tenant_pod(make.pod("x", on="n", limits={EPC: requested})),) if requested else (),
    }
    found = [one for one in findings(here | plan(*manifests)) if one.code == "epc-kept"]
    assert [one.outcome for one in found] == ([] if mib is None else [Outcome.WARNING])
    if mib is not None:
        assert f"n has {offers} MiB, and is to have {mib}" in found[0].what
        assert f"request {requested} MiB" in found[0].why


def test_only_policies_permissions_and_connections_are_updated():
    groups = {"admissionregistration.k8s.io": False, "rbac.authorization.k8s.io": True, "networking.k8s.io": True}
    resources = [*((f"x-{group}", group, inside) for group, inside in groups.items()), ("daemonsets", "apps", True)]
    asked = permissions_needed([Need.CHANGE], resources, SYSTEM)
    found = {one.group: bool(one.namespace) for one in asked if one.verb == "update" and one.resource.startswith("x-")}
    assert found == groups
    assert Permission("update", "daemonsets", "apps", SYSTEM) not in asked
