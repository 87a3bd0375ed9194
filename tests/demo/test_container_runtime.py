import asyncio
import dataclasses
from pathlib import Path

import pytest

from confcom.demo.container_runtime import (
    SAMPLE_WORKLOAD,
    ContainerError,
    ContainerPlan,
    ContainerRuntime,
    Image,
    choose_runtime,
    plan_container,
    root_script,
    sample_image,
)
from confcom.demo.job_file import Job
from confcom.demo.node import Phase
from confcom.errors import ExitCode, SettingsError
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.namespaces.modes import Mode
from confcom.namespaces.mount_script import HOST_DEVICE, Bind
from testkit.conditions import until
from testkit.expected_errors import raises
from tests.demo.conftest import TOOLS, mount

RESOURCE = "example.com/thing"
MARK = {"CONFCOM_DEMO": "/test"}
NAMESPACES = [mode for mode in Mode if mode is not Mode.NO_NAMESPACE]
SIMULATED = {
    "devices": [
        pb.DeviceSpec(container_path=path, host_path=HOST_DEVICE, permissions="rw")
        for path in ("/dev/sgx_enclave", "/dev/sgx/enclave")
    ],
    "mounts": [pb.Mount(container_path="/var/run/aesmd", host_path="/var/run/aesmd", read_only=True)],
    "envs": {"GIVEN": "by the plugin"},
}


def sh(text, **fields):
    return Job("one", image="sh", args=(text,), **fields)


async def run(node, job):
    pod = node.submit(job)
    async with asyncio.timeout(20):
        await node.changes.until(lambda: pod.ended)
    return pod


@pytest.fixture
async def node(start_node, plugins, mode):
    """A node for each mode, with a device plugin that offers simulated devices."""
    made = await start_node(mode)
    made.plugin = await plugins(made.device_plugin_dir, ids=("a", "b"))
    made.plugin.response = SIMULATED
    await made.plugin.register()
    async with asyncio.timeout(20):
        await made.changes.until(lambda: made.ledger.allocatable() == {RESOURCE: 2})
    return made


async def test_variables_of_image_plugin_and_file_reach_the_program(node):
    pod = await run(node, sh('echo "$A $GIVEN $OWN"', env={"OWN": "x"}, limits={RESOURCE: 2}))
    assert (pod.phase, pod.exit_code, pod.output()) == (Phase.SUCCEEDED, 0, "image by the plugin x\n")
    assert node.ledger.allocated(RESOURCE) == 0


@pytest.mark.parametrize(
    ("text", "code"), [("exit 7", 7), ("exec /no/such/program", 127), ("kill -KILL $$; sleep 9", 137)]
)
async def test_a_program_that_fails(node, text, code):
    if code == 137 and node.runtime.mode is not Mode.NO_NAMESPACE:
        text = "(exit 137)"  # process 1 of a PID namespace cannot kill itself
    pod = await run(node, sh(text))
    assert (pod.phase, pod.exit_code) == (Phase.FAILED, code)


async def test_a_deletion_asks_first_and_kills_later(node, short_dir):
    for name, handler, grace in (("patient", "echo asked; exit 0", 20), ("stubborn", "", 0.1)):
        text = f"trap '{handler}' TERM; echo ready; while :; do sleep 0.01; done"
        pod = node.submit(dataclasses.replace(sh(text, limits={RESOURCE: 1}), name=name))
        await until(lambda pod=pod: "ready" in pod.output())
        assert node.ledger.allocated(RESOURCE) == 1
        await node.delete(pod, grace)
        assert ("asked" in pod.output()) is bool(handler)
        assert (pod.ended, node.ledger.allocated(RESOURCE)) == (True, 0)


async def test_a_deletion_waits_for_a_container_that_is_being_started(node):
    pod = node.submit(sh("sleep 60", limits={RESOURCE: 1}))
    while not pod.starting:  # noqa: ASYNC110 # no event reports the start
        await asyncio.sleep(0)
    await node.delete(pod, 0)
    assert (pod.ended, pod.process is None, node.ledger.allocated(RESOURCE)) == (True, False, 0)


@pytest.mark.parametrize(
    ("response", "image", "code"),
    [
        ({"devices": [pb.DeviceSpec(container_path="/dev/x", host_path="/dev/zero")]}, "sh", "device-not-given-out"),
        ({}, "nginx:1", "image-unknown"),
    ],
)
async def test_a_container_that_is_not_created_frees_its_devices(node, response, image, code):
    node.plugin.response = response
    pod = await run(node, dataclasses.replace(sh("true", limits={RESOURCE: 1}), image=image))
    assert (pod.phase, pod.error.error_code, pod.exit_code) == (Phase.FAILED, code, None)
    assert node.ledger.allocated(RESOURCE) == 0


async def test_stopping_the_node_kills_containers_at_once(node):
    node.submit(sh("trap '' TERM; while :; do sleep 0.01; done"))
    waiting = node.submit(dataclasses.replace(sh("true", limits={RESOURCE: 9}), name="two"))
    async with asyncio.timeout(5):
        await node.changes.until(lambda: waiting.message)
        await node.stop()
    assert not (node.device_plugin_dir / "kubelet.sock").exists()


def assert_the_machine_is_untouched():
    assert not Path("/data").exists()
    assert not Path("/dev/sgx").exists()
    assert "confcom-demo" not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("mode", NAMESPACES, indirect=True, ids=str)
async def test_files_devices_and_processes_are_its_own(node):
    (node.aesm_socket.parent / "marker").write_text("node's aesmd\n")
    checks = """
        cat /var/run/aesmd/marker
        touch /var/run/aesmd/new 2>/dev/null && echo WRITABLE
        echo x > /dev/sgx_enclave && echo x > /dev/sgx/enclave && echo devices
        echo $(ls /dev)
        echo "process $$ of $(ls /proc | grep -c '^[0-9]*$') $PWD $(id -u)"
        mkdir /data/sub && echo data
        env
    """
    pod = await run(node, sh(checks, limits={RESOURCE: 1}, mounts=(mount("/data", "/srv/data"),)))
    lines = pod.output().splitlines()
    assert pod.phase is Phase.SUCCEEDED, lines
    assert lines[:2] == ["node's aesmd", "devices"]
    assert set(lines[2].split()) - {"tty"} == {
        "fd", "full", "null", "random", "sgx", "sgx_enclave", "shm", "stderr", "stdin", "stdout", "urandom", "zero",
    }  # fmt: skip
    process, _, count = lines[3].partition(" of ")
    assert process == "process 1"
    assert int(count.split()[0]) < 10
    assert count.split()[1:] == ["/", "0"]
    assert lines[4] == "data"
    assert not [line for line in lines[5:] if line.startswith(("SGX", "CONFCOM"))]
    assert (node.root / "srv/data/sub").is_dir()
    assert_the_machine_is_untouched()


@pytest.mark.parametrize("mode", [Mode.NO_NAMESPACE], indirect=True, ids=str)
async def test_without_namespaces_variables_tell_the_paths(node):
    node.aesm_socket.touch()
    text = "test -f $CONFCOM_AESM_SOCKET && test -c $CONFCOM_SGX_ENCLAVE_DEVICE && echo $CONFCOM_AESM_SOCKET"
    pod = await run(node, sh(text, limits={RESOURCE: 1}))
    assert pod.output() == f"{node.aesm_socket}\n"


@pytest.mark.parametrize("mode", NAMESPACES, indirect=True, ids=str)
async def test_mounts_that_fail_are_no_exit_code(node):
    (node.root / "srv").mkdir()
    (node.root / "srv/file").touch()
    pod = await run(node, sh("true", mounts=(mount("/usr", "/srv/file"),)))
    assert (pod.phase, pod.error.error_code, pod.exit_code) == (Phase.FAILED, "container-not-started", None)
    assert "/usr" in pod.error.why


def test_no_mount_point_is_created_in_a_directory_of_the_machine(tmp_path):
    for place, refused in (("/usr/new", True), ("/usr", False), ("/new", False), ("/run/a/b", False)):
        plan = ContainerPlan(("true",), binds=(Bind(tmp_path, place),))
        if refused:
            with raises("mount-point-missing", ContainerError):
                root_script(plan, TOOLS, root=tmp_path / "r", ready=tmp_path / "ready")
        else:
            assert f"{tmp_path}/r{place}" in root_script(plan, TOOLS, root=tmp_path / "r", ready=tmp_path / "ready")


def test_every_word_of_the_script_is_quoted(tmp_path):
    plan = ContainerPlan(("a b", "$(reboot)", "'"), {"A": "`x`"})
    last = root_script(plan, TOOLS, root=tmp_path / "r", ready=tmp_path / "ready").splitlines()[-1]
    assert last.endswith("""-i -- 'A=`x`' 'a b' '$(reboot)' ''"'"'' 2>&1""")


def test_the_users_mount_covers_the_plugins_and_parents_come_first():
    job = Job("j", mounts=(mount("/a/b/c", "/deep"), mount("/var/run/aesmd", "/mine"), mount("/e", "/e")))
    allocation = pb.ContainerAllocateResponse(mounts=[mount("/var/run/aesmd", "/var/run/aesmd", read_only=True)])
    plan = plan_container(job, Image(("run",), {}), allocation, Path("/node"))
    assert plan.binds == (
        Bind(Path("/node/e"), "/e"), Bind(Path("/node/mine"), "/var/run/aesmd"), Bind(Path("/node/deep"), "/a/b/c"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "argv"),
    [
        ({}, ("entry", "point")),
        ({"args": ("x",)}, ("entry", "point", "x")),
        ({"command": ("mine",), "args": ("x",)}, ("mine", "x")),
    ],
)
def test_command_replaces_the_program_and_args_follow(fields, argv):
    image = Image(("entry", "point"), {})
    assert plan_container(Job("j", **fields), image, pb.ContainerAllocateResponse(), Path("/node")).argv == argv


def test_the_sample_finds_the_modules_of_this_interpreter():
    env = sample_image({"PYTHONPATH": "/a:b", "HOME": "/h", "SECRET": "x"}).env
    assert (env["PYTHONPATH"], env["HOME"]) == (f"/a:{Path.cwd() / 'b'}", "/h")
    assert "SECRET" not in env
    assert "PYTHONPATH" not in sample_image({}).env
    assert SAMPLE_WORKLOAD.startswith("registry.test/")


async def test_a_mode_that_was_asked_for_is_taken_or_refused(mode, tmp_path):
    assert (await choose_runtime(mode, TOOLS, MARK, tmp_path / "a")).mode is mode
    if mode is not Mode.NO_NAMESPACE:
        with pytest.raises(SettingsError) as caught:
            await choose_runtime(mode, TOOLS | {"setpriv": "/bin/false"}, MARK, tmp_path / "b")
        assert (caught.value.error_code, caught.value.exit_code) == ("mode-not-usable", ExitCode.USAGE)
        assert caught.value.why


DENIED = "#!/bin/sh\necho 'mount: permission denied' >&2\nexit 32\n"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"unshare": None}, "unshare missing"),
        ({"setpriv": "/bin/false"}, "exited 1"),
        ({"setpriv": "/no/such/setpriv"}, "/no/such/setpriv"),
        ({"mount": DENIED}, "mount: permission denied"),
    ],
    ids=["missing", "failing", "not-there", "mount-denied"],
)
async def test_where_namespaces_are_refused_it_says_why(tmp_path, changed, why):
    (name, tool), tools = next(iter(changed.items())), dict(TOOLS)
    if tool == DENIED:
        tool = tmp_path / "mount"
        tool.write_text(DENIED)
        tool.chmod(0o755)
    tools[name] = str(tool)
    if tool is None:
        del tools[name]
    runtime = await choose_runtime("auto", tools, MARK, tmp_path)
    assert (runtime.mode, isinstance(runtime, ContainerRuntime)) == (Mode.NO_NAMESPACE, True)
    assert f"not user-namespace: {why}" in runtime.reason or why in runtime.reason
