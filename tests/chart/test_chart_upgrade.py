"""What the chart looks up in the cluster, and refuses: an upgrade that takes daemons from nodes, unasked mixtures."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from testkit.chart_manifests import NFD_LABEL, PLUGIN, SIMULATED_LABEL

SYSTEM = "sgx"
SIMULATED = ("simulated.enabled=true",)
BESIDE = (*SIMULATED, "simulated.besideHardware=true")
HARDWARE = ("quoteHelper.enabled=false",)
OWN_LABEL = "example.com/sgx"
OWN_SELECTOR = {"nodeSelector": {NFD_LABEL: None, OWN_LABEL: "yes"}}
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
ON_AKS = {INSTANCE_TYPE: "Standard_DC4s_v3"}
ON_HARDWARE = {NFD_LABEL: "true"}
TO_SIMULATE = {SIMULATED_LABEL: "true"}
KINDS = {
    "v1": ("Node", "ServiceAccount"),
    "apps/v1": ("DaemonSet",),
    "batch/v1": ("Job",),
    "rbac.authorization.k8s.io/v1": ("Role", "RoleBinding"),
    "admissionregistration.k8s.io/v1": ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
}
"""Of the API, what the chart has objects of or looks up."""


class Lookups:
    """As much of an API server as helm asks for; there are no objects but nodes and DaemonSets."""

    def __init__(self, address):
        self.address = address
        self.nodes = {}
        self.daemon_sets = {}

    def answer(self, path):
        if path == "/version":
            return {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            named = [{"groupVersion": one, "version": "v1"} for one in KINDS if "/" in one]
            groups = [{"name": one["groupVersion"].partition("/")[0], "versions": [one]} for one in named]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        if path == "/api/v1/nodes":
            items = [{"metadata": {"name": name, "labels": labels}} for name, labels in self.nodes.items()]
            return {"kind": "NodeList", "apiVersion": "v1", "items": items}
        version = path.removeprefix("/apis/").removeprefix("/api/")
        if version in KINDS:
            return {
                "kind": "APIResourceList",
                "groupVersion": version,
                "resources": [*map(kind_of_api, KINDS[version])],
            }
        found, _, name = path.rpartition("/")
        return self.daemon_sets.get(name) if found == f"/apis/apps/v1/namespaces/{SYSTEM}/daemonsets" else None


def kind_of_api(kind):
    plural = "validatingadmissionpolicies" if kind.endswith("Policy") else f"{kind.lower()}s"
    namespaced = kind != "Node" and not kind.startswith("Validating")
    return {"name": plural, "singularName": kind.lower(), "namespaced": namespaced, "kind": kind, "verbs": ["get"]}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        found = self.server.lookups.answer(self.path.partition("?")[0])
        body = json.dumps(found or {"kind": "Status", "apiVersion": "v1", "reason": "NotFound", "code": 404}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def cluster():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.lookups = Lookups(f"http://127.0.0.1:{server.server_port}")
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    yield server.lookups
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture
def installed(cluster, plain_render):
    """Puts the DaemonSets that the chart renders into the cluster."""

    def install(*settings, values=None):
        manifests = plain_render(*settings, values=values)
        cluster.daemon_sets = {name: one for (kind, name), one in manifests.items() if kind == "DaemonSet"}

    return install


@pytest.fixture
def upgrade(cluster, plain_template, tmp_path):
    """What the chart says to an upgrade with these settings alone; nothing, if it does not refuse."""
    config = tmp_path / "kubeconfig"
    contents = {
        "clusters": [{"name": "any", "cluster": {"server": cluster.address}}],
        "contexts": [{"name": "any", "context": {"cluster": "any"}}],
        "current-context": "any",
    }
    config.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **contents}))
    asking = ("--dry-run=server", "--is-upgrade", "--disable-openapi-validation", "--kubeconfig", config)

    def run(*settings, values=None, more=()):
        done = plain_template(*settings, values=values, more=(*asking, *more))
        if done.returncode == 0:
            return ""
        assert "confcom: nothing was changed, because" in done.stderr, done.stderr
        return done.stderr

    return run


def test_an_upgrade_that_changes_no_nodes(cluster, installed, upgrade):
    cluster.nodes = {"hw-1": ON_HARDWARE, "sim-1": TO_SIMULATE, "other": {}}
    installed(*BESIDE)
    assert upgrade(*BESIDE, "logLevel=debug") == ""
    del cluster.nodes["hw-1"]
    assert upgrade(*SIMULATED) == ""
    installed(*SIMULATED)
    assert upgrade(*BESIDE) == ""


def test_beside_hardware_a_hardware_node_is_told_the_label_of_hardware(cluster, installed, upgrade, values_file):
    cluster.nodes = {"hw-1": ON_HARDWARE, "sim-1": TO_SIMULATE}
    installed(*BESIDE)
    told = upgrade(*BESIDE, values=values_file(OWN_SELECTOR))
    assert "hw-1 would lose the daemons, and the workloads there their EPC" in told
    assert f"hardware nodes are now the nodes labelled {OWN_LABEL}=yes" in told
    assert f"kubectl label node hw-1 {OWN_LABEL}=yes" in told
    assert f"kubectl label node hw-1 {NFD_LABEL}-" in told
    assert SIMULATED_LABEL not in told
    assert "sim-1" not in told


def test_the_label_of_the_other_platform_does_not_keep_a_nodes_daemons(cluster, installed, upgrade, values_file):
    cluster.nodes = {"hw-1": ON_HARDWARE | TO_SIMULATE}
    installed(*BESIDE)
    told = upgrade(*BESIDE, values=values_file(OWN_SELECTOR))
    assert f"kubectl label node hw-1 {OWN_LABEL}=yes" in told
    cluster.nodes["hw-1"] = ON_HARDWARE | {OWN_LABEL: "yes"}
    assert upgrade(*BESIDE, values=values_file(OWN_SELECTOR)) == ""


def test_a_simulated_node_is_told_the_label_of_simulation(cluster, installed, upgrade, values_file):
    cluster.nodes = {"hw-1": ON_HARDWARE, "sim-1": TO_SIMULATE}
    installed(*BESIDE)
    fake = values_file({"simulated": {"nodeSelector": {SIMULATED_LABEL: None, "example.com/fake": "yes"}}})
    told = upgrade(*BESIDE, values=fake)
    assert "sim-1 would lose the daemons, and the workloads there their EPC and quotes" in told
    assert "kubectl label node sim-1 example.com/fake=yes" in told
    assert f"kubectl label node sim-1 {SIMULATED_LABEL}-" in told
    assert "hw-1" not in told


def test_terms_for_hardware_say_nothing_of_simulated_nodes(cluster, installed, upgrade, values_file, chart):
    cluster.nodes = {"aks-1": ON_AKS, "sim-1": TO_SIMULATE}
    installed(*BESIDE, values=chart / "values-aks.yaml")
    fake = values_file({"simulated": {"nodeSelector": {SIMULATED_LABEL: None, "example.com/fake": "yes"}}})
    told = upgrade(*BESIDE, values=chart / "values-aks.yaml", more=("--values", fake))
    assert "kubectl label node sim-1 example.com/fake=yes" in told


def test_a_simulated_node_that_would_become_hardware_is_not_told_to_be_both(cluster, installed, upgrade, values_file):
    cluster.nodes = {"node-1": ON_HARDWARE}
    before = values_file({"simulated": {"nodeSelector": {SIMULATED_LABEL: None, NFD_LABEL: "true"}}})
    installed(*SIMULATED, values=before)
    told = upgrade(*BESIDE)
    assert "node-1 would change from simulated to hardware" in told
    assert "choose hardware nodes by a label that these do not have" in told
    assert f"kubectl -n {SYSTEM} delete daemonset {PLUGIN}" in told
    assert "kubectl label" not in told
    # Without hardware beside it, it simulates on.
    assert f"kubectl label node node-1 {SIMULATED_LABEL}=true" in upgrade(*SIMULATED)
    cluster.daemon_sets = {}
    assert upgrade(*BESIDE) == ""


@pytest.mark.parametrize(("before", "suffix"), [(SIMULATED, ""), (BESIDE, "-simulated")])
def test_the_end_of_simulation_is_refused_while_nodes_simulate(cluster, installed, upgrade, before, suffix):
    cluster.nodes = {"sim-1": TO_SIMULATE, "hw-1": ON_HARDWARE}
    installed(*before)
    told = upgrade(*HARDWARE)
    assert "sim-1 would lose the daemons" in told
    assert "--set simulated.enabled=true" in told
    assert ("--set simulated.besideHardware=true" in told) is (before == BESIDE)
    assert f"kubectl -n {SYSTEM} delete daemonset {PLUGIN}{suffix}\n" in told
    assert "kubectl label" not in told
    assert "hw-1" not in told
    del cluster.daemon_sets[f"{PLUGIN}{suffix}"]
    assert upgrade(*HARDWARE) == ""


# Simulation in place of hardware.


@pytest.mark.parametrize("before", [HARDWARE, BESIDE])
def test_hardware_with_a_label_is_not_replaced_by_simulation(cluster, installed, upgrade, before):
    cluster.nodes = {"hw-1": ON_HARDWARE, "sim-1": TO_SIMULATE}
    installed(*before)
    told = upgrade(*SIMULATED)
    assert "nodes with SGX hardware (hw-1), and simulated.enabled is true" in told
    assert "--set simulated.besideHardware=true" in told
    assert f"take the label off them:\n         kubectl label node hw-1 {NFD_LABEL}-" in told
    assert SIMULATED_LABEL not in told
    assert "delete" not in told
    assert upgrade(*BESIDE) == ""
    cluster.nodes["hw-1"] = {}
    assert upgrade(*SIMULATED) == ""


def test_a_node_that_runs_the_hardware_plugin_is_hardware_whatever_else_it_is_labelled(cluster, installed, upgrade):
    cluster.nodes = {"hw-1": ON_HARDWARE | TO_SIMULATE}
    assert upgrade(*SIMULATED) == ""
    installed(*HARDWARE)
    told = upgrade(*SIMULATED)
    assert "nodes with SGX hardware (hw-1), and simulated.enabled is true" in told
    assert "they would lose their device plugin" in told
    assert f"kubectl label node hw-1 {NFD_LABEL}-" in told


def test_terms_that_are_given_count_as_hardware(cluster, upgrade, chart):
    cluster.nodes = {"aks-1": ON_AKS, "sim-1": TO_SIMULATE, "aks-2": {INSTANCE_TYPE: "Standard_D2s_v5"}}
    told = upgrade(*SIMULATED, values=chart / "values-aks.yaml")
    assert "nodes with SGX hardware (aks-1), and simulated.enabled is true" in told
    assert "--set simulated.besideHardware=true" in told
    assert "nodeSelectorTerms=[]" in told
    assert "kubectl" not in told
    assert upgrade(*BESIDE, values=chart / "values-aks.yaml") == ""
    none = ("--set-json", "nodeSelectorTerms=[]")
    assert upgrade(*SIMULATED, values=chart / "values-aks.yaml", more=none) == ""
    del cluster.nodes["aks-1"]
    assert upgrade(*SIMULATED, values=chart / "values-aks.yaml") == ""


def test_hardware_installed_by_terms_is_not_replaced_by_simulation(cluster, installed, upgrade, chart):
    cluster.nodes = {"aks-1": ON_AKS, "sim-1": TO_SIMULATE}
    installed(*HARDWARE, values=chart / "values-aks.yaml")
    none = ("--set-json", "nodeSelectorTerms=[]")
    delete = f"kubectl -n {SYSTEM} delete daemonset {PLUGIN}"
    for told in (
        upgrade(*SIMULATED),
        upgrade(*SIMULATED, more=none),
        upgrade(*SIMULATED, values=chart / "values-aks.yaml"),
    ):
        assert "nodes with SGX hardware (aks-1), and simulated.enabled is true" in told
        assert "--set simulated.besideHardware=true" in told
        assert delete in told
        assert "kubectl label" not in told
    assert upgrade(*BESIDE, values=chart / "values-aks.yaml") == ""
    cluster.daemon_sets = {}
    assert upgrade(*SIMULATED, more=none) == ""


def test_hardware_by_terms_and_by_label(cluster, installed, upgrade, chart):
    cluster.nodes = {"aks-1": ON_AKS, "hw-1": ON_HARDWARE}
    installed(*HARDWARE, values=chart / "values-aks.yaml")
    told = upgrade(*SIMULATED)
    assert "nodes with SGX hardware (aks-1, hw-1)" in told
    assert f"kubectl label node hw-1 {NFD_LABEL}-\n       and delete the device plugin that runs there:" in told


@pytest.mark.parametrize("settings", [HARDWARE, BESIDE])
def test_terms_that_are_forgotten(cluster, installed, upgrade, chart, settings):
    cluster.nodes = {"aks-1": ON_AKS}
    installed(*HARDWARE, values=chart / "values-aks.yaml")
    told = upgrade(*settings)
    assert "aks-1 would lose the daemons" in told
    assert "give the nodeSelectorTerms of what is installed again" in told
    assert f"kubectl label node aks-1 {NFD_LABEL}=true" in told
    assert upgrade(*settings, values=chart / "values-aks.yaml") == ""


def test_other_terms_are_taken_at_their_word(cluster, installed, upgrade, chart, values_file):
    cluster.nodes = {"aks-1": ON_AKS}
    installed(*HARDWARE, values=chart / "values-aks.yaml")
    other = values_file({"nodeSelectorTerms": [{"matchExpressions": [{"key": "pool", "operator": "Exists"}]}]})
    assert upgrade(*HARDWARE, values=other) == ""
    assert upgrade(*BESIDE, values=other) == ""


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ({"key": "a", "operator": "In", "values": ["1", "5"]}, {"five"}),
        ({"key": "a", "operator": "NotIn", "values": ["1", "5"]}, {"none", "ten", "word"}),
        ({"key": "a", "operator": "Exists"}, {"five", "ten", "word"}),
        ({"key": "a", "operator": "DoesNotExist"}, {"none"}),
        ({"key": "a", "operator": "Gt", "values": ["5"]}, {"ten"}),
        ({"key": "a", "operator": "Lt", "values": ["10"]}, {"five"}),
    ],
    ids=lambda one: one.get("operator") if isinstance(one, dict) else "",
)
def test_terms_are_evaluated_as_the_scheduler_does(cluster, upgrade, values_file, expression, chosen):
    cluster.nodes = {"none": {}, "five": {"a": "5"}, "ten": {"a": "10"}, "word": {"a": "b"}}
    told = upgrade(*SIMULATED, values=values_file({"nodeSelectorTerms": [{"matchExpressions": [expression]}]}))
    assert f"nodes with SGX hardware ({', '.join(sorted(chosen))})" in told


def test_one_term_is_enough_and_all_of_its_expressions_are_needed(cluster, upgrade, values_file):
    cluster.nodes = {"a": {"a": "1"}, "ab": {"a": "1", "b": "1"}, "named": {}, "other": {}}
    both = {"matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}]}
    named = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["named"]}]}
    told = upgrade(*SIMULATED, values=values_file({"nodeSelectorTerms": [both, named]}))
    assert "nodes with SGX hardware (ab, named)" in told


def test_an_empty_term_chooses_nobody(cluster, installed, upgrade, values_file):
    cluster.nodes = {"hw-1": ON_HARDWARE, "sim-1": TO_SIMULATE}
    installed(*BESIDE)
    assert "hw-1 would lose the daemons" in upgrade(*BESIDE, values=values_file(OWN_SELECTOR))
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}}
    spec = cluster.daemon_sets["confcom-device-plugin"]["spec"]["template"]["spec"]
    spec["affinity"] = {"nodeAffinity": required}
    assert upgrade(*BESIDE, values=values_file(OWN_SELECTOR)) == ""
