"""The controller beside a real API server: what it writes, what it survives, and what its account may not do."""

import json

import pytest

from e2e.controller_tries import (
    NODES,
    TOO_MUCH,
    Try,
    amounts,
    everything_on_nodes,
    other_changes,
    other_ways,
    own_changes,
)
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


@pytest.fixture
def widened(server, objects):
    """The account with all rights on nodes, so that the policy alone confines it."""
    server.kubectl("apply", "--filename=-", stdin=json.dumps(everything_on_nodes(USER)))
    has = {"cpu": "4", "memory": "8Gi", "pods": "110", "sgx.intel.com/enclave": "1024", EPC: "64"}
    objects.add_node("n1", {"capacity": has, "allocatable": has | {"cpu": "3"}})
    with server.client(USER) as client:
        # The API server takes a moment to know the binding.
        until(lambda: client.get("/api/v1/nodes/n1/status").status_code == 200, "the rights are there")
        yield client
    server.kubectl("delete", "clusterrolebinding,clusterrole", TOO_MUCH)


STATUS, NODE = f"{NODES}/n1/status", f"{NODES}/n1"


def codes(client, tries):
    """By name, the status of each answer that does not come from the policy."""
    answers = {name: one.sent(client) for name, one in tries.items()}
    refused = {name for name, one in answers.items() if one.status_code == 403 and "confcom-controller" in one.text}
    return {name: one.status_code for name, one in answers.items() if name not in refused}


def test_the_policy_refuses_everything_but_the_ledgers_keys(widened):
    before = widened.get(NODE).json()
    assert codes(widened, other_changes("n1", MAXIMUM)) == {}
    after = widened.get(NODE).json()
    assert (after["status"], after["metadata"]["labels"]) == (before["status"], before["metadata"]["labels"])


def test_the_policy_refuses_other_ways_than_a_patch_of_the_status(widened):
    assert codes(widened, other_ways(widened.get(NODE).json())) == {}


def test_the_api_server_itself_refuses_what_is_no_amount(widened):
    tries = [Try(STATUS, amounts({EPC: amount})) for amount in ("-3", "1500m", "x")]
    assert {one.sent(widened).status_code for one in tries} <= {400, 403, 422}
    assert widened.get(NODE).json()["status"]["capacity"][EPC] == "64"


def test_the_policy_accepts_the_ledgers_key_in_every_kind_of_patch(widened):
    answers = {name: one.sent(widened).status_code for name, one in own_changes("n1", MAXIMUM).items()}
    assert set(answers.values()) == {200}, answers
    assert EPC not in widened.get(NODE).json()["status"]["capacity"]


def test_a_node_that_is_not_chosen_can_only_lose_its_key(widened, objects):
    objects.send("PATCH", NODE, {"metadata": {"labels": {"confcom.internal/simulated-sgx": None}}}, MERGE)
    for given in (amounts({EPC: "10"}), {"status": {"allocatable": {EPC: "10"}}}):
        assert Try(STATUS, given).sent(widened).status_code == 403
    assert Try(STATUS, amounts({EPC: None}, {EPC: None})).sent(widened).status_code == 200


def test_everybody_else_is_untouched(widened, objects):
    objects.set_status("n1", {"capacity": {"cpu": "8", EPC: "0"}, "phase": "Running"})
    assert objects.amounts("n1")[0] == "0"
