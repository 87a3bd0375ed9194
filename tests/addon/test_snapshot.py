import json
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from confcom.addon.api import ClusterAccessError
from confcom.addon.helm import Helm, Values, chart_folder
from confcom.addon.simulated_root import SERVED
from confcom.addon.snapshot import MAX_HELPERS, MAX_LOGS, MAX_PLUGINS, read_cluster, read_daemons
from confcom.addon.status import add_on_status
from confcom.kubernetes.names import SETS
from confcom.simulation.platform import SimulatedPlatform
from testkit import cluster_objects as make
from testkit.cluster_objects import EPC, SYSTEM
from testkit.fake_api import FakeApi, cluster_of
from testkit.fake_helm import FakeHelm, golden_manifests

LOG = '{"level": "warning", "message": "not ready", "about": "readiness", "reason": "no quote", "code": "no-quote"}\n'
INVENTORY = make.inventory().to_json().decode()
ROOT = 'confcom_quote_helper_simulated_root_info{sha256="%s"} 1.0\n'
REVISION = {"revision": 1, "status": "deployed", "updated": "2026-11-29T08:00:00Z", "description": "done"}
SECRET = make.root_secret("root")


def read(memory, *, revisions=(REVISION,), manifests=()):
    def run(arguments, stdin):
        manifest = "\n---\n".join(map(json.dumps, manifests))
        answer = json.dumps(revisions) if "history" in arguments else manifest
        return subprocess.CompletedProcess(arguments, 0, answer.encode(), b"")

    return read_cluster(Helm(cluster_of(memory), run), lambda: datetime.now(UTC))


def simulated(*names):
    objects = make.installed(*names)
    volumes = [{"name": "simulated-root", "secret": {"secretName": "root"}}]
    for one in objects:
        if "quote-helper" in one["metadata"]["name"] and one["kind"] in {"DaemonSet", "Pod"}:
            spec = one["spec"]["template"]["spec"] if one["kind"] == "DaemonSet" else one["spec"]
            spec["volumes"] = volumes
    return objects


def test_daemons_are_read_from_the_nodes_and_the_add_ons_namespace_alone():
    foreign = make.pod("x", on="a", limits={EPC: 1})
    posing = make.pod("device-plugin-x", on="a", labels=make.labels("device-plugin"))
    memory = FakeApi([*make.installed("a"), foreign, posing])
    found = read_daemons(cluster_of(memory))
    assert [pod.name for pod in found.pods] == ["device-plugin-a", "quote-helper-a"]
    assert found.templates == {"confcom-device-plugin": "1", "confcom-quote-helper": "1"}
    assert found.epc_pods is None
    paths = {path for _, path in memory.requests}
    assert all(path == "/api/v1/nodes" or f"/namespaces/{SYSTEM}/" in path for path in paths)


def test_the_newest_template_is_that_of_the_highest_revision():
    objects = [*make.installed("a"), make.revision("quote-helper", 10), make.revision("quote-helper", 9)]
    assert read_daemons(cluster_of(FakeApi(objects))).templates["confcom-quote-helper"] == "10"


def test_of_pods_and_nodes_only_facts_that_matter_are_kept():
    node = make.node("a", make.SIMULATED, resources={EPC: 162}, annotations={"padding": "x" * 1000})
    node["status"]["images"] = [{"names": ["x" * 1000]}]
    bulky = make.pod("bulky", on="a", limits={EPC: 5}, owner=("Job", "j"))
    bulky["metadata"]["annotations"] = {"padding": "x" * 1000}
    plain = make.pod("plain", on="a")
    found = read(FakeApi([node, bulky, plain, make.daemon("quote-helper")]))
    (pod,) = found.epc_pods
    assert (pod.name, pod.node, pod.kind, pod.owner, pod.epc_mib) == ("bulky", "a", "Job", "j", 5)
    assert len(repr((found.nodes, found.epc_pods, found.pods))) < 2000
    assert found.nodes[0].allocatable == {EPC: 162}


def test_logs_of_a_few_pods_that_are_not_ready_are_read_but_not_through_silent_kubelets():
    names = [f"n{number:02}" for number in range(MAX_LOGS + 5)]
    nodes = [make.node(name, ready=name != "n00") for name in names]
    helpers = [make.daemon("quote-helper", name, status=make.not_ready()) for name in names]
    memory = FakeApi([*nodes, *helpers], logs={f"quote-helper-{name}": LOG for name in names})
    found = {pod.node: pod.reason_code for pod in read_daemons(cluster_of(memory)).pods}
    assert [name for name in names if found[name]] == names[1 : MAX_LOGS + 1]
    assert set(found.values()) == {"", "no-quote"}


def test_a_log_that_cannot_be_read_leaves_the_pods_own_state():
    objects = [make.node("a"), make.daemon("quote-helper", status=make.not_ready())]
    memory = FakeApi(objects, denied={("get", "pods/log")})
    (found,) = read_daemons(cluster_of(memory)).pods
    assert found.reason == "containers with unready status: [main]"


def test_inventories_and_roots_are_asked_of_ready_daemons():
    pages = {
        ("device-plugin-a", "inventory"): INVENTORY,
        ("device-plugin-b", "inventory"): "no JSON",
        ("device-plugin-c", "inventory"): "[1]",
        ("device-plugin-d", "inventory"): make.inventory(0).to_json().decode(),
        ("quote-helper-a", "metrics"): ROOT % ("ab" * 32),
    }
    found = read(FakeApi([*simulated("a", "b", "c", "d"), SECRET], pages=pages))
    assert found.inventories == {"a": make.inventory()}
    assert (found.root.secret, found.root.exists, found.root.roots) == ("root", True, {"a": "ab" * 32})
    assert [one.node for one in found.not_read] == ["b", "b", "c", "c", "d"]


def test_in_a_large_cluster_a_few_device_plugins_are_asked():
    names = [f"n{number:02}" for number in range(MAX_PLUGINS + 10)]
    pages = {(f"device-plugin-{name}", "inventory"): INVENTORY for name in names}
    full = make.pod("full", on=names[-1], limits={EPC: 162})
    used = [make.pod(f"used-{name}", on=name, limits={EPC: 100}) for name in names]
    found = read(FakeApi([*simulated(*names), SECRET, full, *used], pages=pages))
    assert len(found.inventories) == MAX_PLUGINS
    assert names[-1] in found.inventories
    assert [one for one in found.not_read if "EPC" in one.text] == []


@pytest.mark.parametrize("epc", [names.epc for names in SETS])
@pytest.mark.parametrize(("offered", "requested"), [(162, 162), (162, 161), (0, 0)])
def test_full_nodes_whose_device_plugin_is_not_asked_are_named(epc, offered, requested):
    """Only its device plugin knows whether a full node will offer less EPC than its Pods request."""
    names = [f"n{number:02}" for number in range(MAX_PLUGINS + 2)]
    pages = {(f"device-plugin-{name}", "inventory"): INVENTORY for name in names}
    used = [make.pod(f"used-{name}", on=name, limits={epc: requested}) for name in names if requested]
    nodes = [make.node(name, make.SIMULATED, resources={epc: offered}) for name in names]
    others = [one for one in simulated(*names) if one["kind"] != "Node"]
    found = read(FakeApi([*nodes, *others, SECRET, *used], pages=pages))
    told = [one.text for one in found.not_read if "EPC" in one.text]
    assert len(told) == (requested == 162)
    assert all("n20, n21" in one for one in told)


@pytest.mark.parametrize("status", [502, 503])
def test_a_pod_that_the_api_server_does_not_reach_is_named_with_the_value(status):
    """The API server gets no answer from the Pod, as happens with an enforced NetworkPolicy."""
    memory = FakeApi([*simulated("a"), SECRET])
    dialled = "error trying to reach service: dial tcp 10.0.0.1:8080: i/o timeout"
    memory.refuse(lambda request: "/proxy/" in request.url.path, status, dialled)
    found = {one.text for one in read(memory).not_read}
    assert len(found) == 2
    for pod in ("device-plugin-a", "quote-helper-a"):
        assert any(pod in one and "networkPolicy.apiServer" in one and dialled in one for one in found)


def test_of_many_helpers_the_oldest_and_the_newest_are_asked_for_their_root():
    names = [f"n{number:02}" for number in range(MAX_HELPERS + 10)]
    objects = simulated(*names)
    for one in objects:
        if one["kind"] == "Pod":
            one["metadata"]["creationTimestamp"] = f"2026-11-25T00:00:{names.index(one['spec']['nodeName']):02}Z"
    pages = {(f"quote-helper-{name}", "metrics"): ROOT % ("ab" * 32) for name in names}
    half = MAX_HELPERS // 2
    assert list(read(FakeApi([*objects, SECRET], pages=pages)).root.roots) == [*names[:half], *names[-half:]]


def fingerprint(created):
    return SimulatedPlatform.create(bytes(32), datetime.fromtimestamp(created, UTC)).root_fingerprint


@pytest.mark.parametrize(
    ("secret", "exists", "root", "unusable"),
    [
        ([SECRET], True, fingerprint(make.CREATED_ROOT), ""),
        ([], False, "", ""),
        ([SECRET | {"data": {"seed": "eA=="}}], True, "", "created is missing"),
        ([make.root_secret("root", created=0)], True, fingerprint(0), "1989"),
    ],
)
def test_the_roots_of_the_secret_of_helpers_and_of_the_served_collateral_are_read(secret, exists, root, unusable):
    served = make.daemon_set("simulated-pcs", volumes=[{"name": "simulated-root", "secret": {"secretName": "root"}}])
    served |= {"kind": "Deployment", "spec": served["spec"] | {"replicas": 1}}
    pod = make.daemon("simulated-pcs", "b")
    pages = {
        ("quote-helper-a", "metrics"): ROOT % ("ab" * 32),
        (pod["metadata"]["name"], "metrics"): ROOT.replace("quote_helper_simulated", "simulated_pcs") % ("cd" * 32),
    }
    found = read(FakeApi([*simulated("a"), served, pod, *secret], pages=pages)).root
    assert (found.exists, found.root) == (exists, root)
    assert unusable in found.unusable
    assert found.roots == {"a": "ab" * 32, SERVED: "cd" * 32}


@pytest.mark.parametrize(
    ("denied", "fact", "value"),
    [
        (("get", "pods/proxy"), "inventories", {}),
        (("list", "events everywhere"), "refused", ()),
        (("list", "pods everywhere"), "epc_pods", None),
    ],
)
def test_a_fact_that_may_not_be_read_is_named_and_no_failure(denied, fact, value):
    memory = FakeApi([*simulated("a"), SECRET, make.pod("x", on="a", limits={EPC: 1})])
    if denied[1].endswith(" everywhere"):
        path = f"/api/v1/{denied[1].split()[0]}"
        memory.refuse(lambda request: request.url.path == path, 403, "no")
    else:
        memory.denied = {denied}
    found = read(memory)
    assert getattr(found, fact) == value
    assert found.not_read
    assert {one.code for one in found.not_read} == {"not-read"}
    assert len(found.pods) == 2


def test_whether_a_forbidden_secret_exists_is_unknown_and_not_complained_about():
    pages = {("device-plugin-a", "inventory"): '{"version": 1}', ("quote-helper-a", "metrics"): ROOT % ("ab" * 32)}
    found = read(FakeApi(simulated("a"), denied={("get", "secrets")}, pages=pages))
    assert found.root.exists is None
    assert found.not_read == ()


@pytest.mark.parametrize("denied", [("list", "nodes"), ("list", "daemonsets"), ("list", "events")])
def test_without_rights_on_nodes_and_the_own_namespace_reading_fails(denied):
    for reading in (read, lambda memory: read_daemons(cluster_of(memory))):
        with pytest.raises(ClusterAccessError):
            reading(FakeApi(simulated("a"), denied={denied}))


@pytest.mark.parametrize(("state", "compared"), [("failed", True), ("pending-upgrade", False), ("uninstalling", False)])
def test_a_release_is_compared_unless_its_last_change_is_unfinished(state, compared):
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "gone", "namespace": SYSTEM}}
    objects = simulated("a")
    assert [one.name for one in read(FakeApi(objects), manifests=[manifest]).drift.changes] == ["gone"]
    last = REVISION | {"revision": 2, "status": state}
    found = read(FakeApi(objects), revisions=[REVISION, last], manifests=[manifest])
    assert [one.name for one in found.drift.changes] == (["gone"] if compared else [])


MESSAGE = f"exceeded quota: sgx, requested: requests.{EPC}=10, used: requests.{EPC}=40"


@pytest.mark.parametrize(("minutes", "namespace", "listed"), [(18, "default", 1), (21, "default", 0), (1, SYSTEM, 0)])
def test_refusals_of_tenants_that_controllers_still_repeat_are_listed(minutes, namespace, listed):
    seen = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()
    event = make.failed_create("ReplicaSet", "web-5f", MESSAGE, namespace=namespace) | {"lastTimestamp": seen}
    found = read(FakeApi([*simulated("a"), event])).refused
    assert [(one.kind, one.name) for one in found] == [("ReplicaSet", "web-5f")] * listed


@pytest.mark.parametrize("values", ["simulated", "hardware-aesmd", "beside-hardware", "simulated-1-tib"])
def test_the_charts_own_objects_are_an_add_on_without_problems(values):
    nodes = [make.node("s", make.SIMULATED), make.node("h", make.HARDWARE)]
    memory = FakeApi([*nodes, make.root_secret()])
    helm = Helm(cluster_of(memory), FakeHelm(memory, golden_manifests(values, SYSTEM)))
    helm.upgrade(chart_folder(), Values())
    found = add_on_status(read_cluster(helm, helm.run.now))
    assert found.steps
    assert all(step.done for step in found.steps)
    assert [one.code for one in found.problems] == []
