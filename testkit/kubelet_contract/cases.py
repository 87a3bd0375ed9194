"""Cases that hold for every version: each checks a behaviour that the real kubelet 1.36.3 showed."""

import socket

import grpc.aio
import pytest

from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.device_list import device_id
from confcom.kubelet_api.services import HEALTHY, RECEIVE_LIMIT
from testkit.kubelet_contract.kubelet import Bench
from testkit.kubelet_contract.plugin import Plugin

SLEEP = "while :; do sleep 0.1; done"


def list_of_size(size: int, count: int) -> bytes:
    ids = [f"{number:03}" + "x" * (size // count - 30) for number in range(count)]
    missing = size - len(encoded(ids))
    ids[-1] += "x" * missing
    while len(encoded(ids)) > size:
        ids[-1] = ids[-1][:-1]
    return encoded(ids)


def encoded(ids) -> bytes:
    return pb.ListAndWatchResponse(devices=[pb.Device(ID=i, health=HEALTHY) for i in ids]).SerializeToString()


async def refused(plugin: Plugin, **change) -> str:
    """Make a registration that the kubelet must refuse; return the kubelet's error message."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await plugin.register(**change)
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    return caught.value.details()


async def rejected(bench: Bench, pod: str, why: str = "") -> None:
    seen = await bench.ended(pod)
    assert (seen.phase, seen.reason) == ("Failed", "UnexpectedAdmissionError")
    bench.says(seen.message, why)


async def pending(bench: Bench, pod: str) -> None:
    """Check that a Pod is pending because no node has enough of the resource."""
    seen = await bench.until(lambda: bench.kubelet.pod(pod), lambda seen: seen.message)
    assert (seen.phase, seen.reason) == ("Pending", "Unschedulable")
    assert f"Insufficient {bench.resource}" in seen.message


class RegistrationContract:
    async def test_register_dials_back_and_follows_the_list(self, bench: Bench):
        plugin = await bench.plugin()
        assert plugin.options_asked == 1

    async def test_a_wrong_version_and_a_wrong_resource_are_refused(self, bench: Bench):
        plugin = await bench.plugin(register=False)
        version = 'requested API version "v1beta2" is not supported by kubelet. Supported version is ["v1beta1"]'
        bench.says(await refused(plugin, version="v1beta2"), version)
        bench.says(await refused(plugin, resource="cpu"), 'the ResourceName "cpu" is invalid')
        assert plugin.options_asked == 0

    @pytest.mark.parametrize(
        "name", ["kubernetes.io/x", "requests.example.com/x", "example.com/" + "x" * 64, "example.com/a b", ""]
    )
    async def test_a_name_that_is_no_extended_resource_is_refused(self, bench: Bench, name):
        plugin = await bench.plugin(register=False)
        await refused(plugin, resource=name)
        assert plugin.options_asked == 0

    async def test_a_plugin_that_does_not_serve_may_come_back(self, bench: Bench):
        plugin = await bench.plugin(register=False)
        await plugin.stop()
        plugin.socket.unlink(missing_ok=True)
        await refused(plugin)
        await plugin.start()
        await bench.registers(plugin)

    async def test_a_plugin_that_never_answers_is_given_up(self, bench: Bench):
        plugin = await bench.plugin(register=False)
        name = f"{bench.unique}-silent.sock"
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(bench.kubelet.directory / name))
            silent.listen()
            bench.says(await refused(plugin, endpoint=name), "context deadline exceeded")

    @pytest.mark.parametrize("endpoint", ["", "../{name}", "sub/{name}"])
    async def test_an_endpoint_that_is_no_file_name(self, bench: Bench, endpoint):
        plugin = await bench.plugin(register=False)
        await refused(plugin, endpoint=endpoint.format(name=plugin.name))


class ListContract:
    @pytest.mark.parametrize(
        ("ids", "unhealthy", "counts"),
        [(["b", "e", "f"], {"e"}, (3, 2)), ([], set(), (0, 0)), (["a", "a", "b"], set(), (2, 2))],
        ids=["others", "none", "one named twice"],
    )
    async def test_each_list_replaces_the_whole(self, bench: Bench, ids, unhealthy, counts):
        plugin = await bench.plugin()
        plugin.ids, plugin.unhealthy = ids, unhealthy
        plugin.send_list()
        await bench.counted(*counts)

    async def test_one_byte_more_than_the_largest_list_ends_the_stream(self, bench: Bench):
        plugin = await bench.plugin()
        plugin.raw_list = list_of_size(RECEIVE_LIMIT, 64)
        assert len(plugin.raw_list) == RECEIVE_LIMIT
        plugin.send_list()
        await bench.counted(64, 64)
        plugin.raw_list = list_of_size(RECEIVE_LIMIT + 1, 65)
        assert len(plugin.raw_list) == RECEIVE_LIMIT + 1
        plugin.send_list()
        await bench.counted(64, 0)

    async def test_a_lost_stream_takes_allocatable_and_nothing_else(self, bench: Bench):
        plugin = await bench.plugin()
        pod = await bench.run("holds", SLEEP, 2)
        await bench.phase(pod, "Running")
        plugin.end_streams()
        await bench.counted(4, 0)
        assert (await bench.kubelet.pod(pod)).phase == "Running"
        await bench.registers(plugin)

    async def test_the_end_of_a_socket_whose_stream_has_ended_changes_nothing(self, bench: Bench):
        """After a lost stream a plugin registers with a new socket, and then closes the earlier socket."""
        former = await bench.plugin()
        former.end_streams()
        await bench.counted(4, 0)
        fresh = await bench.plugin(name="two")
        await former.stop()
        await bench.stays(4, 4)
        assert await fresh.count_streams() == 1


class AllocateContract:
    async def test_the_answer_of_the_plugin_reaches_the_container(self, bench: Bench):
        plugin = await bench.plugin()
        plugin.response = {
            "envs": {"GIVEN": "by the plugin", "OWN": "by the plugin"},
            "devices": [pb.DeviceSpec(container_path="/dev/given", host_path="/dev/null", permissions="rw")],
        }
        pod = await bench.run("asks", 'echo "$GIVEN, $OWN"; echo into > /dev/given && echo written', 3)
        assert (await bench.ended(pod)).phase == "Succeeded"
        said = await bench.kubelet.log(pod, "main")
        assert said.splitlines() == ["by the plugin, by the plugin", "written"]
        (ids,) = plugin.allocations
        assert len(ids) == len(set(ids)) == 3
        assert set(ids) < set(plugin.ids)

    async def test_devices_of_a_pod_that_has_ended_are_free(self, bench: Bench):
        plugin = await bench.plugin()
        first = await bench.run("first", count=4)
        await bench.ended(first)
        second = await bench.run("second", count=4)
        assert (await bench.ended(second)).phase == "Succeeded"
        assert len(plugin.allocations) == 2

    @pytest.mark.parametrize(
        ("fault", "why"),
        [
            ("refuse", "rpc error: code = Internal desc = no such device today"),
            ("no_container_responses", "no containers return in allocation response "),
        ],
    )
    async def test_a_useless_answer_rejects_the_pod(self, bench: Bench, fault, why):
        setattr(await bench.plugin(), fault, True)
        await rejected(bench, await bench.run("refused"), why)

    async def test_a_pod_that_does_not_fit_waits_and_runs_if_it_can(self, bench: Bench):
        await bench.plugin()
        holding = await bench.run("holds", SLEEP, 3)
        await bench.phase(holding, "Running")
        later, never = await bench.run("later", count=2), await bench.run("never", count=5)
        await pending(bench, later)
        await pending(bench, never)
        await bench.kubelet.delete(holding)
        assert (await bench.ended(later)).phase == "Succeeded"

    async def test_a_resource_that_nobody_offers_is_insufficient(self, bench: Bench):
        await pending(bench, await bench.run("waits"))

    async def test_past_the_scheduler_a_pod_that_does_not_fit_is_rejected(self, bench: Bench):
        await bench.plugin()
        await bench.phase(await bench.run("holds", SLEEP, 3), "Running")
        await rejected(
            bench,
            await bench.run("too-much", count=2, nodeName=bench.kubelet.node_name),
            f"requested number of devices unavailable for {bench.resource}. Requested: 2, Available: 1",
        )

    async def test_past_the_scheduler_an_unknown_resource_is_ignored(self, bench: Bench):
        """The kubelet assumes that another component owns the resource, and runs the Pod without devices."""
        pod = await bench.run("unknown", "echo ran", nodeName=bench.kubelet.node_name)
        assert (await bench.ended(pod)).phase == "Succeeded"
        assert await bench.kubelet.log(pod, "main") == "ran\n"

    async def test_without_its_plugin_no_device_is_healthy(self, bench: Bench):
        plugin = await bench.plugin()
        plugin.end_streams()
        await bench.counted(4, 0)
        pod = await bench.run("late", nodeName=bench.kubelet.node_name)
        await rejected(bench, pod, f"no healthy devices present; cannot allocate unhealthy devices {bench.resource}")


class RestartContract:
    async def test_a_restart_unlinks_every_socket_and_nothing_else(self, bench: Bench):
        plugin = await bench.plugin()
        kept = bench.kubelet.directory / f"{bench.unique}.txt"
        kept.write_text("kept")
        await bench.restart()
        assert not plugin.socket.exists()
        assert (bench.kubelet.directory / "kubelet.sock").is_socket()
        assert kept.read_text() == "kept"
        kept.unlink()

    async def test_a_restart_forgets_no_allocation(self, bench: Bench):
        plugin = await bench.plugin()
        await bench.phase(await bench.run("holds", SLEEP, 3), "Running")
        await bench.restart()
        await bench.comes_back(plugin)
        await rejected(bench, await bench.run("too-much", count=2, nodeName=bench.kubelet.node_name))
        assert (await bench.ended(await bench.run("fits", count=1))).phase == "Succeeded"
        held, given = plugin.allocations
        assert not set(held) & set(given)

    async def test_a_pod_that_holds_every_device_outlives_restarts(self, bench: Bench):
        ids = [f"{number:03x}" for number in range(256)]
        plugin = await bench.plugin(ids)
        pod = await bench.run("holds", SLEEP, len(ids))
        await bench.phase(pod, "Running")
        for _ in range(2):
            await bench.restart()
            await bench.counted(0, 0)
            await bench.comes_back(plugin)
        seen = await bench.kubelet.pod(pod)
        assert (seen.phase, seen.restarts) == ("Running", 0)
        assert len(plugin.allocations) == 1
        await bench.kubelet.delete(pod)
        assert (await bench.ended(await bench.run("next", count=len(ids)))).phase == "Succeeded"

    async def test_the_checkpoint_says_what_is_registered_and_held(self, bench: Bench):
        plugin = await bench.plugin([device_id(index) for index in range(8)])
        assert bench.recorded() == (8, None)
        pod = await bench.run("holds", SLEEP, 3)
        await bench.phase(pod, "Running")
        held = sorted(plugin.allocations[0])
        assert len(held) == 3
        assert bench.recorded() == (8, held)
        await bench.restart()
        assert bench.recorded()[1] == held
        await bench.comes_back(plugin)
        assert bench.recorded() == (8, held)

    async def test_a_pod_that_comes_before_its_plugin_is_rejected(self, bench: Bench):
        await bench.plugin()
        await bench.restart()
        await rejected(bench, await bench.run("early", nodeName=bench.kubelet.node_name))


class PodContract:
    """Cases with Pods for real kubelets only, because the demo runs one container per Pod, and only once."""

    async def test_each_container_has_devices_of_its_own(self, bench: Bench):
        plugin = await bench.plugin()
        pod = await bench.run_several("two", {"first": ("true", 1), "second": ("true", 3), "third": ("true", 0)})
        assert (await bench.ended(pod)).phase == "Succeeded"
        assert sorted(len(ids) for ids in plugin.allocations) == [1, 3]
        assert sorted(i for ids in plugin.allocations for i in ids) == sorted(plugin.ids)

    async def test_a_container_that_starts_again_keeps_what_it_has(self, bench: Bench):
        plugin = await bench.plugin()
        plugin.response = {"envs": {"GIVEN": "once"}}
        pod = await bench.run("restarts", 'echo "$GIVEN"; exit 1', 2, restartPolicy="OnFailure")
        await bench.until(lambda: bench.kubelet.pod(pod), lambda seen: seen.restarts >= 1)
        plugin.response = {"envs": {"GIVEN": "twice"}}
        await bench.until(lambda: bench.kubelet.pod(pod), lambda seen: seen.restarts >= 2)
        assert (await bench.kubelet.log(pod, "main")).splitlines()[-1] == "once"
        assert len(plugin.allocations) == 1


class RemovalContract:
    """Cases 5 minutes after a plugin's end, for real kubelets only; the demo's resource stays at 0."""

    async def test_a_resource_whose_plugin_stays_away_is_left_with_nothing(self, bench: Bench):
        plugin = await bench.plugin()
        held = await bench.run("holds", SLEEP, 2)
        await bench.phase(held, "Running")
        plugin.end_streams()
        await bench.counted(4, 0)
        await bench.until(lambda: bench.kubelet.counts(bench.resource), (0, 0), bench.kubelet.removal_patience)
        late = await bench.run("late", nodeName=bench.kubelet.node_name)
        await rejected(bench, late, f"cannot allocate unregistered device {bench.resource}")
        await bench.kubelet.delete(held)
        # The kubelet releases held devices when the next Pod requests one, but still rejects this next Pod.
        await rejected(bench, await bench.run("later", nodeName=bench.kubelet.node_name))
        latest = await bench.ended(await bench.run("latest", nodeName=bench.kubelet.node_name))
        assert (latest.phase, latest.reason) == ("Failed", f"OutOf{bench.resource}")
        bench.says(
            latest.message,
            f"Pod was rejected: Node didn't have enough resource: {bench.resource}, requested: 1, used: 0, capacity: 0",
        )
        await bench.registers(plugin)
