"""The controller beside a real API server: what it writes, what it survives, and what its account may not do."""

import json

import pytest

from e2e.plain_api_server import serving
from e2e.plain_controller import (
    EPC,
    MERGE,
    SYSTEM,
    USER,
    Objects,
    Plugins,
    controlling,
    install,
    inventory,
)
from e2e.waiting import until

GONE_SECONDS = 5
FLAGS = (f"--gone-seconds={GONE_SECONDS}",)
MAXIMUM = 4096

pytestmark = pytest.mark.timeout(600, func_only=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("api-server"), [USER]) as found:
        install(found, f"controller.maxEpcMiBPerNode={MAXIMUM}")
        yield found


@pytest.fixture(scope="module")
def plugins():
    with Plugins().answering() as found:
        yield found


@pytest.fixture
def objects(server):
    """Administration; what a case makes is removed after it."""
    made = Objects(server)
    yield made
    made.client.close()
    server.kubectl("delete", "pods", "--all", "--all-namespaces", "--force")
    server.kubectl("delete", "nodes", "--all")
    server.kubectl("delete", "events", "--all")


@pytest.fixture
def controller(server, plugins, objects):
    plugins.document = inventory(64)
    with controlling(server, plugins.port, *FLAGS) as found:
        until(found.is_ready, "the controller is ready")
        yield found


def plugin_on(objects, plugins, node):
    objects.add_pod(f"plugin-{node}", node, namespace=SYSTEM, ip=plugins.address, plugin=True)


def becomes(objects, node, mib, *, seconds=60.0):
    until(lambda: objects.amounts(node) == (mib, mib), f"{node} has {mib} MiB", seconds=seconds)


def test_what_the_plugin_found_becomes_capacity_and_allocatable_and_stays_so(objects, plugins, controller):
    objects.add_node("n1")
    plugin_on(objects, plugins, "n1")
    becomes(objects, "n1", "64")
    for wiped in ("0", None):
        objects.set_status("n1", {"capacity": {EPC: wiped}, "allocatable": {EPC: wiped}})
        becomes(objects, "n1", "64")
    assert controller.end() == 0


def test_devices_are_never_touched(objects, plugins, controller):
    plugins.document = inventory(64, kind="device")
    objects.add_node("n1", {"capacity": {"cpu": "4", EPC: "28"}, "allocatable": {"cpu": "4", EPC: "28"}})
    plugin_on(objects, plugins, "n1")
    until(lambda: controller.metric("inventories_total") == 1, "the plugin was asked")
    objects.delete_pod("plugin-n1", SYSTEM)
    until(lambda: controller.metric("plugins") == 0, "the plugin is gone")
    objects.add_node("n2")
    plugins.document = inventory(32)
    plugin_on(objects, plugins, "n2")
    becomes(objects, "n2", "32")
    assert objects.amounts("n1") == ("28", "28")


def test_the_key_goes_after_the_plugin_and_only_when_no_pod_requests_any(objects, plugins, controller):
    objects.add_node("n1")
    plugin_on(objects, plugins, "n1")
    becomes(objects, "n1", "64")
    objects.add_pod("tenant", "n1", mib=10)
    objects.delete_pod("plugin-n1", SYSTEM)
    until(lambda: controller.metric("waiting_nodes") == 1, "the key waits", seconds=4 * GONE_SECONDS)
    assert objects.amounts("n1") == ("64", "64")
    objects.delete_pod("tenant")
    becomes(objects, "n1", None)


def test_less_epc_than_pods_request_is_told_and_not_taken(objects, plugins, controller, server):
    objects.add_node("n1")
    plugin_on(objects, plugins, "n1")
    becomes(objects, "n1", "64")
    objects.add_pod("tenant", "n1", mib=40)
    objects.delete_pod("plugin-n1", SYSTEM)
    plugins.document = inventory(10)
    plugin_on(objects, plugins, "n1")
    becomes(objects, "n1", "40")
    until(lambda: "EpcShortfall" in server.kubectl("describe", "node", "n1"), "an Event tells it")
    objects.delete_pod("tenant")
    becomes(objects, "n1", "10")


def test_a_controller_that_was_away_takes_up_where_another_one_stopped(server, objects, plugins):
    plugins.document = inventory(64)
    objects.add_node("n1")
    plugin_on(objects, plugins, "n1")
    with controlling(server, plugins.port, *FLAGS) as first:
        becomes(objects, "n1", "64")
        first.process.kill()
        first.process.wait()
    objects.add_pod("tenant", "n1", mib=64)
    objects.delete_pod("plugin-n1", SYSTEM)
    assert objects.amounts("n1") == ("64", "64")
    with controlling(server, plugins.port, *FLAGS) as second:
        until(lambda: second.metric("waiting_nodes") == 1, "it knows the key for its own")
        objects.delete_pod("tenant")
        becomes(objects, "n1", None)


def test_two_controllers_do_no_harm(server, objects, plugins, controller):
    with controlling(server, plugins.port, *FLAGS, name="second") as second:
        until(second.is_ready, "the second one is ready")
        for number in range(10):
            objects.add_node(f"n{number}")
            plugin_on(objects, plugins, f"n{number}")
        for number in range(10):
            becomes(objects, f"n{number}", "64")
        assert controller.metric("rewrites_total") + second.metric("rewrites_total") <= 10
        objects.delete_pod("plugin-n0", SYSTEM)
        becomes(objects, "n0", None)
        assert objects.amounts("n1") == ("64", "64")


def test_an_api_server_that_was_away_is_followed_again(server, objects, plugins, controller):
    objects.add_node("n1")
    plugin_on(objects, plugins, "n1")
    becomes(objects, "n1", "64")
    server.stop()
    until(lambda: controller.metric("api_failures_total") > 0, "the controller notices")
    server.start()
    objects.add_node("n2")
    plugin_on(objects, plugins, "n2")
    becomes(objects, "n2", "64", seconds=90)
    assert controller.process.poll() is None


def test_a_node_that_is_not_chosen_gets_nothing(objects, plugins, controller):
    objects.add_node("n1", labels={})
    plugin_on(objects, plugins, "n1")
    until(lambda: controller.metric("write_failures_total") > 0, "the policy refuses")
    assert objects.amounts("n1") == (None, None)


EVERYTHING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "too-much"},
    # RBAC has no nodes/*.
    "rules": [{"apiGroups": [""], "resources": ["nodes", "nodes/status", "nodes/proxy"], "verbs": ["*"]}],
}
BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "too-much"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "too-much"},
    "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": USER}],
}


@pytest.fixture
def widened(server, objects):
    """The account with all rights on nodes, so that the policy alone confines it."""
    for thing in (EVERYTHING, BINDING):
        server.kubectl("apply", "--filename=-", stdin=json.dumps(thing))
    amounts = {"cpu": "4", "memory": "8Gi", "pods": "110", "sgx.intel.com/enclave": "1024", EPC: "64"}
    objects.add_node("n1", {"capacity": amounts, "allocatable": amounts | {"cpu": "3"}})
    with server.client(USER) as client:
        # The API server takes a moment to know the binding.
        until(lambda: client.get("/api/v1/nodes/n1/status").status_code == 200, "the rights are there")
        yield client
    server.kubectl("delete", "clusterrolebinding,clusterrole", "too-much")


STATUS, NODE = "/api/v1/nodes/n1/status", "/api/v1/nodes/n1"
STRATEGIC, JSON_PATCH = "application/strategic-merge-patch+json", "application/json-patch+json"
APPLY = "application/apply-patch+yaml"


def sent(client, body, path=STATUS, method="PATCH", content_type=MERGE):
    return client.request(method, path, content=json.dumps(body), headers={"Content-Type": content_type})


def amounts(capacity, allocatable=None):
    return {"status": {"capacity": capacity} | ({"allocatable": allocatable} if allocatable else {})}


REFUSED = {
    "cpu": amounts({"cpu": "8"}),
    "cpu-beside-ours": amounts({"cpu": "8", EPC: "32"}),
    "cpu-removed": amounts({"cpu": None}),
    "gpu": amounts({"nvidia.com/gpu": "1"}),
    "enclaves": amounts({"sgx.intel.com/enclave": "1"}),
    "enclaves-removed": amounts({"sgx.intel.com/enclave": None}),
    "no-capacity": amounts(None),
    "no-status": {"status": None},
    "allocatable-cpu": {"status": {"allocatable": {"cpu": "8"}}},
    "allocatable-gpu": {"status": {"allocatable": {"nvidia.com/gpu": "1"}}},
    "no-allocatable": {"status": {"allocatable": None}},
    "zero": amounts({EPC: "0"}),
    "zero-allocatable": {"status": {"allocatable": {EPC: "0"}}},
    "too-much": amounts({EPC: str(MAXIMUM + 1)}),
    "too-much-allocatable": {"status": {"allocatable": {EPC: "1Ti"}}},
    "condition": {"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "x", "message": "x"}]}},
    "addresses": {"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}},
    "endpoints": {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}},
    "node-info": {"status": {"nodeInfo": {"kernelVersion": "x"}}},
    "images": {"status": {"images": [{"names": ["x"], "sizeBytes": 1}]}},
    "volumes-attached": {"status": {"volumesAttached": [{"name": "x", "devicePath": "x"}]}},
    "volumes-in-use": {"status": {"volumesInUse": ["x"]}},
    "phase": {"status": {"phase": "Running"}},
    "features": {"status": {"features": {"supplementalGroupsPolicy": True}}},
    "runtime-handlers": {"status": {"runtimeHandlers": [{"name": "x"}]}},
    "declared-features": {"status": {"declaredFeatures": ["X"]}},
    "labels": {"metadata": {"labels": {"x": "y"}}},
    "annotations": {"metadata": {"annotations": {"x": "y"}}},
    "finalizers": {"metadata": {"finalizers": ["example.com/x"]}},
    "owners": {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "x"}]}},
}


def test_the_policy_refuses_everything_but_the_ledgers_keys(widened):
    before = widened.get(NODE).json()
    answers = {name: sent(widened, body) for name, body in REFUSED.items()}
    refused = {name for name, one in answers.items() if one.status_code == 403 and "confcom-controller" in one.text}
    assert {name: answers[name].status_code for name in REFUSED.keys() - refused} == {}
    after = widened.get(NODE).json()
    assert (after["status"], after["metadata"]["labels"]) == (before["status"], before["metadata"]["labels"])


def test_the_policy_refuses_other_ways_than_a_patch_of_the_status(widened):
    node = widened.get(NODE).json()
    forced = "?fieldManager=x&force=true"
    apply = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
    answers = {
        "label": sent(widened, {"metadata": {"labels": {"x": "y"}}}, NODE),
        "taint": sent(widened, {"spec": {"taints": [{"key": "x", "effect": "NoExecute"}]}}, NODE),
        "put": sent(widened, node | {"metadata": node["metadata"] | {"labels": {}}}, STATUS, "PUT", "application/json"),
        "apply-cpu": sent(widened, apply | amounts({"cpu": "8"}), STATUS + forced, "PATCH", APPLY),
        "apply-label": sent(
            widened, apply | {"metadata": {"name": "n1", "labels": {"x": "y"}}}, NODE + forced, "PATCH", APPLY
        ),
        "create": sent(widened, {"metadata": {"name": "n2"}}, "/api/v1/nodes", "POST", "application/json"),
        "delete": widened.delete(NODE),
        "delete-all": widened.delete("/api/v1/nodes"),
        "proxy": widened.get(f"{NODE}/proxy/pods"),
        "dry-run": sent(widened, amounts({"cpu": "8"}), STATUS + "?dryRun=All"),
    }
    assert {name: one.status_code for name, one in answers.items() if one.status_code != 403} == {}
    assert all("confcom-controller" in one.text for one in answers.values())


def test_the_api_server_itself_refuses_what_is_no_amount(widened):
    assert {sent(widened, amounts({EPC: amount})).status_code for amount in ("-3", "1500m", "x")} <= {400, 403, 422}
    assert widened.get(NODE).json()["status"]["capacity"][EPC] == "64"


def test_the_policy_accepts_the_ledgers_key_in_every_kind_of_patch(widened):
    apply = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
    path = f"/status/capacity/{EPC.replace('/', '~1')}"
    answers = [
        sent(widened, amounts({EPC: "10"}, {EPC: "10"})),
        sent(widened, amounts({EPC: "11"}), content_type=STRATEGIC),
        sent(widened, [{"op": "replace", "path": path, "value": "12"}], content_type=JSON_PATCH),
        sent(widened, apply | amounts({EPC: "13"}), STATUS + "?fieldManager=x&force=true", "PATCH", APPLY),
        sent(widened, amounts({EPC: str(MAXIMUM)}, {EPC: str(MAXIMUM)})),
        sent(widened, amounts({EPC: None}, {EPC: None})),
    ]
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert EPC not in widened.get(NODE).json()["status"]["capacity"]


def test_a_node_that_is_not_chosen_can_only_lose_its_key(widened, objects):
    objects.send("PATCH", NODE, {"metadata": {"labels": {"confcom.internal/simulated-sgx": None}}}, MERGE)
    assert sent(widened, amounts({EPC: "10"})).status_code == 403
    assert sent(widened, {"status": {"allocatable": {EPC: "10"}}}).status_code == 403
    assert sent(widened, amounts({EPC: None}, {EPC: None})).status_code == 200


def test_everybody_else_is_untouched(widened, objects):
    objects.set_status("n1", {"capacity": {"cpu": "8", EPC: "0"}, "phase": "Running"})
    assert objects.amounts("n1")[0] == "0"
