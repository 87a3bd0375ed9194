import asyncio
import json
import sys

import pytest
from prometheus_client import CollectorRegistry

from confcom.controller import node_patches as limits
from confcom.controller.decision import Rules
from confcom.controller.facts import node_facts
from confcom.controller.facts import plugin_pod as read_plugin_pod
from confcom.controller.metrics import ControllerMetrics
from confcom.controller.node_patches import NodePatches
from confcom.controller.state import ClusterState
from confcom.kubernetes.epc_accounting import AccountingKind
from confcom.kubernetes.inventory import EpcOffer
from testkit.conditions import until
from testkit.controller import EPC, NODE, RELEASE, http, node, plugin_pod, pod, written

RULES = Rules((EPC,), 1000, 300)
PODS = "/api/v1/pods"
REFUSED, CONFLICT = http(403, {"message": "denied"}), http(409, {"message": "changed"})


def tenant(mib, name="t", **more):
    return pod({EPC: str(mib)}, name, **more)


class Setting:
    def __init__(self, server, connection):
        self.now = 0.0
        self.server = server
        self.state = ClusterState(RULES, lambda: self.now)
        self.registry = CollectorRegistry()
        self.patches = NodePatches(
            self.state,
            connection,
            RELEASE,
            ControllerMetrics(self.registry),
            lambda: self.now,
        )

    def has(self, thing, mib=None):
        self.server.put("nodes", thing, told=False)
        self.watch()
        if mib is not None:
            self.server.put("pods", plugin_pod(), told=False)
            self.answer(mib)

    def watch(self):
        self.state.set_node(node_facts(self.server.objects["nodes"][NODE], RULES.resources))

    def answer(self, mib):
        plugin = read_plugin_pod(plugin_pod(), RELEASE)
        self.state.set_plugin(plugin)
        self.state.set_offer(plugin, EpcOffer(AccountingKind.CAPACITY, EPC, None, mib))

    def runs(self, *pods):
        for one in pods:
            self.server.put("pods", one, told=False)

    async def apply(self):
        lanes = ((self.patches._quick, limits.QUICK_SECONDS), (self.patches._slow, limits.SLOW_SECONDS))
        while self.state.changed or self.patches._queued:
            await self.patches.apply()
            for queue, seconds in lanes:
                while not queue.empty():
                    await self.patches._read(queue.get_nowait(), seconds)

    async def pass_time(self, seconds):
        for _ in range(seconds):
            self.now += 1
            self.patches.tick()
            await self.apply()

    @property
    def amounts(self):
        return [patch["status"]["capacity"][EPC] for patch in self.server.patches]

    @property
    def events(self):
        return list(self.server.objects["events"].values())

    def sample(self, name, **labels):
        return self.registry.get_sample_value(f"confcom_controller_{name}", labels)


@pytest.fixture
def setting(server, connection):
    return Setting(server, connection)


async def test_capacity_and_allocatable_are_written_once(setting):
    setting.has(node({}), 64)
    await setting.apply()
    await setting.pass_time(200)
    assert setting.server.patches == [{"status": {"capacity": {EPC: "64"}, "allocatable": {EPC: "64"}}}]
    assert setting.server.queries(PODS) == [], "a new amount needs no Pods"
    assert setting.patches._writes._last == {}, "what is kept of a node ends with its pauses"
    assert setting.sample("writes_total", kind="give") == 1


TAKEN = {
    "all that the plugin does not have": ((), "10"),
    "not what a Pod requests": ((tenant(40),), "40"),
    "nor what several do, on many pages": (
        [tenant(1, f"t{number}") for number in range(2 * limits.POD_PAGE + 1)],
        "33",
    ),
    "nor what no kubelet has accepted yet": ((tenant(40, accepted=False),), "40"),
    "what Pods of other nodes request": ((tenant(40, on="other"),), "10"),
}


@pytest.mark.parametrize(("pods", "amount"), TAKEN.values(), ids=TAKEN)
async def test_what_is_taken_is_decided_by_the_pods_of_the_node(setting, pods, amount):
    setting.has(written("64"), 10)
    setting.runs(*pods)
    await setting.apply()
    assert setting.amounts == [amount]
    assert setting.server.patches[0]["metadata"] == {"resourceVersion": "2"}
    query = setting.server.queries(PODS)[0]
    ended = ["status.phase!=Failed", "status.phase!=Succeeded"]
    assert sorted(query["fieldSelector"].split(",")) == [f"spec.nodeName={NODE}", *ended]
    assert query["limit"] == str(limits.POD_PAGE)
    assert len(setting.events) == (0 if amount == "10" else 1)


async def test_a_watch_that_has_fallen_behind_takes_nothing(setting):
    setting.has(written("64"))
    setting.runs(plugin_pod())
    await setting.apply()
    await setting.pass_time(301)
    assert setting.amounts == []
    setting.answer(10)
    setting.server.put("nodes", node({EPC: "8"}), told=False)
    await setting.apply()
    assert setting.amounts == ["10"], "the node is read again, too"


async def test_a_change_seen_before_the_own_answer_is_not_forgotten(setting):
    setting.has(node({}), 64)

    def wipe():
        setting.server.meanwhile = lambda: None
        setting.server.put("nodes", node({EPC: "0"}), told=False)
        setting.watch()

    setting.server.meanwhile = wipe
    await setting.apply()
    await setting.pass_time(60)
    assert setting.amounts == ["64", "64"]


async def test_the_key_is_removed_in_time_and_after_all_pods(setting):
    setting.has(written("64"))
    setting.runs(tenant(3))
    await setting.apply()
    await setting.pass_time(299)
    assert setting.server.queries(PODS) == []
    await setting.pass_time(300)
    assert setting.amounts == []
    assert 10 <= setting.sample("pod_reads_total") <= 15
    setting.server.delete("pods", "t", told=False)
    await setting.pass_time(30)
    assert setting.server.patches[0]["status"] == {"capacity": {EPC: None}, "allocatable": {EPC: None}}
    await setting.pass_time(80)
    assert len(setting.amounts) == 1
    assert dict(setting.state.nodes) == {}, "it needs nothing any more"
    assert setting.patches._reads._last == {}, "what is kept of a node ends with its pauses"
    assert setting.sample("writes_total", kind="remove") == 1


@pytest.mark.parametrize("deleted_later", [False, True])
async def test_a_node_that_the_watch_has_lost(setting, deleted_later):
    setting.has(written("64"))
    setting.state.doubt_node(NODE)
    await setting.apply()
    assert list(setting.state.nodes) == [NODE], "it has lost its label only"
    if deleted_later:
        setting.server.delete("nodes", NODE, told=False)  # the watches do not report the deletion
    await setting.pass_time(310)
    assert setting.amounts == ([] if deleted_later else [None])
    assert dict(setting.state.nodes) == {}
    assert (setting.patches._later, setting.state._missing_since) == (set(), {})


async def test_a_node_that_gets_a_plugin_and_is_not_known_is_read(setting):
    setting.server.put("nodes", node({}), told=False)
    setting.answer(64)
    setting.server.answers = [http(503, b"")]
    await setting.apply()
    assert setting.amounts == []
    await setting.pass_time(5)
    assert setting.amounts == ["64"]


async def test_a_plugin_on_a_node_that_is_gone_is_no_trouble(setting):
    setting.answer(64)
    await setting.apply()
    await setting.pass_time(60)
    assert len(setting.server.log) == 1


async def test_a_refused_write_is_counted_and_repeated_more_rarely(setting):
    setting.has(node({}), 64)
    setting.server.answers = [REFUSED] * 1000
    await setting.apply()
    await setting.pass_time(300)
    assert 10 <= setting.sample("write_failures_total", code="api-server-refused") <= 16
    setting.server.answers = []
    await setting.pass_time(30)
    assert setting.amounts == ["64"]


async def test_who_overwrites_the_capacity_is_not_fought_without_pause(setting):
    setting.has(node({}), 64)
    await setting.apply()
    for _ in range(300):
        setting.server.put("nodes", node({EPC: "0"}), told=False)
        setting.watch()
        await setting.pass_time(1)
    assert 10 <= len(setting.amounts) <= 16
    assert setting.sample("rewrites_total") == len(setting.amounts) - 1


async def test_a_shortfall_is_told_once_and_when_it_changes(setting):
    setting.has(written("64"), 10)
    setting.runs(tenant(40))
    await setting.apply()
    await setting.pass_time(60)
    (event,) = setting.events
    assert event["involvedObject"] == {"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": "u"}
    assert (event["reason"], setting.sample("shortfall_nodes")) == ("EpcShortfall", 1)
    setting.runs(tenant(45))
    await setting.pass_time(30)
    assert len(setting.events) == 2
    await setting.pass_time(1830)
    assert len(setting.events) == 3
    setting.answer(100)
    await setting.pass_time(30)
    assert (setting.sample("shortfall_nodes"), setting.amounts[-1]) == (0, "100")
    before = setting.sample("pod_reads_total")
    await setting.pass_time(60)
    assert setting.sample("pod_reads_total") == before


async def test_the_shortfall_of_a_node_that_is_gone_is_none(setting):
    setting.has(written("64"), 10)
    setting.runs(tenant(40))
    await setting.apply()
    assert setting.sample("shortfall_nodes") == 1
    setting.state.remove_node(NODE)
    setting.state.remove_plugin("p")
    await setting.pass_time(1)
    assert setting.sample("shortfall_nodes") == 0


async def test_an_event_that_was_refused_is_created_later(setting):
    setting.has(written("64"), 40)
    setting.runs(tenant(50))
    setting.server.answers = [None, None, None, REFUSED]
    await setting.apply()
    assert (setting.amounts, setting.events) == (["50"], [])
    await setting.pass_time(60)
    assert len(setting.events) == 1


async def test_nodes_do_not_wait_for_those_whose_pods_take_long(setting, monkeypatch):
    monkeypatch.setattr(limits, "QUICK_SECONDS", 0.3)
    slow = [f"slow{number}" for number in range(3)]
    read_pods, turns = NodePatches._read_pods, dict.fromkeys(slow, 0)

    async def hang(patches, name, seconds):
        if name not in slow:
            return await read_pods(patches, name, seconds)
        turns[name] += 1
        await asyncio.sleep(seconds)
        raise TimeoutError

    monkeypatch.setattr(NodePatches, "_read_pods", hang)
    for name in slow:
        setting.server.put("nodes", written("64", name=name), told=False)
        plugin = read_plugin_pod(plugin_pod(name), RELEASE)._replace(node=name)
        setting.state.set_plugin(plugin)
        setting.state.set_offer(plugin, EpcOffer(AccountingKind.CAPACITY, EPC, None, 10))
    task = asyncio.ensure_future(setting.patches.run([]))
    await until(lambda: all(turns.values()))
    setting.now += 10
    await until(lambda: setting.patches._slow_nodes == set(slow))
    setting.patches.tick()
    setting.patches.wake()
    await until(lambda: max(turns.values()) == 2)  # a slow node has had its second turn
    setting.has(node({EPC: "0"}), 10)
    setting.patches.wake()
    begun = asyncio.get_running_loop().time()
    await until(lambda: setting.amounts)
    assert asyncio.get_running_loop().time() - begun < limits.SLOW_SECONDS / 5
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert setting.sample("write_failures_total", code="pods-not-read") == len(slow)


async def test_pods_that_are_not_read_in_time(setting):
    with pytest.raises(TimeoutError):
        await setting.patches._read_pods(NODE, 0)


UNREADABLE = http(503, b""), http(200, b"<html>"), http(410, {"message": "too old"})


@pytest.mark.parametrize("answers", [*((None, answer) for answer in UNREADABLE), (None, None, CONFLICT)])
async def test_what_is_not_read_or_in_conflict_is_tried_again(setting, caplog, answers):
    setting.has(written("64"), 10)
    setting.server.answers = list(answers)
    await setting.apply()
    assert setting.amounts == []
    # Conflicts are usual, so the controller does not warn of them.
    assert [one.levelname for one in caplog.records].count("WARNING") == (answers[-1] != CONFLICT)
    await setting.pass_time(5)
    assert setting.amounts == ["10"]


async def test_nothing_is_written_before_all_is_listed(setting):
    setting.has(node({}), 64)
    listed = [asyncio.Event(), asyncio.Event()]
    listed[0].set()
    task = asyncio.ensure_future(setting.patches.run(listed))
    await asyncio.sleep(0.05)
    assert setting.server.log == []
    listed[1].set()
    await until(lambda: setting.amounts)
    setting.server.put("nodes", node({EPC: "0"}), told=False)
    setting.watch()
    setting.now += 10
    setting.patches.wake()
    await until(lambda: len(setting.amounts) == 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


FILLED = {
    "text": json.dumps({"x": "y" * 8_000_000}),
    "small things": json.dumps([{"name": "a"}] * 600_000),
    "names": json.dumps({f"a{number}": "" for number in range(600_000)}),
}
READERS = 2
PEAK = """
import asyncio, sys
from prometheus_client import CollectorRegistry
from confcom.controller.node_patches import NodePatches
from confcom.controller.metrics import ControllerMetrics
from confcom.controller.decision import Rules
from confcom.controller.state import ClusterState
from testkit.controller import EPC, RELEASE, connection_to

async def main():
    state, metrics = ClusterState(Rules((EPC,), 1, 1), None), ControllerMetrics(CollectorRegistry())
    patches = NodePatches(state, connection_to(sys.argv[1]), RELEASE, metrics, None)
    found = await asyncio.gather(*(patches._read_pods("n", 60) for _ in range(int(sys.argv[2]))))
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(sum(one.requested[0].bound for one in found), int(lines["VmHWM"].split()[0]) // 1024)

asyncio.run(main())
"""


@pytest.mark.parametrize("name", FILLED)
async def test_pods_that_a_tenant_fills_are_read_in_little_memory(server, name):
    page = json.dumps(tenant(1)).replace('"spec": {', f'"spec": {{"env": {FILLED[name]}, ', 1)
    for more in [*["1"] * 2 * READERS, *[""] * READERS]:
        metadata = json.dumps({"resourceVersion": "7", "continue": more})
        server.answers.append(http(200, f'{{"metadata": {metadata}, "items": [{page}]}}'.encode()))
    command = [sys.executable, "-c", PEAK, str(server.port), str(READERS)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    bound, mib = map(int, (await process.communicate())[0].split())
    assert bound == 3 * READERS
    assert mib < 90
