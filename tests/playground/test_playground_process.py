"""The node as people start it: a process, its commands, and what is left when it ends."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc.aio
import pytest
from click.testing import CliRunner

from confcom.cli import group
from confcom.errors import ExitCode, UnavailableError
from confcom.playground.api import client as client_module
from confcom.playground.api.control import Method, method_path
from confcom.playground.api.errors import ManifestError, NodeUnavailableError, NotFoundError, WaitTimeoutError
from confcom.playground.api.views import Phase
from confcom.playground.demo.context import examples_folder
from confcom.playground.layout import Layout
from confcom.playground.node_main import run_node
from confcom.playground.runtime.guardian import marked
from confcom.playground.runtime.images import SAMPLE_WORKLOAD
from testkit.raised import raises


def cli(*arguments, text=None):
    """One command, inside of this process, as its own would run it."""
    return CliRunner().invoke(group.cli, ["playground", *map(str, arguments)], input=text)


def code_of(result):
    """The code of the error in a command's JSON."""
    return json.loads(result.stdout)["error"]["code"]


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def processes(token):
    """Processes whose arguments hold the token: containers of this test, and nothing else."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if token in (entry / "cmdline").read_bytes().decode(errors="replace"):
                    found.append(int(entry.name))
    return found


@pytest.fixture
def token():
    """An argument that is unique to this test; sleep(1) takes it for one more duration."""
    return f"1000.{time.time_ns()}"


@pytest.fixture
def hold(manifest, token):
    """Run a pod of three processes, one of which left its process group and session."""

    def start(node, handler="exit 0"):
        text = f"trap '{handler}' TERM; setsid sleep 1000 {token} & sleep 1000 {token} & while :; do wait; done"
        with node.client() as client:
            client.apply(manifest("Pod", name="hold", container={"command": ["/bin/sh", "-c", text]}))
        until(lambda: len(processes(token)) >= 3)

    return start


def succeeds(client, pod):
    """Apply the pod `one`, and wait until it has succeeded."""
    client.apply(pod)
    assert client.wait(lambda state: state.pod("one").phase.terminal, 20).pod("one").phase is Phase.SUCCEEDED


def nothing_is_left(node, token, *, killed=False):
    until(lambda: not processes(token))
    assert f" {node.directory}" not in Path("/proc/self/mountinfo").read_text()
    if not killed:
        layout = Layout(node.directory)
        assert not layout.control_socket.exists()
        assert not layout.kubelet_socket.exists()
        assert list(layout.pods.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL], ids=str)
def test_nothing_is_left_however_the_node_ends(node_process, hold, mode, number, token):
    node = node_process("--mode", mode)
    assert f"mode {mode}" in node.ready_line
    hold(node)
    killed = number == signal.SIGKILL
    assert node.stop(number) == (-number if killed else 0)
    nothing_is_left(node, token, killed=killed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_nothing_is_left_when_a_second_signal_comes(node_process, hold, mode, number, token):
    node = node_process("--mode", mode)
    hold(node, handler="")
    node.process.send_signal(number)
    time.sleep(0.3)
    assert node.stop(number) == ExitCode.FAILED
    assert "Traceback" not in node.errors.read_text()
    nothing_is_left(node, token)


def test_nothing_of_the_working_directory_is_imported(node_process, hold, manifest, tmp_path, token):
    for name in ("secrets", "contextlib", "signal", "confcom"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write(__name__)\n")
    launcher = (sys.executable, "-P", "-m", "confcom", "playground")
    node = node_process("--mode", "no-namespace", command=launcher, cwd=tmp_path)
    hold(node)
    with node.client() as client:
        container = {"args": ["--help"], "workingDir": str(tmp_path)}
        succeeds(client, manifest("Pod", image=SAMPLE_WORKLOAD, container=container))
    assert node.stop(signal.SIGKILL) == -signal.SIGKILL
    until(lambda: not processes(token))
    assert not (tmp_path / "imported").exists()


def test_a_node_starts_again_where_one_was_killed(node_process, hold, manifest, token):
    first = node_process("--mode", "no-namespace")
    hold(first)
    first.stop(signal.SIGKILL)
    until(lambda: not processes(token))
    second = node_process("--mode", "no-namespace")
    with second.client() as client:
        assert client.state().pods == ()
        succeeds(client, manifest("Pod"))


def test_a_deletion_ends_every_process_of_the_pod(node_process, hold, mode, token):
    node = node_process("--mode", mode)
    hold(node)
    with node.client() as client:
        client.delete("pod", "hold", grace_period=0)
    until(lambda: not processes(token))


def test_a_deletion_that_takes_its_time_says_what_it_waits_for(node_process, manifest):
    node = node_process("--mode", "no-namespace")
    trapped = node.directory / "trapped"
    stubborn = {"command": ["/bin/sh", "-c", f"trap '' TERM; : > {trapped}; while :; do sleep 1; done"]}
    with node.client() as client:
        client.apply(manifest("Pod", name="stubborn", container=stubborn))
    until(trapped.exists)
    deleted = cli("delete", "--dir", node.directory, "--grace-period", "3", "pod", "stubborn")
    assert (deleted.exit_code, deleted.stdout) == (0, 'pod "stubborn" deleted\n')
    (notice,) = deleted.stderr.splitlines()
    assert 'pod "stubborn"' in notice
    assert "2 s" in notice


def test_an_interrupted_client_can_be_closed(node_process):
    node = node_process("--mode", "no-namespace")
    program = Path(__file__).with_name("interrupted_client.py")
    command = [sys.executable, str(program), str(node.directory), "300"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, "300 times\n", "")


def test_notices_come_after_2_s_and_then_every_10():
    said = []

    class Late:
        asked = 0

        def get(self, timeout):
            self.asked += 1
            if self.asked * timeout < 22.5:
                raise queue.Empty
            return b"done"

    assert client_module._wait_for_outcome(Late(), said.append) == b"done"
    assert said == [2, 12, 22]


def test_an_error_of_a_call_is_the_callers():
    calls = client_module._CallThread()
    for error in (KeyError("x"), SystemExit(3)):

        def fail(error=error):
            raise error

        with pytest.raises(type(error)):
            client_module._wait_for_outcome(calls.submit(fail), None)
    assert client_module._wait_for_outcome(calls.submit(lambda: b"later"), None) == b"later"
    calls.close()


def test_two_nodes_at_once_and_one_per_directory(node_process, short_dir):
    first = node_process(directory=short_dir)
    (other := short_dir / "other").mkdir()
    second = node_process(directory=other)
    with first.client() as one, second.client() as two:
        assert one.node().pid == first.process.pid
        assert two.node().pid == second.process.pid
    with raises("node-runs-already", UnavailableError):
        run_node(short_dir, "no-namespace", {}, announce=print)


def test_the_commands_from_end_to_end(node_process, short_dir, manifest, monkeypatch):
    node = node_process("--image", "say:1=/bin/echo hello from", "--image", "hold:1=/bin/sleep 1000")
    monkeypatch.setenv("CONFCOM_PLAYGROUND_DIR", str(short_dir))
    applied = cli("apply", "-", text=manifest(image="say:1", container={"args": ["here"]}))
    assert (applied.exit_code, applied.stdout) == (0, "job.batch/one created\n")
    with node.client() as client:
        state = client.wait(lambda state: state.job("one").status == "Complete", 20)
    (pod,) = state.pods
    logs = cli("logs", pod.name)
    assert (logs.exit_code, logs.stdout) == (0, "hello from here\n")
    shown = cli("get")
    assert f"{pod.name}  Succeeded  0     Completed" in shown.stdout
    assert json.loads(cli("get", "--output", "json").stdout)["pods"][0]["name"] == pod.name
    images = cli("images")
    assert "say:1" in images.stdout
    assert "registry.test/confcom/sample-workload:latest" in images.stdout
    again = cli("apply", "-", "--output", "json", text=manifest(image="say:1"))
    assert (again.exit_code, code_of(again)) == (1, "already-exists")
    assert cli("delete", "job", "one").stdout == 'job "one" deleted\n'
    missing = cli("delete", "job", "one", "--output", "json")
    assert (missing.exit_code, code_of(missing)) == (1, "not-found")
    assert cli("delete").exit_code == ExitCode.USAGE
    assert cli("apply", "-", text="kind: Nothing").exit_code == ExitCode.UNUSABLE
    warned = cli("apply", "--output", "json", "-", text=manifest(name="j", unknown=1))
    assert json.loads(warned.stdout)["objects"] == ["job.batch/j"]
    assert [warning.split()[:3] for warning in json.loads(warned.stdout)["warnings"]] == [["Job", "j:", "spec.unknown"]]
    path = short_dir / "hold.json"
    path.write_text(manifest("Pod", name="held", image="hold:1"))
    assert cli("apply", path).stdout == "pod/held created\n"
    assert cli("delete", "--grace-period", "0", "-f", path).stdout == 'pod "held" deleted\n'
    assert cli("apply", "-", text=b"\xff\xfe").exit_code == ExitCode.UNUSABLE


def test_the_examples_wait_for_a_device_plugin(node_process):
    node = node_process("--mode", "no-namespace")
    with node.client() as client:
        client.apply((examples_folder() / "job.yaml").read_text())
        state = client.wait(lambda state: bool(state.pods and state.pods[0].message), 20)
        assert state.pods[0].reason == "Unschedulable"
        assert "kubernetes.azure.com/sgx_epc_mem_in_MiB" in state.pods[0].message


def test_errors_keep_their_kind_across_the_control_socket(node_process, manifest):
    node = node_process("--mode", "no-namespace")
    with node.client() as client:
        with raises("kind-unknown", ManifestError):
            client.apply("kind: Nothing")
        with pytest.raises(NotFoundError):
            client.logs("x")
        with pytest.raises(WaitTimeoutError, match="rain") as caught:
            client.wait(lambda _: False, 0.1, what="rain")
        assert caught.value.state.node.pid == node.process.pid
        client.restart_kubelet()
        answer = client._channel.unary_unary(method_path(Method.STATE))(b"[1]", timeout=5)
        assert json.loads(answer)["error"]["kind"] == "MalformedError"
        answer = client._channel.unary_unary(method_path(Method.LOGS))(b"{", timeout=5)
        assert json.loads(answer)["error"]["error_code"] == "request-malformed"
    assert node.stop() == 0
    with node.client() as client, pytest.raises(NodeUnavailableError) as lost:
        client.state()
    assert isinstance(lost.value, UnavailableError)
    assert "control.sock" in lost.value.why


def test_only_the_owner_may_use_the_control_socket(node_process):
    node = node_process("--mode", "no-namespace")
    assert Layout(node.directory).control_socket.stat().st_mode & 0o777 == 0o600


def test_a_mode_that_does_not_exist_and_a_directory_that_is_too_long(short_dir):
    assert cli("node", "--dir", short_dir, "--mode", "chroot").exit_code == ExitCode.USAGE
    assert cli("node", "--dir", short_dir / ("x" * 80)).exit_code == ExitCode.USAGE


@pytest.mark.parametrize(("log_format", "is_json"), [("json", True), ("text", False)])
def test_the_log_format_can_be_chosen(node_process, log_format, is_json):
    node = node_process("--mode", "no-namespace", "--log-format", log_format)
    assert node.stop() == 0
    lines = node.errors.read_text().splitlines()
    assert {line.startswith("{") for line in lines} == {is_json}


def test_a_name_with_spaces_and_percent_signs_works(node_process, short_dir, manifest):
    (odd := short_dir / "a b%20c'").mkdir()
    node = node_process("--image", "true=/bin/true", directory=odd)
    with node.client() as client:
        succeeds(client, manifest("Pod"))


def test_the_guardian_kills_what_carries_the_mark_and_nothing_else():
    name, value = "CONFCOM_TEST_MARK", f"{time.time_ns()}/"
    mark = f"{name}={value}"
    marked_process = subprocess.Popen(["/bin/sleep", "1000"], env={name: value + "x"}, start_new_session=True)
    other = subprocess.Popen(["/bin/sleep", "1000"], env={name: "1" + value}, start_new_session=True)
    command = [sys.executable, "-m", "confcom.playground.runtime.guardian", mark]
    guardian = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        assert marked(mark.encode()) == [marked_process.pid]
        assert marked_process.poll() is None
        guardian.stdin.close()
        assert guardian.wait(20) == 0
        assert marked_process.wait(5) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        guardian.kill()
        guardian.wait(5)
        for process in (marked_process, other):
            process.kill()
            process.wait(5)


@pytest.mark.parametrize(("arguments", "refused"), [((), False), (("--kubelet", "1.37"), True)])
async def test_the_rules_of_the_kubelet_are_chosen(node_process, plugins, arguments, refused):
    running = node_process("--mode", "no-namespace", *arguments)
    plugin = await plugins(running.directory / "node/var/lib/kubelet/device-plugins", ids=("a",))
    await plugin.register()
    with pytest.raises(grpc.aio.AioRpcError) if refused else contextlib.nullcontext():
        await plugin.register()
    assert running.stop() == 0
