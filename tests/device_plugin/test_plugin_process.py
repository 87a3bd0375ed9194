import asyncio
import json
import os
import signal
import socket
import urllib.request
from unittest.mock import ANY

import grpc.aio
import pytest

from confcom.errors import ExitCode
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api import services
from confcom.kubelet_api.device_list import device_id
from confcom.kubernetes.names import REAL
from testkit.full_pipe import full_pipe
from testkit.programs import run_python

ENCLAVE, EPC, HELPER, PROVISION = REAL.enclave, REAL.epc, REAL.helper, REAL.provision

ALL = (EPC, ENCLAVE, PROVISION, HELPER)


async def test_the_whole_list_arrives_and_is_allocated_from(kubelet, start_listed):
    plugin = await start_listed("--simulated-epc-mib", "168")
    assert kubelet.lists[EPC] == [device_id(index) for index in range(168 - 6)]
    assert [len(kubelet.lists[name]) for name in (ENCLAVE, PROVISION, HELPER)] == [1024, 1024, 6]
    (request,) = kubelet.registrations(EPC)
    assert (request.version, "/" in request.endpoint) == ("v1beta1", False)
    (answer,) = await kubelet.ask(EPC, kubelet.lists[EPC][5:15])
    assert dict(answer.envs) == {"CONFCOM_SGX_EPC_MIB": "10", "CONFCOM_SGX_PLATFORM": "simulated"}
    assert {device.host_path for device in answer.devices} == {"/dev/null"}
    assert [mount.host_path for mount in answer.mounts] == ["/var/run/aesmd"]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await kubelet.ask(EPC, [device_id(168 - 6)])
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert device_id(168 - 6) in caught.value.details()
    assert await plugin.metric("confcom_device_plugin_allocate_failures_total") == 1
    assert await plugin.metric("confcom_device_plugin_allocate_seconds_count", resource=EPC) == 1


async def test_a_kubelet_comes_late_and_its_end_costs_no_readiness(kubelet, start_plugin, directory):
    with socket.socket(socket.AF_UNIX) as left_by_its_predecessor:
        left_by_its_predecessor.bind(str(directory / "kubelet.sock"))
    (directory / "kubelet_internal_checkpoint").write_text("{")
    plugin = await start_plugin()
    assert [line["level"] for line in await plugin.logged(event="epc-use-unknown")] == ["warning"]

    async def registered():
        samples = await plugin.metrics("confcom_device_plugin_registered")
        return {sample.labels["resource"]: sample.value for sample in samples}

    await plugin.until_code("kubelet-absent")
    assert (await plugin.get("/readyz"))[0] == 503
    assert await registered() == dict.fromkeys(ALL, 0)
    assert await plugin.metric("confcom_device_plugin_not_ready_info", code="kubelet-absent") == 1
    inventory = await plugin.inventory()
    assert not inventory["registered"]
    assert str(directory / "kubelet.sock") in inventory["resources"][0]["problem"]
    await kubelet.start()
    await kubelet.until_list(*ALL)
    await plugin.until_registered()
    assert await registered() == dict.fromkeys(ALL, 1)
    inventory = await plugin.inventory()
    assert inventory["registered"]
    assert [(r["registrations"], r["problem"], r["code"]) for r in inventory["resources"]] == [(1, "", "")] * len(ALL)
    assert await plugin.get("/readyz") == (200, "ok\n")
    assert kubelet.failed_dial_backs == 0
    await kubelet.stop()
    await plugin.until_code("kubelet-absent")
    assert not (await plugin.inventory())["registered"]
    assert await registered() == dict.fromkeys(ALL, 0)
    assert await plugin.get("/readyz") == (200, "ok\n")


async def test_its_own_socket_removed_is_noticed_and_replaced(kubelet, start_listed):
    plugin = await start_listed()
    kubelet.endpoint(EPC).unlink()
    # Up to 1.36 the end of the older stream ends the newer stream too, and the plugin registers EPC again.
    await kubelet.until_list(EPC, registrations=3)
    await plugin.until(lambda all_: [one["registrations"] for one in all_ if one["registered"]] == [3, 1, 1, 1])
    assert kubelet.endpoint(EPC).is_socket()
    assert (await plugin.metric("confcom_device_plugin_registrations_total", cause="socket_lost")) == 1
    assert len(await kubelet.ask(EPC, kubelet.lists[EPC][:1])) == 1


@pytest.mark.parametrize("state", ["watches", "hangs", "is absent"])
async def test_sigterm_removes_its_sockets_and_exits_0(kubelet, start_plugin, directory, state):
    if state == "hangs":
        kubelet.admits.clear()
    if state != "is absent":
        await kubelet.start()
    plugin = await start_plugin()
    if state == "watches":
        await kubelet.until_list(*ALL)
    elif state == "hangs":
        await kubelet.until(lambda: len(kubelet.requests) == len(ALL))
    else:
        await plugin.until_code("kubelet-absent")
    assert await plugin.end(signal.SIGTERM) == 0
    await kubelet.until(lambda: not any(kubelet.lists.get(name) for name in ALL))
    sockets = [path.name for path in directory.iterdir() if path.is_socket()]
    assert sockets == ["kubelet.sock"] * (state != "is absent")


async def test_what_a_killed_plugin_left_is_removed(start_listed, start_plugin, directory):
    killed = await start_listed()
    await killed.end(signal.SIGKILL)
    left = {path.name for path in directory.glob("sgx-*")}
    following = await start_plugin()
    await following.until_registered()
    (removal,) = await following.logged(sockets=ANY)
    assert set(removal["sockets"]) == left
    assert not left & {path.name for path in directory.iterdir()}


async def test_the_port_that_the_kernel_chose_for_probes_is_logged(start_plugin):
    reader, writer = os.pipe()
    await start_plugin("--probe-address", "127.0.0.1:0", stderr=writer)
    os.close(writer)

    def ask():
        with os.fdopen(reader) as lines:
            address = next(record["address"] for record in map(json.loads, lines) if "address" in record)
            return urllib.request.urlopen(f"http://{address}/livez").status

    assert await asyncio.to_thread(ask) == 200


async def test_a_stalled_log_reader_stops_nothing(kubelet, start_listed):
    reader, writer = full_pipe()
    plugin = await start_listed(stderr=writer)
    os.close(writer)
    assert len(await kubelet.ask(EPC, kubelet.lists[EPC][:4])) == 1
    await kubelet.drop(EPC)
    await kubelet.until_list(EPC, registrations=2)
    for path in ("/livez", "/readyz"):
        assert await plugin.get(path) == (200, "ok\n")
    assert [sample.value for sample in await plugin.metrics("confcom_log_records_dropped_total")] == [0]
    assert await plugin.end(signal.SIGTERM) == ExitCode.OK
    assert not plugin.probe.exists()
    os.close(reader)


async def test_an_update_changes_no_node_over_by_itself(kubelet, start_listed, start_plugin):
    """The cluster can count EPC as capacity; the old version could count only devices."""
    cluster = ("--simulated-epc-mib", "16384", "--api-server", "1.36", "--capacity-support", "supported")
    old = await start_listed("--simulated-epc-mib", "16384", "--max-epc-mib", "4096", "--accounting", "devices")
    new = await start_plugin(*cluster)
    await new.until_registered()
    assert len(kubelet.lists[EPC]) == 4096
    accounting = (await new.inventory())["accounting"]
    assert (accounting["kind"], accounting["choice"]) == ("device", "kept-devices")
    await old.end(signal.SIGTERM)
    await new.until_registered(times=2)
    changed = await start_plugin(*cluster, "--accounting", "capacity")
    await changed.until_registered()
    assert (await changed.inventory())["accounting"]["kind"] == "capacity"


async def test_a_plugin_of_another_installation_refuses(kubelet, start_listed, start_plugin):
    first = await start_listed("--installation", "a")
    second = await start_plugin("--installation", "b", "--enclave-resource", "example.com/enclave")
    assert await second.process.wait() == ExitCode.UNAVAILABLE
    told = second.log.read_text()
    assert EPC in told
    assert "--installation" in told
    second.log.write_text("")
    assert (await first.inventory())["registered"]
    assert [len(kubelet.registrations(name)) for name in ALL] == [1] * len(ALL)
    other_names = [
        *("--epc-resource", "example.com/epc", "--enclave-resource", "example.com/enclave"),
        *("--provision-resource", "example.com/provision", "--helper-resource", "example.com/helper"),
    ]
    third = await start_plugin("--installation", "b", *other_names)
    await third.until_registered()
    await first.end(signal.SIGTERM)
    fourth = await start_plugin("--installation", "b")
    await fourth.until_registered()


async def refusal(stub, streams):
    """Open one more stream; return the code with which the plugin refuses it."""
    streams.append(stub.list_and_watch(pb.Empty()))
    try:
        await streams[-1].read()
    except grpc.aio.AioRpcError as error:
        return error.code()


async def test_streams_are_bounded_and_a_strangers_end_is_nothing(kubelet, start_listed):
    """When the kubelet's own stream ends, the plugin registers again with another socket."""
    plugin = await start_listed()
    before = kubelet.endpoint(EPC)
    async with services.unix_channel(str(kubelet.endpoint(EPC))) as channel:
        stub = services.DevicePluginStub(channel)
        others = [stub.list_and_watch(pb.Empty()) for _ in range(7)]
        for other in others:
            assert len((await other.read()).devices) == 168 - 6
        assert await refusal(stub, others) is grpc.StatusCode.RESOURCE_EXHAUSTED
        others[0].cancel()
        while await refusal(stub, others):  # the plugin notices the end of a stream soon
            pass
        assert await refusal(stub, others) is grpc.StatusCode.RESOURCE_EXHAUSTED
    await kubelet.drop(EPC)
    await kubelet.until_list(EPC, registrations=2)
    await plugin.until_registered()
    assert [one["registrations"] for one in (await plugin.resources()).values()] == [2, 1, 1, 1]
    assert kubelet.endpoint(EPC) != before
    for cause in ("start", "stream_lost"):
        assert await plugin.metric("confcom_device_plugin_registrations_total", resource=EPC, cause=cause) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("--device-plugin-dir", "/nonexistent/device-plugins"), 6, "/nonexistent/device-plugins"),
        (("--device-plugin-dir", "/tmp/" + "x" * 90), 2, "/tmp/xxx"),
        (("--simulated",), 2, "sys/class/misc/sgx_enclave"),
    ],
)
def test_what_cannot_be_is_refused_at_start(directory, arguments, code, named):
    host = directory / "host"
    if "--simulated" in arguments:
        (host / "sys/class/misc/sgx_enclave").mkdir(parents=True)
    given = ("--device-plugin-dir", directory, "--host-root", host, *arguments)
    ended = run_python("-m", "confcom.device_plugin", *given)
    assert ended.returncode == code
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("module", "asked", "seen"),
    [("confcom", {}, "NONE"), ("confcom.device_plugin", {"GRPC_VERBOSITY": "DEBUG"}, "DEBUG")],
)
def test_what_grpc_finds_when_it_is_imported(directory, module, asked, seen):
    (directory / "grpc").mkdir()
    (directory / "grpc" / "__init__.py").write_text("import os\nraise SystemExit(os.environ['GRPC_VERBOSITY'])\n")
    environ = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    arguments = ["device-plugin"] if module == "confcom" else []
    ended = run_python("-P", "-m", module, *arguments, env={**environ, "PYTHONPATH": str(directory), **asked})
    assert ended.stderr.strip() == seen
