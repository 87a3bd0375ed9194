from dataclasses import replace
from pathlib import Path

import pytest

from confcom.addon.api import ClusterAccessError, ForbiddenError
from confcom.addon.helm import Helm, Values
from confcom.addon.preflight import Check
from confcom.addon.preflight_inputs import InstallRequest, check_rollback, gather_preflight_inputs
from confcom.kubernetes.names import INTEL_EPC, SETS
from confcom.kubernetes.objects import name_of
from testkit import cluster_objects as make
from testkit.cluster_objects import HARDWARE, SIMULATED, SYSTEM
from testkit.fake_api import FakeApi, cluster_of
from testkit.fake_helm import FakeHelm

ROOT = {"name": "simulated-root", "secret": {"secretName": "our-root"}}
PLUGIN, HELPER = make.daemon_set("device-plugin"), make.daemon_set("quote-helper", volumes=[ROOT])
HARDWARE_PLUGIN = make.daemon_set("device-plugin", HARDWARE, args=())
NODES = [make.node("a", SIMULATED), make.node("b")]
REQUEST = InstallRequest(Path("chart"), Values(settings=("x=1",)))
SECRET = make.root_secret("our-root")


def gathered(api, manifests=(PLUGIN, HELPER), request=REQUEST, *, stored=(), failing=None, version="v4.3.1"):
    helm = FakeHelm(api, manifests, version=version)
    release = Helm(cluster_of(api), helm)
    if stored:
        release.upgrade(Path("chart"), Values(settings=stored))
        api.requests.clear()
    if failing:
        helm.fail(failing, "Error: secrets is forbidden")
    return gather_preflight_inputs(release, request, helm.now)


def test_everything_is_read_and_nothing_is_written():
    api = FakeApi([SECRET, *NODES, make.daemon_set("x", namespace="other")])
    request = replace(REQUEST, simulated_nodes=("a", "b", "z"), allow_no_nodes=True)
    inputs = gathered(api, request=request, stored=("y=2",))
    assert (inputs.helm_version, inputs.server_version) == ("v4.3.1", "v1.36.3")
    assert inputs.values == replace(REQUEST.values, stored={"y": 2})
    assert inputs.rendering.config == {"x": 1, "y": 2}
    assert [one.number for one in inputs.history] == [1]
    assert [name_of(one) for one in inputs.installed] == [name_of(one) for one in (PLUGIN, HELPER)]
    assert inputs.installed == inputs.rendering.manifests
    assert inputs.has_namespace
    assert {daemon.namespace for daemon in inputs.daemon_sets} == {"other", SYSTEM}
    assert [node.labels for node in inputs.nodes] == [SIMULATED, SIMULATED]
    assert (inputs.unknown_nodes, inputs.unlabelled_nodes) == (("z",), ("b",))
    assert (inputs.denied, dict(inputs.admission), inputs.allow_no_nodes) == ((), {}, True)
    assert api.writes == []
    assert SECRET["data"]["seed"] not in repr(inputs)


def test_with_an_old_helm_nothing_is_asked_of_the_cluster():
    api = FakeApi(NODES)
    assert gathered(api, version="v3.22.0").nodes is None
    assert api.requests == [("GET", "/version")]


@pytest.mark.parametrize("failing", ["history", "get", "render"])
def test_an_unreadable_release_is_an_error_in_place_of_the_rendering(failing):
    inputs = gathered(FakeApi(NODES, denied={("create", "daemonsets")}), stored=("y=2",), failing=failing)
    assert inputs.rendering is None
    assert "secrets is forbidden" in inputs.errors[Check.VALUES].why
    assert f"create daemonsets.apps in {SYSTEM}" in map(str, inputs.denied)
    assert len(inputs.nodes) == 2


def test_objects_that_may_not_be_read_are_errors():
    inputs = gathered(FakeApi(NODES, denied={("list", "nodes"), ("list", "daemonsets"), ("get", "namespaces")}))
    for check in (Check.NODES, Check.OWNERS, Check.POD_SECURITY):
        assert isinstance(inputs.errors[check], ForbiddenError)
    assert {"list nodes", "list daemonsets.apps", f"get namespaces in {SYSTEM}"} == set(map(str, inputs.denied))


@pytest.mark.parametrize(
    ("request_", "denied", "missing"),
    [
        (REQUEST, ("create", "namespaces"), []),
        (REQUEST, ("patch", "nodes"), []),
        (replace(REQUEST, simulated_nodes=("a",)), ("patch", "nodes"), ["patch nodes"]),
        (REQUEST, ("update", "leases"), [f"update leases.coordination.k8s.io in {SYSTEM}"]),
        (REQUEST, ("patch", "daemonsets"), [f"patch daemonsets.apps in {SYSTEM}"]),
        (REQUEST, ("create", "pods"), []),
    ],
)
def test_permissions_depend_on_the_request(request_, denied, missing):
    api = FakeApi(NODES, denied={denied})
    assert list(map(str, gathered(api, request=request_).denied)) == missing


ANSWERS = [
    (403, 'pods "x" is forbidden: violates PodSecurity "baseline:latest": hostPID=true', "object-refused"),
    (422, 'Pod "p" is invalid: spec.containers[0].image: Required value', "object-invalid"),
    (500, 'Internal error occurred: failed calling webhook "x"', "cluster-request-failed"),
]


@pytest.mark.parametrize(("status", "message", "code"), ANSWERS)
def test_the_answer_of_admission_to_a_pod_of_each_daemon(status, message, code):
    api = FakeApi([*NODES])
    api.refuse(lambda request: b"helper-preflight" in request.content, status, message)
    ((daemon, error),) = gathered(api).admission.items()
    assert (daemon, error.error_code) == ("confcom-quote-helper", code)
    assert error.why == message


def test_a_namespace_that_does_not_exist_is_created_and_admission_not_asked():
    api = FakeApi(NODES, denied={("create", "namespaces")})
    api.remove("Namespace", SYSTEM)
    inputs = gathered(api)
    assert inputs.admission == {}
    assert list(map(str, inputs.denied)) == ["create namespaces"]
    assert ("POST", f"/api/v1/namespaces/{SYSTEM}/pods") not in api.requests


NFD = "nfd.node.kubernetes.io/extended-resources"
OFF = {"mutate": False}
"""The value that helm gets from `mutate: off`, because YAML reads `off` as false."""


@pytest.mark.parametrize(
    ("stored", "node", "admission"),
    [
        ("y=2", make.node("b", resources={INTEL_EPC: "8Gi"}), OFF),
        ("y=2", make.node("b", annotations={NFD: f"x, {INTEL_EPC}"}), OFF),
        ("y=2", make.node("b", resources={INTEL_EPC: "0"}), None),
        ("admission.mutate=auto", make.node("b", resources={INTEL_EPC: "8Gi"}), {"mutate": "auto"}),
    ],
)
def test_pods_are_left_as_they_are_where_another_plugin_offers_their_epc(stored, node, admission):
    inputs = gathered(FakeApi([node]), stored=(stored,))
    assert ("admission.mutate=off" in inputs.values.settings) is (admission is OFF)
    assert inputs.rendering.config.get("admission") == admission


BESIDE = make.daemon_set("device-plugin-simulated")
OTHER_LABEL = make.daemon_set("device-plugin", {"own": "yes"})
SERVING, METAL = make.node("serving", SIMULATED, resources={make.EPC: 28}), make.node("metal", HARDWARE)
ROLLBACKS = {
    # The columns are the other nodes, the present DaemonSets, the revision's objects, and the error's code.
    "nothing is lost": ([SERVING], [PLUGIN, HELPER], (PLUGIN, HELPER), ""),
    "another label": ([SERVING], [PLUGIN, HELPER], (OTHER_LABEL,), "nodes-lose-daemons"),
    "another label, and nothing to lose": ([], [PLUGIN, HELPER], (OTHER_LABEL,), ""),
    "simulation was added since": ([SERVING], [BESIDE, HARDWARE_PLUGIN], (HARDWARE_PLUGIN,), ""),
    "hardware was added since": ([METAL], [BESIDE, HARDWARE_PLUGIN], (PLUGIN,), "hardware-in-cluster"),
    "hardware is beside now too": ([METAL], [PLUGIN], (PLUGIN,), ""),
}


def rolled_back(api, manifests):
    return check_rollback(cluster_of(api), manifests, 3, FakeHelm(api, ()).now)


@pytest.mark.parametrize(("nodes", "now", "manifests", "code"), ROLLBACKS.values(), ids=ROLLBACKS)
def test_a_revision_fits_the_nodes_or_not(nodes, now, manifests, code):
    _, *found = rolled_back(FakeApi([SECRET, *NODES, *nodes, *now]), manifests)
    assert [one.code for one in found] == ([code] if code else [])
    if code == "nodes-lose-daemons":
        assert found[0].what.startswith("serving would")
        assert "own=yes" in found[0].remedy
        assert "helm rollback confcom 3" in found[0].remedy


def test_a_rollback_says_which_nodes_keep_their_epc():
    """The release has more objects of the device plugin than its DaemonSet."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": PLUGIN["metadata"]}
    large = make.daemon_set("device-plugin", args=("--simulated", "--simulated-epc-mib=168"))
    small = make.daemon_set("device-plugin", args=("--simulated", "--simulated-epc-mib=28"))
    offering = make.node("a", SIMULATED, resources={make.EPC: 168})
    _, *found = rolled_back(FakeApi([offering, *TENANTS, large]), (account, small))
    assert [one.code for one in found] == ["epc-kept"]
    assert "a has 168 MiB, and is to have 28" in found[0].what


def test_a_rollback_needs_the_root():
    found = rolled_back(FakeApi(NODES), (PLUGIN, HELPER))
    assert [one.code for one in found] == ["passed", "simulated-root-missing"]
    assert "our-root" in found[-1].what


def test_a_cluster_that_cannot_be_read_is_not_changed():
    api = FakeApi([SECRET])
    api.refuse(lambda request: request.url.path == "/api/v1/nodes", 500, "no")
    with pytest.raises(ClusterAccessError):
        rolled_back(api, (PLUGIN, HELPER))


LESS = make.daemon_set("device-plugin", args=("--simulated", "--reserve-epc-mib=100"))
MOST = make.daemon_set("device-plugin", args=("--simulated", "--max-epc-mib=100"))
LIMIT, NO_LIMIT = (
    make.daemon_set("controller", args=(f"--max-epc-mib={mib}",)) | {"kind": "Deployment"} for mib in (100, 162)
)
TENANTS = [make.pod("x", on="a", limits={make.EPC: 3}), make.pod("y", on="a", limits={make.EPC: 4, make.ENCLAVE: 1})]


@pytest.mark.parametrize(
    ("now", "new", "requested"),
    [
        ([PLUGIN], [LESS], {"a": 7}),
        ([PLUGIN], [PLUGIN], {}),
        ([], [LESS], {}),
        ([PLUGIN], [PLUGIN, LIMIT], {"a": 7}),
        ([PLUGIN], [PLUGIN, NO_LIMIT], {}),
        ([MOST], [MOST], {}),
    ],
)
@pytest.mark.parametrize("epc", [names.epc for names in SETS])
def test_pods_are_read_if_a_node_is_to_have_less_epc(now, new, requested, epc):
    api = FakeApi([make.node("a", SIMULATED, resources={epc: 162}), *TENANTS, *now])
    pods = gathered(api, new).pods
    assert sum(one.epc_mib for one in pods) == requested.get("a", 0)
    assert (("GET", "/api/v1/pods") in api.requests) is bool(requested)
