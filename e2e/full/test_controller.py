"""The controller beside a real API server: its writes, its recovery from faults, limits of its account."""

import json

import pytest

from e2e.add_on import EPC, SYSTEM
from e2e.plain_api_server import serving
from e2e.plain_controller import LABELS, MERGE, USER, Objects, Plugins, controlling, install, inventory
from e2e.waiting import until

GONE_SECONDS = 5
FLAGS = (f"--gone-seconds={GONE_SECONDS}",)
MAXIMUM = 4096

NODE, STATUS = "/api/v1/nodes/n1", "/api/v1/nodes/n1/status"
CORE, OURS, EVENTS = "/api/v1", f"/api/v1/namespaces/{SYSTEM}", "/api/v1/namespaces/default/events"
STRATEGIC, JSON_PATCH = "application/strategic-merge-patch+json", "application/json-patch+json"
APPLY, PLAIN = "application/apply-patch+yaml", "application/json"
FORCED = "?fieldManager=x&force=true"
NAMED = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
ALL_RIGHTS = "too-much"

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
    """An administrator's client; when the case ends, the fixture removes the objects that the case made."""
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


def becomes(objects, node, mib):
    until(lambda: objects.amounts(node) == (mib, mib), f"{node} has {mib} MiB")


@pytest.mark.usefixtures("controller")
def test_less_epc_than_pods_request_is_told_and_not_taken(objects, plugins, server):
    objects.add_node("n1")
    plugin_on(objects, plugins, "n1")
    becomes(objects, "n1", "64")
    objects.set_status("n1", {"capacity": {EPC: "0"}, "allocatable": {EPC: "0"}})  # like a starting kubelet
    becomes(objects, "n1", "64")
    objects.add_pod("tenant", "n1", mib=40)
    objects.delete_pod("plugin-n1", SYSTEM)
    plugins.document = inventory(10)
    plugin_on(objects, plugins, "n1")
    becomes(objects, "n1", "40")
    until(lambda: "EpcShortfall" in server.kubectl("describe", "node", "n1"), "an Event tells it")
    objects.delete_pod("tenant")
    becomes(objects, "n1", "10")


def amounts(capacity, allocatable=None):
    return {"status": {"capacity": capacity} | ({"allocatable": allocatable} if allocatable else {})}


OTHER_STATUS = {
    "cpu": amounts({"cpu": "8"}),
    "cpu-removed": amounts({"cpu": None}),
    "gpu": amounts({"nvidia.com/gpu": "1"}),
    "no-status": {"status": None},
    "allocatable-cpu": {"status": {"allocatable": {"cpu": "8"}}},
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
    "features": {"status": {"features": {"supplementalGroupsPolicy": False}}},
    "runtime-handlers": {"status": {"runtimeHandlers": [{"name": "x"}]}},
    "declared-features": {"status": {"declaredFeatures": ["X"]}},
    "labels": {"metadata": {"labels": {"x": "y"}}},
    "annotations": {"metadata": {"annotations": {"x": "y"}}},
    "finalizers": {"metadata": {"finalizers": ["example.com/x"]}},
    "owners": {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "x"}]}},
}
"""Patches of the node's status that the policy refuses."""
OTHER_WAYS = {
    "label": ("PATCH", NODE, {"metadata": {"labels": {"x": "y"}}}, MERGE),
    "taint": ("PATCH", NODE, {"spec": {"taints": [{"key": "x", "effect": "NoExecute"}]}}, MERGE),
    "apply-cpu": ("PATCH", STATUS + FORCED, NAMED | amounts({"cpu": "8"}), APPLY),
    "apply-label": ("PATCH", NODE + FORCED, NAMED | {"metadata": {"name": "n1", "labels": {"x": "y"}}}, APPLY),
    "create": ("POST", "/api/v1/nodes", {"metadata": {"name": "n2"}}, PLAIN),
    "delete": ("DELETE", NODE, None, PLAIN),
    "delete-all": ("DELETE", "/api/v1/nodes", None, PLAIN),
    "proxy": ("GET", f"{NODE}/proxy/pods", None, PLAIN),
    "dry-run": ("PATCH", f"{STATUS}?dryRun=All", amounts({"cpu": "8"}), MERGE),
}
"""Requests about nodes that are not patches of a status, or have another form; the policy refuses them."""
OWN_STATUS = {
    "merge": (STATUS, amounts({EPC: "10"}, {EPC: "10"}), MERGE),
    "strategic": (STATUS, amounts({EPC: "11"}), STRATEGIC),
    "json-patch": (
        STATUS,
        [{"op": "replace", "path": f"/status/capacity/{EPC.replace('/', '~1')}", "value": "12"}],
        JSON_PATCH,
    ),
    "apply": (STATUS + FORCED, NAMED | amounts({EPC: "13"}), APPLY),
    "maximum": (STATUS, amounts({EPC: str(MAXIMUM)}, {EPC: str(MAXIMUM)}), MERGE),
    "remove": (STATUS, amounts({EPC: None}, {EPC: None}), MERGE),
}
NO_RIGHT = {
    "get-status": ("GET", STATUS, None),
    "delete-node": ("DELETE", NODE, None),
    "proxy-to-kubelet": ("GET", f"{NODE}/proxy/configz", None),
    "get-pod": ("GET", f"{CORE}/namespaces/default/pods/x", None),
    "create-pod": ("POST", f"{OURS}/pods", {"metadata": {"name": "x"}}),
    "delete-pods": ("DELETE", f"{OURS}/pods", None),
    "exec": ("POST", f"{OURS}/pods/x/exec?command=id", None),
    "pod-status": ("PATCH", f"{OURS}/pods/x/status", {"status": {"phase": "Failed"}}),
    "secrets": ("GET", f"{CORE}/secrets", None),
    "events": ("GET", EVENTS, None),
    "event-elsewhere": ("POST", f"{OURS}/events", {"metadata": {"name": "x"}}),
}
"""Requests that RBAC refuses."""


def send(client, method, path, body=None, content_type=MERGE):
    content = None if body is None else json.dumps(body)
    return client.request(method, path, content=content, headers={"Content-Type": content_type})


def not_refused(answers, by):
    """Statuses, keyed by name, of all answers except refusals by `by` (the policy or RBAC)."""
    return {name: one.status_code for name, one in answers.items() if one.status_code != 403 or by not in one.text}


BY_POLICY, BY_RBAC = "ValidatingAdmissionPolicy 'confcom-controller'", f'User \\"{USER}\\" cannot'


@pytest.fixture
def account(server, objects):
    """A client with the controller's token, in a cluster of one node with EPC as capacity."""
    has = {"cpu": "4", "memory": "8Gi", "pods": "110", "sgx.intel.com/enclave": "1024", EPC: "64"}
    objects.add_node("n1", {"capacity": has, "allocatable": has | {"cpu": "3"}})
    with server.client(USER) as client:
        until(lambda: client.get(NODE).status_code == 200, "the API server knows its rights")
        yield client


@pytest.fixture
def widened(server, account):
    """The controller's account with all rights on nodes, so that only the policy confines it."""
    rights = ("--verb=*", "--resource=nodes,nodes/status,nodes/proxy")
    server.kubectl("create", "clusterrole", ALL_RIGHTS, *rights)
    server.kubectl("create", "clusterrolebinding", ALL_RIGHTS, f"--clusterrole={ALL_RIGHTS}", f"--user={USER}")
    until(lambda: account.get(STATUS).status_code == 200, "the API server knows the binding")
    until(lambda: send(account, *OTHER_WAYS["dry-run"]).status_code == 403, "the policy is in force")
    yield account
    server.kubectl("delete", "clusterrolebinding,clusterrole", ALL_RIGHTS)


def test_its_token_may_do_its_own_work_and_nothing_else(account):
    answers = {name: send(account, *one) for name, one in NO_RIGHT.items()}
    assert not_refused(answers, BY_RBAC) == {}
    for path in ("/api/v1/nodes?limit=1", NODE, "/api/v1/pods?limit=1", "/api/v1/nodes?watch=true&timeoutSeconds=1"):
        assert account.get(path).status_code == 200
    event = {"metadata": {"generateName": "case-"}, "involvedObject": {"kind": "Node", "name": "n1"}, "type": "Normal"}
    assert send(account, "POST", EVENTS, event, PLAIN).status_code == 201
    written = {name: send(account, "PATCH", *one).status_code for name, one in OWN_STATUS.items()}
    assert written == dict.fromkeys(OWN_STATUS, 200)
    assert EPC not in account.get(NODE).json()["status"]["capacity"]


def test_the_policy_refuses_everything_but_the_ledgers_keys(widened):
    before = widened.get(NODE).json()
    patches = {name: send(widened, "PATCH", STATUS, body) for name, body in OTHER_STATUS.items()}
    assert not_refused(patches, BY_POLICY) == {}
    ways = {name: send(widened, *one) for name, one in OTHER_WAYS.items()}
    whole = {**before, "metadata": {**before["metadata"], "labels": {}, "resourceVersion": ""}}
    ways["put"] = send(widened, "PUT", STATUS, whole, PLAIN)
    assert not_refused(ways, BY_POLICY) == {}
    # The API server itself refuses values that are no amount.
    for amount in ("-3", "1500m", "x"):
        assert send(widened, "PATCH", STATUS, amounts({EPC: amount})).status_code in {400, 403, 422}
    after = widened.get(NODE).json()
    assert (after["status"], after["metadata"]["labels"]) == (before["status"], before["metadata"]["labels"])


def test_a_node_that_is_not_chosen_can_only_lose_its_key(widened, objects):
    objects.send("PATCH", NODE, {"metadata": {"labels": dict.fromkeys(LABELS)}}, MERGE)
    for given in (amounts({EPC: "10"}), {"status": {"allocatable": {EPC: "10"}}}):
        assert send(widened, "PATCH", STATUS, given).status_code == 403
    assert send(widened, "PATCH", STATUS, amounts({EPC: None}, {EPC: None})).status_code == 200
    # The policy does not confine other users.
    objects.set_status("n1", {"capacity": {"cpu": "8", EPC: "0"}, "phase": "Running"})
    assert objects.amounts("n1")[0] == "0"
