"""What decides in the device plugin's benchmark, and one tiny run of it and of the idle run."""

import json
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest

from bench.beside import Checkout
from bench.device_plugin import go_build
from bench.device_plugin.kubelet import MeasuringKubelet
from bench.device_plugin.measure import (
    CONFCOM,
    FEW,
    GO,
    MANY,
    NodeResult,
    PluginPlan,
    PluginResults,
    PluginSummary,
    Sample,
    sample_of,
)
from bench.device_plugin.plugins import BUDGET, EPC_RESOURCE, Offer, confcom_command, go_command, offer_of, running
from bench.device_plugin.table import plugins_as_json, plugins_as_table
from bench.load import WrongAnswerError
from bench.machine import Cores, SchedulerTimes, wakeups
from bench.summary import Latency, Spread
from confcom.errors import UnavailableError
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.device_list import encode_device_list
from testkit.programs import run_python

ROOT = Path(__file__).parent.parent.parent


def offer(devices=2_000):
    device = pb.DeviceSpec(container_path="/dev/sgx_enclave", host_path="/dev/null", permissions="rw")
    answer = pb.ContainerAllocateResponse(envs={BUDGET: "1"}, devices=[device])
    return Offer({EPC_RESOURCE: devices}, {EPC_RESOURCE: answer})


def answer_for(size, **changes):
    answer = pb.ContainerAllocateResponse()
    answer.CopyFrom(offer().answers[EPC_RESOURCE])
    answer.envs[BUDGET] = str(size)
    for name, value in changes.items():
        answer.envs[name] = value
    return pb.AllocateResponse(container_responses=[answer]).SerializeToString()


@pytest.mark.parametrize(("devices", "size"), [(168, 10), (1_024, 1_024), (2_000, 1_024), (262_144, 10)])
def test_every_turn_asks_for_other_devices_that_exist_and_differ(devices, size):
    asked = []
    for turn in range(3):
        (container,) = pb.AllocateRequest.FromString(offer(devices).request(size, turn)).container_requests
        assert len(set(container.devices_ids)) == size
        asked.append(tuple(container.devices_ids))
    known = {device.ID for device in pb.ListAndWatchResponse.FromString(encode_device_list(devices)).devices}
    assert all(known.issuperset(ids) for ids in asked)
    assert len(set(asked)) == 3


def test_the_right_answer_and_the_right_list_are_taken():
    offer().check_answer(answer_for(10), 10)
    offer().check_list(encode_device_list(2_000), EPC_RESOURCE)


@pytest.mark.parametrize("answer", [b"", answer_for(9), answer_for(10, MORE="1")], ids=["none", "another", "more"])
def test_another_answer_fails_the_benchmark(answer):
    with pytest.raises(WrongAnswerError):
        offer().check_answer(answer, 10)


def unhealthy_list():
    message = pb.ListAndWatchResponse.FromString(encode_device_list(2_000))
    message.devices[7].health = "Unhealthy"
    return message.SerializeToString()


@pytest.mark.parametrize("encoded", [b"", encode_device_list(1_999), unhealthy_list()])
def test_another_list_fails_the_benchmark(encoded):
    with pytest.raises(WrongAnswerError):
        offer().check_list(encoded, EPC_RESOURCE)


def sample(milliseconds=1.0, resident=40_000_000):
    seconds = milliseconds / 1e3
    latency = Latency(400, seconds, 2 * seconds, 3 * seconds)
    return Sample(seconds, seconds, seconds, {FEW: latency, MANY: latency}, seconds, seconds, resident)


def test_a_summary_is_of_the_medians_of_the_rounds():
    summary = PluginSummary.of([sample(1.0), sample(5.0), sample(2.0)])
    assert summary.start == Spread(0.002, 0.001, 0.005)
    assert summary.allocate_p50[FEW] == Spread(0.002, 0.001, 0.005)
    assert summary.allocate_p99[MANY] == Spread(0.004, 0.002, 0.01)


def results(*, confcom=None, go=None, largest=None):
    def node(mib, confcom):
        plugins = {CONFCOM: PluginSummary.of([confcom])} | ({GO: PluginSummary.of([go])} if go else {})
        return NodeResult(mib, 1, {EPC_RESOURCE: mib}, plugins, [])

    nodes = [node(168, confcom or sample(0.4))] + ([node(262_144, largest)] if largest else [])
    return PluginResults(PluginPlan(mib=(168,)), {}, (0.0, 0.0), nodes, "" if go else "there is no Go here")


def test_goals_are_judged_by_the_project_s_own_plugin_and_by_usual_nodes():
    assert "MISSED" not in plugins_as_table(results(go=sample(500.0), largest=sample(0.5)))
    assert plugins_as_table(results(confcom=sample(130.0))).count("MISSED") == 4
    assert plugins_as_table(results(confcom=sample(0.4, resident=46_000_000))).count("MISSED") == 1


def test_allocate_that_grows_with_the_node_misses_a_goal():
    assert plugins_as_table(results(largest=sample(0.4 * 1.6))).count("MISSED") == 1


def test_without_go_the_table_says_why():
    text = plugins_as_table(results())
    assert "without the Go plugin: there is no Go here" in text
    assert "Go plugin  " not in text
    assert "minimal Go plugin" in plugins_as_table(results(go=sample()))


def test_the_json_has_every_number_of_the_table():
    written = json.loads(json.dumps(plugins_as_json(results(go=sample(7.0)))))
    assert written["nodes"][0]["plugins"][GO]["reregister"]["median"] == 0.007
    assert written["nodes"][0]["plugins"][CONFCOM]["allocate_p99"][str(FEW)]["median"] == 0.0008


def test_without_go_nothing_is_built(monkeypatch, tmp_path):
    monkeypatch.setattr(go_build.packages, "find", lambda _: None)
    monkeypatch.setattr(go_build.shutil, "which", lambda *_, **__: None)
    with pytest.raises(UnavailableError, match="cannot be built") as raised:
        go_build.GoPlugin.find(tmp_path)
    assert raised.value.why == "there is no Go here"


def ours(mib):
    return confcom_command(mib, Checkout.this())


def go_program():
    try:
        plugin = go_build.GoPlugin.find()
    except UnavailableError as error:
        pytest.skip(f"no Go plugin: {error.why}")
    if not plugin.path.exists():
        pytest.skip("the Go plugin is not built here; make bench builds it")
    return plugin.path


def test_wakeups_and_cpu_of_a_process_are_its_own():
    program = "import time\nwhile True: time.sleep(0.001)"
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        try:
            deadline = time.monotonic() + 30
            while wakeups(process.pid) < 100:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert SchedulerTimes.of(process.pid).running > 0
        finally:
            process.kill()


def test_the_kubelet_sees_the_plugin_s_offer_and_every_measure_is_taken(short_dir):
    core = Cores.choose().server
    found = offer_of(ours(1_024), short_dir / "offer", core=core)
    assert found.devices >= FEW
    few = PluginPlan(allocations=8, streams=2)
    taken = sample_of(ours(1_024), found, short_dir / "sample", plan=few, core=core)
    assert taken.start > taken.first_list > 0
    assert taken.start_cpu > 0
    assert taken.reregister > 0
    assert taken.stream_cpu > 0
    assert taken.resident > 10_000_000
    assert taken.allocate[FEW].count == 8


def test_the_go_plugin_lists_and_answers_the_same(short_dir):
    program = go_program()
    core = Cores.choose().server
    found = offer_of(ours(1_024), short_dir / "offer", core=core)
    few = PluginPlan(allocations=8, streams=2)
    taken = sample_of(go_command(program, found), found, short_dir / "go", plan=few, core=core)
    assert taken.allocate[FEW].count == 8


def test_neither_plugin_gives_devices_that_are_not_there(short_dir):
    core = Cores.choose().server
    found = offer_of(ours(168), short_dir / "offer", core=core)
    for number, command in enumerate([ours(168), go_command(go_program(), found)]):
        with running(command, short_dir / str(number), core=core) as plugin:
            registration = plugin.kubelet.registered([EPC_RESOURCE])[EPC_RESOURCE]
            for ids in [["AAA", "AAA"], ["zzzz"], ["___"], ["A!A"], [""]]:
                container = pb.ContainerAllocateRequest(devices_ids=ids)
                request = pb.AllocateRequest(container_requests=[container]).SerializeToString()
                with pytest.raises(grpc.RpcError) as refused:
                    registration.allocate(request)
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_lost_stream_is_one_more_registration_of_its_resource(short_dir):
    core = Cores.choose().server
    with running(ours(168), short_dir / "lost", core=core) as plugin:
        plugin.kubelet.registered([EPC_RESOURCE])
        assert plugin.kubelet.counts[EPC_RESOURCE] == 1
        assert plugin.kubelet.seconds_to_reregister(EPC_RESOURCE) > 0
        assert plugin.kubelet.counts[EPC_RESOURCE] == 2


def test_a_kubelet_that_nobody_comes_to_says_so(short_dir, monkeypatch):
    monkeypatch.setattr("bench.device_plugin.kubelet.WAIT_SECONDS", 0.01)
    with MeasuringKubelet(short_dir) as kubelet, pytest.raises(Exception, match="not registered within"):
        kubelet.registered([EPC_RESOURCE])


@pytest.mark.slow
def test_a_tiny_benchmark_of_plugins(tmp_path):
    output = tmp_path / "bench.json"
    few = ["--only", "plugin", "--plugin-rounds", 1, "--allocations", 8, "--mib", 168, "--largest-mib", 4096]
    few += ["--without-go", "--beside", ROOT] if (ROOT / ".venv").exists() else ["--without-go"]
    done = run_python("-m", "bench", *few, "--output", output, cwd=ROOT, timeout=None)
    assert done.returncode == 0, done.stderr
    part = json.loads(output.read_text())["device_plugin"]
    assert [node["mib"] for node in part["nodes"]] == [168, 4096]
    assert all(CONFCOM in node["plugins"] and GO not in node["plugins"] for node in part["nodes"])
    assert "exec() to registered" in done.stdout
