"""The plugin as a process of its own, against a kubelet over real sockets."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys

import grpc.aio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from confcom.device_plugin.resources import ENCLAVE_RESOURCE as ENCLAVE
from confcom.device_plugin.resources import EPC_RESOURCE as EPC
from confcom.device_plugin.resources import HELPER_RESOURCE as HELPER
from confcom.device_plugin.resources import PROVISION_RESOURCE as PROVISION
from confcom.errors import ExitCode
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api import services
from confcom.kubelet_api.device_list import device_id

ALL = (EPC, ENCLAVE, PROVISION, HELPER)


async def metric(plugin, name, **labels):
    page = await plugin.metrics()
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def run_to_its_end(*arguments):
    command = [sys.executable, "-m", "confcom.device_plugin", "--log-format", "json", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)


async def test_registers_and_the_whole_list_arrives(kubelet, start_plugin):
    await kubelet.start()
    await start_plugin("--simulated-epc-mib", "168")
    await kubelet.until_list(*ALL)
    assert kubelet.lists[EPC] == [device_id(index) for index in range(168 - 6)]
    assert len(kubelet.lists[ENCLAVE]) == len(kubelet.lists[PROVISION]) == 1024
    assert len(kubelet.lists[HELPER]) == 6
    (request,) = kubelet.registrations(EPC)
    assert request.version == "v1beta1"
    assert "/" not in request.endpoint


async def test_allocate_gives_devices_budget_platform_and_the_aesmd_directory(kubelet, start_plugin):
    await kubelet.start()
    await start_plugin("--aesmd-dir", "/host/aesmd")
    await kubelet.until_list(*ALL)
    identifiers = kubelet.lists[EPC][5:15]
    (answer,) = await kubelet.allocate(EPC, identifiers)
    assert dict(answer.envs) == {"CONFCOM_SGX_EPC_MIB": "10", "CONFCOM_SGX_PLATFORM": "simulated"}
    assert [(d.container_path, d.host_path, d.permissions) for d in answer.devices] == [
        ("/dev/sgx_enclave", "/dev/null", "rw"),
        ("/dev/sgx/enclave", "/dev/null", "rw"),
    ]
    assert list(answer.mounts) == [pb.Mount(container_path="/var/run/aesmd", host_path="/host/aesmd", read_only=True)]
    assert await kubelet.allocate(EPC, identifiers) == [answer]


async def test_a_refused_allocation_explains_itself_and_the_next_one_works(kubelet, start_plugin):
    await kubelet.start()
    plugin = await start_plugin("--simulated-epc-mib", "28", "--helper-epc-mib", "0")
    await kubelet.until_list(EPC)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await kubelet.allocate(EPC, [device_id(28)])
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "has no device 'AAc'" in caught.value.details()
    assert len(await kubelet.allocate(EPC, [device_id(27)])) == 1
    assert await metric(plugin, "confcom_device_plugin_allocate_failures_total") == 1
    assert await metric(plugin, "confcom_device_plugin_allocate_seconds_count", resource=EPC) == 1


async def test_a_lost_stream_leads_to_one_new_registration_at_the_same_socket(kubelet, start_plugin):
    await kubelet.start()
    plugin = await start_plugin()
    await kubelet.until_list(*ALL)
    before = kubelet.endpoint(EPC)
    await kubelet.drop(EPC)
    await kubelet.until_list(EPC, registrations=2)
    await plugin.until_log("registered", times=len(ALL) + 1)
    assert kubelet.endpoint(EPC) == before
    assert [len(kubelet.registrations(name)) for name in ALL] == [2, 1, 1, 1]
    name = "confcom_device_plugin_registrations_total"
    assert await metric(plugin, name, resource=EPC, cause="stream_lost") == 1
    assert await metric(plugin, name, resource=EPC, cause="start") == 1


async def test_a_kubelet_restart_is_answered_at_new_sockets_without_a_failed_dial_back(kubelet, start_plugin):
    await kubelet.start()
    await start_plugin()
    await kubelet.until_list(*ALL)
    old = [kubelet.endpoint(name) for name in ALL]
    for restarts in range(1, 4):
        await kubelet.stop()
        await kubelet.start()
        await kubelet.until_list(*ALL, registrations=1 + restarts)
    assert kubelet.failed_dial_backs == 0
    assert not any(path.exists() for path in old)
    assert [len(kubelet.registrations(name)) for name in ALL] == [4] * len(ALL)


async def test_a_kubelet_that_comes_late_is_met(kubelet, start_plugin, directory):
    plugin = await start_plugin()
    await plugin.until_log("not registered yet", times=len(ALL))
    status, body = await plugin.get("/readyz")
    assert status == 503
    assert body.startswith(b"not ready: the kubelet has not taken kubernetes.azure.com/sgx_epc_mem_in_MiB, sgx.intel")
    assert b": there is nothing at " in body
    inventory = await plugin.inventory()
    assert not inventory["registered"]
    assert "kubelet.sock" in inventory["resources"][0]["problem"]
    await kubelet.start()
    await kubelet.until_list(*ALL)
    await plugin.until_log("registered", times=len(ALL))
    inventory = await plugin.inventory()
    assert inventory["registered"]
    assert [r["registrations"] for r in inventory["resources"]] == [1] * len(ALL)
    assert await plugin.get("/readyz") == (200, b"ok\n")
    assert kubelet.failed_dial_backs == 0


async def test_a_plugin_that_lost_its_kubelet_stays_ready(kubelet, start_plugin):
    await kubelet.start()
    plugin = await start_plugin()
    await plugin.until_log("registered", times=len(ALL))
    await kubelet.stop()
    await plugin.until_log("not registered yet", times=len(ALL))
    assert not (await plugin.inventory())["registered"]
    assert await plugin.get("/readyz") == (200, b"ok\n")


async def test_a_stale_kubelet_socket_is_no_kubelet(kubelet, start_plugin, directory):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(directory / "kubelet.sock"))
    plugin = await start_plugin()
    await plugin.until_log("not registered yet")
    assert "nobody listens" in plugin.messages("not registered yet")[0]["reason"]
    await kubelet.start()
    await kubelet.until_list(*ALL)


async def test_its_own_socket_removed_is_noticed_and_replaced(kubelet, start_plugin):
    await kubelet.start()
    plugin = await start_plugin()
    await kubelet.until_list(*ALL)
    removed = kubelet.endpoint(EPC)
    removed.unlink()
    await kubelet.until(lambda: kubelet.endpoint(EPC) != removed and kubelet.lists[EPC])
    assert kubelet.endpoint(EPC).is_socket()
    await plugin.until_log("registered", times=len(ALL) + 1)
    assert (await metric(plugin, "confcom_device_plugin_registrations_total", cause="socket_lost")) == 1
    assert len(await kubelet.allocate(EPC, kubelet.lists[EPC][:1])) == 1


async def test_sigterm_ends_streams_removes_its_sockets_and_exits_0(kubelet, start_plugin, directory):
    await kubelet.start()
    plugin = await start_plugin()
    await kubelet.until_list(*ALL)
    assert await plugin.end(signal.SIGTERM) == 0
    await kubelet.until(lambda: not any(kubelet.lists[name] for name in ALL))
    assert {path.name for path in directory.iterdir()} == {"kubelet.sock"}


async def test_sigterm_while_no_kubelet_is_there(start_plugin, directory):
    plugin = await start_plugin()
    await plugin.until_log("not registered yet", times=len(ALL))
    assert await plugin.end(signal.SIGTERM) == 0
    assert list(directory.iterdir()) == []


async def test_sigterm_while_the_kubelet_does_not_answer_register(kubelet, start_plugin):
    kubelet.hang = True
    await kubelet.start()
    plugin = await start_plugin()
    await kubelet.until(lambda: len(kubelet.requests) == len(ALL))
    assert await plugin.end(signal.SIGTERM) == 0


async def test_killed_and_started_again(kubelet, start_plugin):
    await kubelet.start()
    first = await start_plugin()
    await kubelet.until_list(*ALL)
    identifiers = kubelet.lists[EPC]
    await first.end(signal.SIGKILL)
    await kubelet.until(lambda: not kubelet.lists[EPC])
    await start_plugin()
    await kubelet.until_list(*ALL, registrations=2)
    assert kubelet.lists[EPC] == identifiers


async def test_what_killed_plugins_left_is_removed_and_nothing_else(start_plugin, directory):
    for name in ("kubelet.sock", "other-vendor.sock", "sgx-epc-notours.sock"):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(directory / name))
    (directory / "sgx-epc-00000000000000.sock").touch()
    kept = {path.name for path in directory.iterdir()}

    def sockets():
        return {path.name for path in directory.iterdir() if path.name.startswith("sgx-")} - kept

    for killed in range(1, 4):
        plugin = await start_plugin()
        await plugin.until_log("not registered yet", times=len(ALL))
        assert len(sockets()) == len(ALL), f"after {killed - 1} kills"
        await plugin.end(signal.SIGKILL)
    last = await start_plugin()
    await last.until_log("not registered yet", times=len(ALL))
    (removal,) = last.messages("removed sockets that earlier instances left")
    assert len(removal["sockets"]) == len(ALL)
    living = await start_plugin()
    await living.until_log("not registered yet", times=len(ALL))
    assert len(sockets()) == 2 * len(ALL)
    assert kept <= {path.name for path in directory.iterdir()}


async def test_the_port_that_the_kernel_chose_for_probes_is_said(directory):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "confcom.device_plugin", "--simulated", "--host-root", str(directory)),
        *("--device-plugin-dir", str(directory), "--probe-address", "127.0.0.1:0", "--log-format", "json"),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async for line in process.stderr:
            if (said := json.loads(line)["message"]).startswith("answering probes on "):
                break
        reader, writer = await asyncio.open_connection("127.0.0.1", int(said.rpartition(":")[2]))
        writer.write(b"GET /livez HTTP/1.1\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
    finally:
        process.terminate()
        await process.communicate()


async def test_two_instances_overlap_and_the_second_remains(kubelet, start_plugin):
    await kubelet.start()
    first = await start_plugin()
    await kubelet.until_list(*ALL)
    second = await start_plugin()
    await second.until_log("registered", times=len(ALL))
    await first.end(signal.SIGTERM)
    # The kubelet disconnects by name, so the first one's end costs the second one its streams.
    await second.until_log("registered", times=2 * len(ALL))
    await kubelet.until_list(*ALL, registrations=3)
    assert [len(kubelet.registrations(name)) for name in ALL] == [3] * len(ALL)
    assert (await second.inventory())["registered"]
    assert len(await kubelet.allocate(EPC, kubelet.lists[EPC][:10])) == 1


async def test_a_larger_node_says_how_much_it_holds_back(kubelet, start_plugin):
    await kubelet.start()
    plugin = await start_plugin("--simulated-epc-mib", "8192")
    await kubelet.until_list(EPC)
    assert len(kubelet.lists[EPC]) == 2048
    accounting = (await plugin.inventory())["accounting"]
    assert (accounting["advertised_mib"], accounting["held_back_mib"]) == (2048, 6138)
    assert (accounting["set_aside_mib"], accounting["reserved_mib"]) == (6, 0)
    assert "2048 of 8192 MiB are advertised" in accounting["reason"]
    assert "6138 are held back" in plugin.messages("SGX found")[0]["accounting"]
    assert await metric(plugin, "confcom_sgx_epc_held_back_bytes") == 6138 * 1024 * 1024
    assert await metric(plugin, "confcom_sgx_epc_set_aside_bytes") == 6 * 1024 * 1024
    assert await metric(plugin, "confcom_sgx_epc_advertised_bytes") == 2048 * 1024 * 1024


async def test_the_largest_list_arrives_and_what_it_costs_is_told(kubelet, start_plugin):
    await kubelet.start()
    plugin = await start_plugin("--simulated-epc-mib", "300000", "--max-epc-mib", "262144")
    await kubelet.until_list(EPC)
    assert len(set(kubelet.lists[EPC])) == 262_144
    (warning,) = plugin.messages("so many devices stall the kubelet after its restart")
    assert warning["level"] == "warning"
    assert warning["seconds_when_all_are_allocated"] == pytest.approx(8246, abs=1)


async def test_the_quote_helpers_epc_has_a_name_of_its_own_and_brings_no_aesm_directory(kubelet, start_plugin):
    await kubelet.start()
    await start_plugin("--simulated-epc-mib", "28", "--helper-epc-mib", "2")
    await kubelet.until_list(*ALL)
    assert [len(kubelet.lists[name]) for name in (EPC, HELPER)] == [24, 4]
    (answer,) = await kubelet.allocate(HELPER, kubelet.lists[HELPER][:2])
    assert dict(answer.envs) == {"CONFCOM_SGX_EPC_MIB": "2", "CONFCOM_SGX_PLATFORM": "simulated"}
    assert [device.container_path for device in answer.devices] == ["/dev/sgx_enclave", "/dev/sgx/enclave"]
    assert not answer.mounts


async def test_names_counts_reserve_and_mount_are_the_operators_choice(kubelet, start_plugin):
    await kubelet.start()
    await start_plugin(
        *("--simulated-epc-mib", "100", "--reserve-epc-mib", "30", "--helper-epc-mib", "0", "--no-aesmd-mount"),
        *("--epc-resource", "example.com/epc", "--enclave-users", "7", "--provision-users", "9"),
    )
    await kubelet.until_list("example.com/epc", ENCLAVE, PROVISION)
    assert {name: len(ids) for name, ids in kubelet.lists.items()} == {"example.com/epc": 70, ENCLAVE: 7, PROVISION: 9}
    (answer,) = await kubelet.allocate("example.com/epc", kubelet.lists["example.com/epc"][:1])
    assert not answer.mounts


async def test_a_plugin_of_another_installation_refuses_and_the_first_goes_on(kubelet, start_plugin):
    await kubelet.start()
    first = await start_plugin("--installation", "a")
    await kubelet.until_list(*ALL)
    second = await start_plugin("--installation", "b", "--enclave-resource", "example.com/enclave")
    assert await second.process.wait() == ExitCode.UNAVAILABLE
    await second.end()
    told = "".join(entry["message"] for entry in second.log if "level" not in entry)
    assert "another device plugin offers kubernetes.azure.com/sgx_epc_mem_in_MiB" in told
    assert "--installation" in told
    second.log.clear()
    assert (await first.inventory())["registered"]
    assert [len(kubelet.registrations(name)) for name in ALL] == [1] * len(ALL)
    other_names = [
        *("--epc-resource", "example.com/epc", "--enclave-resource", "example.com/enclave"),
        *("--provision-resource", "example.com/provision", "--helper-resource", "example.com/helper"),
    ]
    third = await start_plugin("--installation", "b", *other_names)
    await third.until_log("registered", times=len(ALL))
    await first.end(signal.SIGTERM)
    fourth = await start_plugin("--installation", "b")
    await fourth.until_log("registered", times=len(ALL))


async def test_garbage_and_idle_peers_on_its_socket_change_nothing(kubelet, start_plugin):
    await kubelet.start()
    await start_plugin()
    await kubelet.until_list(*ALL)
    path = str(kubelet.endpoint(EPC))
    peers = []
    for number in range(50):
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(path)
        if number % 2:
            peer.sendall(bytes(range(256)) * 16)
        peers.append(peer)
    assert len(await kubelet.allocate(EPC, kubelet.lists[EPC][:1])) == 1
    for peer in peers:
        peer.close()
    assert len(kubelet.registrations(EPC)) == 1


async def test_streams_are_bounded_and_someone_elses_end_does_not_matter(kubelet, start_plugin):
    await kubelet.start()
    plugin = await start_plugin()
    await kubelet.until_list(*ALL)
    async with services.unix_channel(str(kubelet.endpoint(EPC))) as channel:
        stub = services.DevicePluginStub(channel)
        others = [stub.list_and_watch(pb.Empty()) for _ in range(7)]
        for other in others:
            assert len((await other.read()).devices) == 168 - 6
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.list_and_watch(pb.Empty()).read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await kubelet.drop(EPC)
    await kubelet.until_list(EPC, registrations=2)
    await plugin.until_log("registered", times=len(ALL) + 1)
    assert len(plugin.messages("no longer registered")) == 1


async def test_hardware_is_found_below_the_hosts_root(kubelet, start_plugin, directory):
    host = directory / "host"
    (host / "sys/class/misc/sgx_enclave").mkdir(parents=True)
    for node, size in enumerate((64 * 1024 * 1024, 32 * 1024 * 1024 + 4096)):
        attribute = host / f"sys/devices/system/node/node{node}/x86/sgx_total_bytes"
        attribute.parent.mkdir(parents=True)
        attribute.write_text(f"{size}\n")
    (host / "dev").mkdir()
    (host / "dev/sgx_enclave").symlink_to("/dev/null")
    await kubelet.start()
    plugin = await start_plugin("--host-root", str(host), simulated=False)
    await kubelet.until_list(EPC, ENCLAVE)
    (answer,) = await kubelet.allocate(EPC, kubelet.lists[EPC][:2])
    assert dict(answer.envs) == {"CONFCOM_SGX_EPC_MIB": "2", "CONFCOM_SGX_PLATFORM": "hardware"}
    assert {device.host_path for device in answer.devices} == {"/dev/sgx_enclave"}
    assert len(kubelet.lists[EPC]) == 96 - 6
    inventory = await plugin.inventory()
    assert inventory["platform"] == "hardware"
    assert inventory["epc"]["numa_nodes"] == [
        {"node": 0, "bytes": 67108864},
        {"node": 1, "bytes": 33558528},
    ]
    assert PROVISION not in {resource["name"] for resource in inventory["resources"]}


def test_a_simulated_plugin_refuses_a_node_with_a_driver(directory):
    (directory / "sys/class/misc/sgx_enclave").mkdir(parents=True)
    ended = run_to_its_end("--simulated", "--host-root", str(directory), "--device-plugin-dir", str(directory))
    assert ended.returncode == 2
    assert "does not start on a node with SGX hardware" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--device-plugin-dir", "/nonexistent/device-plugins"), 6, "is not there"),
        (("--device-plugin-dir", "/tmp/" + "x" * 90), 2, "bytes long"),
        (("--max-epc-mib", "262145"), 2, "from 1 to 262144"),
        (("--probe-address", "here"), 2, "HOST:PORT or unix:PATH"),
    ],
)
def test_what_cannot_be_is_refused_at_start(directory, arguments, code, words):
    ended = run_to_its_end("--simulated", "--host-root", str(directory), *arguments)
    assert ended.returncode == code
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_a_started_plugin_carries_no_command_line_libraries(directory):
    program = (
        "import sys, os, asyncio\n"
        "from prometheus_client import CollectorRegistry\n"
        "from confcom.device_plugin import main, settings\n"
        "stop = asyncio.Event()\n"
        "chosen = settings.parse_settings(sys.argv[1:], prog='x', environ={})\n"
        "async def run():\n"
        "    asyncio.get_running_loop().call_soon(stop.set)\n"
        "    await main.serve(chosen, stop, CollectorRegistry())\n"
        "asyncio.run(run())\n"
        "print(*sys.modules)\n"
        "from google.protobuf.internal import api_implementation\n"
        "print(api_implementation.Type())\n"
    )
    arguments = ["--simulated", "--host-root", str(directory), "--device-plugin-dir", str(directory)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    modules, implementation = output.decode().splitlines()
    loaded = {name.partition(".")[0] for name in modules.split()}
    assert "grpc" in loaded
    assert not loaded & {"click", "rich", "yaml", "dcap_qvl", "uvloop", "lightkube"}
    assert implementation == "upb"


@pytest.mark.parametrize("entry", ["confcom.cli.main", "confcom.device_plugin.__main__"])
async def test_grpc_is_silenced_before_it_is_imported(entry):
    program = f"import sys, {entry}; print('grpc' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert (await process.communicate())[0] == b"False\n"


@pytest.mark.parametrize("module", ["confcom", "confcom.device_plugin"])
@pytest.mark.parametrize(("asked", "seen"), [({}, "NONE"), ({"GRPC_VERBOSITY": "DEBUG"}, "DEBUG")])
async def test_what_grpc_finds_when_it_is_imported(directory, module, asked, seen):
    (directory / "grpc").mkdir()
    (directory / "grpc" / "__init__.py").write_text("import os\nraise SystemExit(os.environ['GRPC_VERBOSITY'])\n")
    environ = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    arguments = ["device-plugin"] if module == "confcom" else []
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module, *arguments),
        stderr=asyncio.subprocess.PIPE,
        env={**environ, "PYTHONPATH": str(directory), **asked},
    )
    assert (await process.communicate())[1].decode().strip() == seen
