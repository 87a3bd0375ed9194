"""An update: a second instance comes while the first runs, then the first ends. Real plugins, the kubelet stand-in.

How long a resource is lost and how many pods that costs is printed (`-rP` or `-s` shows it); what is asserted is what
must hold on any machine.
"""

import asyncio
import json
import os
import signal
import sys

import grpc
import pytest

from confcom.device_plugin.resources import EPC_RESOURCE
from confcom.playground.api.views import JobStatus, Phase
from confcom.playground.kubelet.plugin_registry import KubeletRules
from confcom.playground.layout import Layout
from confcom.playground.node import NAME
from testkit.plugin_process import Instance
from testkit.watched_node import WatchedNode

EPC_MIB = 168
BURST = 80
BURST_PAUSE_SECONDS = 0.005
"""Between two pods, so that the burst lasts several times as long as the gap."""
REJECTIONS = (
    "no healthy devices present",
    "endpoint of ",
    "rpc error: code = Unavailable",
    "rpc error: code = Canceled",
)
"""Why a kubelet may reject a pod while one instance hands over to the next."""


@pytest.fixture
def layout(short_dir):
    made = Layout(short_dir)
    made.create()
    return made


@pytest.fixture(params=list(KubeletRules), ids=str)
async def node(request, layout):
    one = WatchedNode(layout, request.param)
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
async def start(node, layout):
    started = []

    async def start_one():
        simulated = ("--simulated", "--simulated-epc-mib", str(EPC_MIB))
        started.append(await Instance.start_on(layout, f"p{len(started)}", *simulated))
        return started[-1]

    yield start_one
    for instance in started:
        await instance.end()


@pytest.fixture
async def old(node, start):
    """An instance whose list the kubelet has."""
    instance = await start()
    await node.until(full)
    return instance


def full(state):
    return state.node.allocatable.get(EPC_RESOURCE) == EPC_MIB


async def register_call(node, number):
    await node.until(lambda _: node.register_calls[EPC_RESOURCE] >= number)


async def followed(node, instance):
    """Until the kubelet follows every list of an instance, and would ask it to allocate."""
    await instance.ready()
    directory = node._layout.device_plugin_dir
    of = {name: directory / one["socket"] for name, one in (await instance.resources()).items()}
    await node.until(lambda _: all(node.followed[path] == 1 and node.asked(name) == path for name, path in of.items()))


def age(node):
    """Let every socket be from a minute ago: who comes now can tell that it registers later than their instances."""
    for path in node._layout.device_plugin_dir.glob("sgx-*"):
        then = path.lstat().st_mtime - 60
        os.utime(path, (then, then))


def epc_pod(mib, image="true"):
    """A pod that the scheduler has given to the node: its view of allocatable is older than the kubelet's."""
    container = {"name": "main", "image": image, "resources": {"limits": {EPC_RESOURCE: mib}}}
    return {"restartPolicy": "Never", "nodeName": NAME, "terminationGracePeriodSeconds": 0, "containers": [container]}


def manifest(kind, name, spec):
    version = "batch/v1" if kind == "Job" else "v1"
    return json.dumps({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec})


def gaps(node, since):
    """Seconds without the full EPC, one number for each time that it was lost, seen at every change."""
    found, lost_at = [], None
    for at, allocatable in node.allocatable_history[since:]:
        is_full = allocatable.get(EPC_RESOURCE) == EPC_MIB
        if lost_at is None and not is_full:
            lost_at = at
        elif lost_at is not None and is_full:
            found.append(at - lost_at)
            lost_at = None
    return found if lost_at is None else [*found, float("inf")]


async def test_the_new_instance_is_ready_once_it_is_taken(node, old, start):
    node.admits.clear()
    new = await start()
    await register_call(node, 2)
    assert (await new.get("/readyz"))[0] == 503
    assert not any(one["registered"] for one in (await new.resources()).values())
    assert all(one["registered"] for one in (await old.resources()).values())
    node.admits.set()
    await followed(node, new)
    assert old.alive
    assert not gaps(node, 0)[1:], "allocatable fell when the second instance came"


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
async def test_a_burst_of_pods_across_the_hand_over(node, old, start, ending):
    node.apply(manifest("Pod", "holds", epc_pod(4, "sleep")))
    await node.until(lambda state: state.pod("holds").phase is Phase.RUNNING)
    held, began = node.held("holds"), len(node.allocatable_history)
    created, past_admission = 0, asyncio.Event()

    async def burst():
        nonlocal created
        for created in range(1, BURST + 1):
            node.apply(manifest("Job", f"job{created}", {"backoffLimit": 20, "template": {"spec": epc_pod(2)}}))
            await asyncio.sleep(BURST_PAUSE_SECONDS)
            if created == BURST // 4:
                await past_admission.wait()

    pods = asyncio.create_task(burst())
    age(node)
    new = await start()
    await followed(node, new)
    # What the old instance was asked it has answered: from here on only the kubelet's rules reject anything.
    await node.until(lambda state: created == BURST // 4 and all(pod.phase is not Phase.PENDING for pod in state.pods))
    calls = node.register_calls[EPC_RESOURCE]
    past_admission.set()
    await node.until(lambda _: created > BURST // 4)
    await old.end(ending)
    await node.until(lambda state: full(state) and set(node.followed.elements()) == node.registered_sockets())
    await followed(node, new)
    await pods
    state = await node.until(lambda state: all(job.status is not JobStatus.RUNNING for job in state.jobs))

    rejected = [pod for pod in state.pods if pod.phase is Phase.FAILED]
    lost = gaps(node, began)
    sys.stdout.write(
        f"rules of {node.rules}, {ending.name}: EPC lost for {[f'{1000 * gap:.1f} ms' for gap in lost]}, "
        f"{len(rejected)} pods rejected in a burst of {BURST}\n"
    )
    assert len(state.jobs) == BURST
    assert {job.status for job in state.jobs} == {JobStatus.COMPLETE}
    assert sum(pod.phase is Phase.SUCCEEDED for pod in state.pods) == BURST
    assert all(any(reason in pod.message for reason in REJECTIONS) for pod in rejected), rejected
    again = node.register_calls[EPC_RESOURCE] - calls
    if node.rules is KubeletRules.FROM_1_37:
        assert (lost, rejected, again) == ([], [], 0)
    else:
        assert len(lost) == 1
        assert again == 1
    assert state.pod("holds").phase is Phase.RUNNING
    assert node.held("holds") == held
    assert node.clashes == []
    await node.delete("pod", "holds", 0)
    assert node.state().node.allocatable[EPC_RESOURCE] == EPC_MIB
    assert node._ledger.allocated() == {}


async def test_updates_one_after_another_lose_nothing(node, old, start):
    running = old
    for _ in range(3):
        age(node)
        new = await start()
        await followed(node, new)
        await running.end(signal.SIGTERM)
        await node.until(lambda state: full(state) and set(node.followed.elements()) == node.registered_sockets())
        running = new
    calls = node.register_calls[EPC_RESOURCE]
    assert calls == (4 if node.rules is KubeletRules.FROM_1_37 else 7)
    assert len([path for path in node._layout.device_plugin_dir.iterdir() if path.is_socket()]) == 4


async def test_a_lost_answer_to_register_is_asked_for_again(node, start):
    """It knows the path then; from 1.37 on it refuses a path that it knows."""
    answer, lost = node._register, []

    async def lose_the_first_answer(request, context):
        answered = await answer(request, context)
        if not lost:
            lost.append(request.resource_name)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "lost")
        return answered

    node._register = lose_the_first_answer
    instance = await start()
    await node.until(full)
    await instance.until_registered()
    assert [resource["code"] for resource in (await instance.resources()).values()] == [""] * 3
    assert node.register_calls[lost[0]] == 2


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
async def test_a_rolled_back_update_leaves_the_old_instance(node, old, start, ending):
    node.apply(manifest("Pod", "holds", epc_pod(4, "sleep")))
    await node.until(lambda state: state.pod("holds").phase is Phase.RUNNING)
    held = node.held("holds")
    new = await start()
    await followed(node, new)
    paths = node.registered_sockets()
    await new.end(ending)
    await node.until(lambda state: full(state) and node.register_calls[EPC_RESOURCE] == 3)
    await settled(node, old)
    resources = (await old.resources()).values()
    assert {one["cause"] for one in resources} == {"sibling_ended"}
    assert not paths & {node._layout.device_plugin_dir / one["socket"] for one in resources}
    node.apply(manifest("Pod", "comes", epc_pod(2)))
    await node.until(lambda state: state.pod("comes").phase is Phase.SUCCEEDED)
    assert node.held("holds") == held
    if node.rules is KubeletRules.FROM_1_37:
        assert not gaps(node, 0)[1:], "allocatable fell although the old instance was there all the time"

    # The kubelet's start makes one socket for each resource of the two.
    await node.restart_kubelet()
    await node.until(lambda state: full(state) and node.register_calls[EPC_RESOURCE] == 4)
    await settled(node, old)
    assert len([path for path in node._layout.device_plugin_dir.iterdir() if path.name.startswith("sgx-")]) == 3


async def test_an_end_right_after_registration_is_seen(node, old, start):
    new = await start()
    await node.until(lambda _: node.register_calls[EPC_RESOURCE] == 2)
    await new.end(signal.SIGTERM)
    await node.until(lambda state: full(state) and node.register_calls[EPC_RESOURCE] == 3)
    await settled(node, old)


async def test_rolled_back_again_it_serves_two_sockets_at_most(node, old, start):
    for times in range(1, 3):
        new = await start()
        await followed(node, new)
        await new.end(signal.SIGTERM)
        await node.until(lambda state, calls=1 + 2 * times: full(state) and node.register_calls[EPC_RESOURCE] == calls)
        await settled(node, old)
        assert len(list(node._layout.device_plugin_dir.glob("sgx-epc-*"))) <= 2


async def settled(node, instance):
    """Until an instance says that all is registered, and the kubelet would ask it."""
    directory = node._layout.device_plugin_dir
    await instance.until(
        lambda all_: all(one["registered"] and node.asked(one["name"]) == directory / one["socket"] for one in all_)
    )
