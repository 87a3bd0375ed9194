import asyncio
import dataclasses
import json
import socket
from pathlib import Path

import pytest

from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.playground.api.errors import AlreadyExistsError, ManifestError, NotFoundError
from confcom.playground.api.object_store import MAX_OBJECTS
from confcom.playground.api.views import JobStatus, NodeState, Phase
from confcom.playground.kubelet.rules import BackOff
from confcom.playground.node import Timing
from confcom.playground.runtime.log_files import MAX_LOG_BYTES
from confcom.playground.runtime.modes import Mode
from testkit.raised import raises

RESOURCE = "example.com/thing"
IDS = tuple(f"d{number}" for number in range(8))
TEN_THINGS = {RESOURCE: len(IDS)}


def sh(text):
    return {"command": ["/bin/sh", "-c", text]}


def trapping(ready, handler=""):
    """A container that makes a file once it handles SIGTERM, which it ignores without a handler."""
    return sh(f"trap '{handler}' TERM; : > {ready}; while :; do sleep 0.01; done")


async def exists(path, seconds=20):
    async with asyncio.timeout(seconds):
        while not path.exists():  # noqa: ASYNC110 - nothing tells of a new file
            await asyncio.sleep(0.01)


def null_device(path):
    return pb.DeviceSpec(container_path=path, host_path="/dev/null", permissions="rw")


AESMD = pb.Mount(container_path="/var/run/aesmd", host_path="/var/run/aesmd", read_only=True)


def phase_of(name, *phases):
    def predicate(state):
        pod = state.pod(name)
        return pod is not None and pod.phase in phases

    return predicate


@pytest.fixture
async def node(start_node, plugins):
    """A node with a plugin whose eight devices are there."""
    one = await start_node()
    plugin = await plugins(one.layout.device_plugin_dir, ids=IDS)
    await plugin.register()
    await one.until(lambda state: state.node.allocatable == TEN_THINGS)
    one.plugin = plugin
    return one


async def test_a_job_gets_its_devices_runs_and_gives_them_back(node, manifest):
    node.plugin.response = {"envs": {"GIVEN": "yes"}}
    result = node.node.apply(manifest(resources={RESOURCE: 3}, container=sh('echo "$GIVEN $OWN"'), env=[("OWN", "x")]))
    assert result.objects == ("job.batch/one",)
    state = await node.until(lambda state: state.job("one").status is JobStatus.COMPLETE)
    (pod,) = state.pods_of("one")
    assert (pod.phase, pod.exit_code, pod.reason, pod.owner_kind) == (Phase.SUCCEEDED, 0, "Completed", "Job")
    assert (pod.allocated, state.node.allocated, state.node.ledger) == ({}, {}, ())
    assert [(event.reason, event.count) for event in state.events] == [("Allocated", 3), ("Released", 3)]
    assert node.node.logs(pod.name, None) == "yes x\n"
    assert pod.containers[0].env["GIVEN"] == "yes"
    assert (state.job("one").succeeded, state.job("one").failed, state.job("one").pods) == (1, 0, (pod.name,))


async def test_a_pod_that_has_ended_never_holds_anything_not_even_for_a_moment(node, manifest):
    seen = []

    def changed():
        state = node.node.state()
        seen.extend((pod.phase, pod.allocated) for pod in state.pods if pod.phase.terminal)
        node.node._changed()

    node.node._worker = dataclasses.replace(node.node._worker, changed=changed)
    await node.run(manifest("Pod", resources={RESOURCE: 2}), Phase.SUCCEEDED)
    assert (Phase.SUCCEEDED, {}) in seen
    assert {allocated.get(RESOURCE, 0) for _, allocated in seen} == {0}


async def test_the_ledger_shows_who_holds_what(node, manifest):
    state = await node.run(manifest("Pod", image="sleep", resources={RESOURCE: 5}), Phase.RUNNING)
    assert state.node.allocated == {RESOURCE: 5}
    assert state.pod("one").allocated == {RESOURCE: 5} == state.pod("one").requested
    assert [(line.pod, line.container, line.count) for line in state.node.ledger] == [("one", "main", 5)]


async def test_a_pod_waits_for_a_plugin_that_comes_late(start_node, plugins, manifest):
    one = await start_node()
    await one.run(manifest("Pod", resources={RESOURCE: 1}), reason="Unschedulable")
    plugin = await plugins(one.layout.device_plugin_dir, ids=IDS)
    await plugin.register()
    state = await one.until(phase_of("one", Phase.SUCCEEDED))
    assert (state.pod("one").reason, state.pod("one").message) == ("Completed", "")


async def test_a_refused_allocation_fails_the_pod_and_frees_its_devices(node, manifest):
    node.plugin.refuse = True
    state = await node.run(manifest("Pod", resources={RESOURCE: 2}), Phase.FAILED)
    assert state.node.allocated == {}
    assert state.pod("one").exit_code is None


async def test_a_job_retries_until_its_limit(node, manifest):
    node.node.apply(manifest(container=sh("exit 7"), backoffLimit=2, resources={RESOURCE: 8}))
    state = await node.until(lambda state: state.job("one").status is JobStatus.FAILED)
    job = state.job("one")
    assert job.reason == "BackoffLimitExceeded"
    assert (job.failed, job.succeeded, job.active, len(job.pods)) == (3, 0, 0, 3)
    assert {pod.exit_code for pod in state.pods} == {7}
    assert state.node.allocated == {}


async def test_a_job_whose_pod_restarts_too_often_fails_and_its_pod_goes(node, manifest):
    node.node.apply(manifest(container=sh("exit 1"), pod={"restartPolicy": "OnFailure"}, backoffLimit=2))
    state = await node.until(lambda state: state.job("one").status is JobStatus.FAILED and not state.pods)
    assert state.job("one").reason == "BackoffLimitExceeded"


async def test_a_pod_of_a_job_that_is_deleted_is_replaced(node, manifest):
    node.node.apply(manifest(image="sleep"))
    state = await node.until(lambda state: any(pod.phase is Phase.RUNNING for pod in state.pods))
    (first,) = state.pods
    await node.node.delete("po", first.name, 0)
    state = await node.until(lambda state: any(p.phase is Phase.RUNNING and p.name != first.name for p in state.pods))
    assert state.job("one").failed == 1


async def test_an_unknown_image_waits_with_advice_and_holds_its_devices(node, manifest):
    state = await node.run(manifest("Pod", image="nginx:1", resources={RESOURCE: 1}), reason="ErrImageNeverPull")
    pod = state.pod("one")
    assert pod.phase is Phase.PENDING
    assert "nginx:1" in pod.message
    assert state.node.allocated == {RESOURCE: 1}
    await node.node.delete("pod", "one", None)
    assert node.node.state().node.allocated == {}


async def test_a_plugin_that_gives_out_real_devices_gets_no_container(node, manifest):
    node.plugin.response = {
        "devices": [pb.DeviceSpec(container_path="/dev/x", host_path="/dev/zero", permissions="rw")]
    }
    state = await node.run(manifest("Pod", resources={RESOURCE: 1}), reason="CreateContainerError")
    assert "/dev/zero" in state.pod("one").message


async def test_a_program_that_is_not_there_fails_with_what_the_shell_says(node, manifest):
    state = await node.run(manifest("Pod", container={"command": ["/no/such/program"]}), Phase.FAILED)
    assert state.pod("one").exit_code == 127
    assert "/no/such/program" in node.node.logs("one", None)


async def test_a_signal_counts_as_128_and_its_number(node, manifest):
    state = await node.run(manifest("Pod", container=sh("kill -KILL $$$$")), Phase.FAILED)
    assert state.pod("one").exit_code == 137


async def test_sigterm_comes_first_and_sigkill_after_the_grace_period(node, manifest):
    for name, handler in (("patient", "echo asked; exit 0"), ("stubborn", "")):
        container = trapping(node.layout.directory / name, handler)
        node.node.apply(manifest("Pod", name=name, container=container, pod={"terminationGracePeriodSeconds": 30}))
        await node.until(phase_of(name, Phase.RUNNING))
        await exists(node.layout.directory / name)
    await node.node.delete("pod", "patient", None)
    assert "asked" in (node.layout.logs / "patient.log").read_text()
    await node.node.delete("pod", "stubborn", 0.1)
    assert node.node.state().pods == ()


async def test_two_containers_share_the_pod_and_have_their_own_logs(node, manifest):
    document = json.loads(manifest("Pod", resources={RESOURCE: 1}, container=sh("echo main; exit 3")))
    side = {"name": "side", "image": "sh", "args": ["echo side"], "resources": {"limits": {RESOURCE: 2}}}
    document["spec"]["containers"].append(side)
    state = await node.run(json.dumps(document), Phase.FAILED)
    assert state.pod("one").exit_code == 3
    assert [container.exit_code for container in state.pod("one").containers] == [3, 0]
    assert {event.count for event in state.events if event.reason == "Allocated"} == {1, 2}
    assert node.node.logs("one", "side") == "side\n"
    for name, code in ((None, "container-not-named"), ("none", "container-not-found")):
        with raises(code, NotFoundError):
            node.node.logs("one", name)


async def test_names_are_taken_once(node, manifest):
    node.node.apply(manifest("Pod", image="sleep"))
    with pytest.raises(AlreadyExistsError):
        node.node.apply(manifest("Pod"))
    node.node.apply(manifest())
    with pytest.raises(AlreadyExistsError):
        node.node.apply(manifest())


async def test_a_manifest_is_taken_whole_or_not_at_all(node, manifest):
    bad = manifest("Pod", name="bad", container={"env": [{"name": "A", "value": 1}]})
    with pytest.raises(ManifestError):
        node.node.apply(f"{manifest('Pod', name='good')}\n---\n{bad}")
    with pytest.raises(AlreadyExistsError):
        node.node.apply(f"{manifest('Pod', name='x')}\n---\n{manifest('Pod', name='x')}")
    assert node.node.state().pods == ()


async def test_objects_are_bounded(node, manifest):
    many = "\n---\n".join(manifest("Pod", name=f"p{n}", resources={RESOURCE: 99}) for n in range(MAX_OBJECTS))
    node.node.apply(many)
    with raises("too-many-objects"):
        node.node.apply(manifest("Pod"))


@pytest.mark.parametrize(
    ("kind", "code"), [("pod", "not-found"), ("jobs.batch", "not-found"), ("service", "kind-unknown")]
)
async def test_what_is_not_there_cannot_be_deleted(node, kind, code):
    with raises(code, NotFoundError):
        await node.node.delete(kind, "x", None)


async def test_a_deletion_goes_on_when_who_asked_for_it_goes_away(node, manifest):
    await node.run(manifest("Pod", image="sleep", resources={RESOURCE: 1}), Phase.RUNNING)
    asking = asyncio.create_task(node.node.delete("pod", "one", 30))
    await node.until(lambda state: state.pod("one").deleting)
    asking.cancel()
    state = await node.until(lambda state: not state.pods)
    assert state.node.allocated == {}


async def test_volumes_are_the_nodes_directories_and_empty_ones(node, manifest):
    text = "ls -A $ROOT/empty; echo new > $ROOT/host/file"
    root = node.layout.pods / "one/containers/main/root"
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("host", "empty")]
    volumes = [{"name": "host", "hostPath": {"path": "/srv/x"}}, {"name": "empty", "emptyDir": {}}]
    container = {**sh(text), "volumeMounts": mounts}
    await node.run(
        manifest("Pod", container=container, env=[("ROOT", str(root))], pod={"volumes": volumes}), Phase.SUCCEEDED
    )
    assert (node.layout.directory / "node/srv/x/file").read_text() == "new\n"
    assert node.node.logs("one", None) == ""


@pytest.mark.parametrize("kind", ["Directory", "File", "Socket", "CharDevice"])
async def test_a_host_path_of_another_type_keeps_the_container_waiting(node, manifest, kind):
    volume = {"name": "v", "hostPath": {"path": "/srv/x", "type": kind}}
    state = await node.run(manifest("Pod", pod={"volumes": [volume]}), reason="CreateContainerError")
    assert "/srv/x" in state.pod("one").message
    place = node.layout.host_path("/srv/x")
    place.parent.mkdir(parents=True)
    if kind == "Directory":
        place.mkdir()
        await node.until(phase_of("one", Phase.SUCCEEDED))


async def test_host_paths_that_may_be_created(node, manifest):
    volumes = [
        {"name": "a", "hostPath": {"path": "/srv/d", "type": "DirectoryOrCreate"}},
        {"name": "b", "hostPath": {"path": "/srv/f", "type": "FileOrCreate"}},
    ]
    await node.run(manifest("Pod", pod={"volumes": volumes}), Phase.SUCCEEDED)
    assert node.layout.host_path("/srv/d").is_dir()
    assert node.layout.host_path("/srv/f").is_file()


async def test_a_link_on_the_node_does_not_lead_to_the_machine(node, manifest):
    node.layout.host_path("/out").symlink_to("/etc")
    state = await node.run(
        manifest("Pod", pod={"volumes": [{"name": "v", "hostPath": {"path": "/out/new"}}]}),
        reason="CreateContainerError",
    )
    assert "/out/new" in state.pod("one").message


async def test_without_namespaces_our_client_is_told_where_its_paths_are(node, manifest):
    node.plugin.response = {"devices": [null_device("/dev/sgx_enclave")], "mounts": [AESMD]}
    with socket.socket(socket.AF_UNIX) as aesm:
        aesm.bind(str(node.layout.aesm_socket))
        text = "test -S $CONFCOM_AESM_SOCKET && test -c $CONFCOM_SGX_ENCLAVE_DEVICE && echo found"
        node.node.apply(manifest("Pod", container=sh(text), resources={RESOURCE: 1}))
        state = await node.until(phase_of("one", Phase.SUCCEEDED))
    assert node.node.logs("one", None) == "found\n"
    assert state.pod("one").containers[0].env["CONFCOM_AESM_SOCKET"] == str(node.layout.aesm_socket)


async def test_only_the_end_of_a_long_log_is_shown(node, manifest):
    await node.run(manifest("Pod", container=sh(f"head -c {MAX_LOG_BYTES + 5} /dev/zero; printf end")), Phase.SUCCEEDED)
    text = node.node.logs("one", None)
    assert len(text) == MAX_LOG_BYTES
    assert text.endswith("\0end")


async def test_the_state_survives_json(node, manifest):
    node.plugin.response = {"devices": [null_device("/dev/x")], "mounts": [AESMD]}
    node.node.apply(manifest(resources={RESOURCE: 1}, image="sleep"))
    state = await node.until(lambda state: any(pod.phase is Phase.RUNNING for pod in state.pods))
    assert NodeState.from_json(json.loads(json.dumps(state.to_json()))) == state


async def test_a_change_wakes_who_waits_and_no_change_lets_go_in_time(node, manifest):
    before = node.node.state()
    assert (await node.node.changed_since(before.revision, 0.01)).revision == before.revision
    waiting = asyncio.create_task(node.node.changed_since(before.revision, 20))
    await asyncio.sleep(0)
    node.node.apply(manifest("Pod"))
    assert (await waiting).revision > before.revision


async def test_stopping_ends_containers_and_takes_their_directories(start_node, manifest):
    one = await start_node()
    one.node.apply(manifest("Pod", name="two", container=sh("exit 1"), pod={"restartPolicy": "Always"}))
    await one.run(manifest("Pod", image="sleep"), Phase.RUNNING)
    await one.node.stop()
    assert list(one.layout.pods.iterdir()) == []
    assert not one.layout.kubelet_socket.exists()


def assert_the_machine_is_untouched():
    assert not Path("/data").exists()
    assert not Path("/dev/sgx").exists()
    assert "playground" not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("chosen", [Mode.ROOT, Mode.USER_NAMESPACE], ids=str)
async def test_paths_devices_and_isolation_in_each_mode(start_node, plugins, manifest, chosen, obstacles):
    if obstacles[chosen]:
        pytest.skip(f"mode {chosen} left out on this machine: {obstacles[chosen]}")
    one = await start_node(mode=chosen)
    plugin = await plugins(one.layout.device_plugin_dir, ids=IDS)
    plugin.response = {"devices": [null_device("/dev/sgx_enclave"), null_device("/dev/sgx/enclave")], "mounts": [AESMD]}
    await plugin.register()
    (one.layout.aesm_socket.parent / "marker").write_text("node's aesmd\n")
    checks = """
        cat /var/run/aesmd/marker
        touch /var/run/aesmd/new 2>/dev/null && echo WRITABLE
        echo x > /dev/sgx_enclave && echo x > /dev/sgx/enclave && echo devices
        echo $(ls /dev)
        echo "process $$$$ of $(ls /proc | grep -c '^[0-9]*$') $PWD $(id -u)"
        mkdir /data/sub && echo data
        env
    """
    container = {"workingDir": "/usr", "args": [checks], "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    volumes = [{"name": "data", "emptyDir": {}}]
    state = await one.run(
        manifest("Pod", image="sh", resources={RESOURCE: 1}, container=container, pod={"volumes": volumes}),
        Phase.SUCCEEDED,
        Phase.FAILED,
    )
    log = one.node.logs("one", None).splitlines()
    assert state.pod("one").phase is Phase.SUCCEEDED, log
    assert log[:2] == ["node's aesmd", "devices"]
    present = {name for name in ("tty",) if name in log[2].split()}
    assert set(log[2].split()) - present == {
        "fd", "full", "null", "random", "sgx", "sgx_enclave", "shm", "stderr", "stdin", "stdout", "urandom", "zero",
    }  # fmt: skip
    process, _, count = log[3].partition(" of ")
    assert process == "process 1"
    assert int(count.split()[0]) < 10
    assert count.split()[1:] == ["/usr", "0"]
    assert log[4] == "data"
    assert not [line for line in log[5:] if line.startswith(("SGX", "CONFCOM"))]
    assert (one.layout.pods / "one/volumes/data/sub").is_dir()
    assert_the_machine_is_untouched()


async def test_a_container_whose_mounts_fail_never_started_and_says_what_mount_said(start_node, manifest, obstacles):
    if obstacles[Mode.USER_NAMESPACE]:
        pytest.skip(f"mode user-namespace left out on this machine: {obstacles[Mode.USER_NAMESPACE]}")
    one = await start_node(mode=Mode.USER_NAMESPACE)
    one.layout.host_path("/srv").mkdir()
    one.layout.host_path("/srv/file").touch()
    container = {"volumeMounts": [{"name": "v", "mountPath": "/usr"}]}
    volumes = [{"name": "v", "hostPath": {"path": "/srv/file"}}]
    state = await one.run(manifest("Pod", container=container, pod={"volumes": volumes}), Phase.FAILED)
    pod = state.pod("one")
    assert (pod.reason, pod.exit_code) == ("StartError", 128)


async def test_a_node_that_stops_does_not_wait_for_a_long_deletion(start_node, manifest):
    one = await start_node()
    ready = one.layout.directory / "ready"
    await one.run(manifest("Pod", container=trapping(ready)), Phase.RUNNING)
    await exists(ready)
    deletion = asyncio.create_task(one.node.delete("pod", "one", 1000))
    await one.until(lambda state: state.pod("one").deleting)
    await one.node.stop()
    await deletion
    assert one.node.state().pods == ()


async def test_a_job_deleted_between_two_tries_makes_no_more_pods(start_node, manifest):
    one = await start_node(timing=Timing(job_back_off=BackOff(1000, 1000)))
    one.node.apply(manifest(container=sh("exit 1")))
    await one.until(lambda state: state.job("one").failed == 1)
    await one.node.delete("job", "one", None)
    state = one.node.state()
    assert (state.jobs, state.pods) == ((), ())


async def test_a_job_of_the_same_name_owns_only_its_own_pods(node, manifest):
    ready = node.layout.directory / "ready"
    node.node.apply(manifest(container=trapping(ready), pod={"terminationGracePeriodSeconds": 30}))
    state = await node.until(lambda state: any(pod.phase is Phase.RUNNING for pod in state.pods))
    (old,) = state.pods
    await exists(ready)
    deletion = asyncio.create_task(node.node.delete("job", "one", 0.5))
    await node.until(lambda state: state.pod(old.name).deleting)
    node.node.apply(manifest())
    state = await node.until(lambda state: state.job("one").status is JobStatus.COMPLETE)
    assert old.name not in state.job("one").pods
    await deletion
    assert node.node.state().job("one").failed == 0


async def test_a_pod_that_has_not_started_has_an_empty_log(node, manifest):
    node.node.apply(manifest("Pod", resources={RESOURCE: 99}))
    assert node.node.logs("one", None) == ""
