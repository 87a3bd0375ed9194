import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import SettingsError
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.resource_names import extended_resource
from confcom.playground.api.views import DeviceView, MountView, Phase
from confcom.playground.kubelet.allocation import merge
from confcom.playground.kubelet.rules import BackOff, ContainerState, backoff_limit_exceeded, pod_phase, restarts
from confcom.playground.kubelet.scheduler import total, unschedulable
from confcom.playground.layout import MAX_DIR_BYTES, Layout
from confcom.playground.manifests.v1 import EnvVar, RestartPolicy
from confcom.playground.runtime.container_plan import environment, expand
from confcom.playground.runtime.images import SAMPLE_WORKLOAD, image_table, missing_image
from testkit.raised import raises

EPC = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
NEVER, ON_FAILURE, ALWAYS = RestartPolicy.NEVER, RestartPolicy.ON_FAILURE, RestartPolicy.ALWAYS
WAITING, RUNNING, TERMINATED = ContainerState.WAITING, ContainerState.RUNNING, ContainerState.TERMINATED


@pytest.mark.parametrize(
    ("requests", "allocatable", "used", "short"),
    [
        ({EPC: 10}, {EPC: 168}, {}, ()),
        ({EPC: 158}, {EPC: 168}, {EPC: 10}, ()),
        ({EPC: 160}, {EPC: 168}, {EPC: 10}, (EPC,)),
        ({EPC: 169}, {EPC: 168}, {}, (EPC,)),
        ({EPC: 1}, {}, {}, (EPC,)),
        ({EPC: 1}, {EPC: 0}, {}, (EPC,)),
        ({EPC: 0}, {}, {}, ()),
        ({"b/b": 2, "a/a": 2}, {"a/a": 2, "b/b": 2}, {"a/a": 1, "b/b": 1}, ("a/a", "b/b")),
        ({"b/b": 2, "a/a": 2}, {"a/a": 2}, {"a/a": 0}, ("b/b",)),
    ],
)
def test_scheduling(requests, allocatable, used, short):
    """The words are in the contract suite, which has them from a cluster."""
    message = unschedulable(requests, allocatable, used)
    assert bool(message) is bool(short)
    assert tuple(sorted(resource for resource in requests if resource in message)) == short


def test_requests_add_up():
    assert total([{"a/a": 1}, {"a/a": 2, "b/b": 3}, {}]) == {"a/a": 3, "b/b": 3}


@pytest.mark.parametrize(
    ("containers", "policy", "phase"),
    [
        ([(WAITING, None)], NEVER, Phase.PENDING),
        ([(RUNNING, None)], NEVER, Phase.RUNNING),
        ([(RUNNING, None), (WAITING, None)], NEVER, Phase.PENDING),
        ([(TERMINATED, 0)], NEVER, Phase.SUCCEEDED),
        ([(TERMINATED, 3)], NEVER, Phase.FAILED),
        ([(TERMINATED, 0), (TERMINATED, 1)], NEVER, Phase.FAILED),
        ([(TERMINATED, 0), (RUNNING, None)], NEVER, Phase.RUNNING),
        ([(TERMINATED, 1)], ON_FAILURE, Phase.RUNNING),
        ([(TERMINATED, 0)], ON_FAILURE, Phase.SUCCEEDED),
        ([(WAITING, 1)], ON_FAILURE, Phase.RUNNING),
        ([(TERMINATED, 0)], ALWAYS, Phase.RUNNING),
    ],
)
def test_pod_phases(containers, policy, phase):
    assert pod_phase(containers, policy) is phase


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        (NEVER, 1, False),
        (NEVER, 0, False),
        (ON_FAILURE, 1, True),
        (ON_FAILURE, 0, False),
        (ALWAYS, 0, True),
        (ALWAYS, 1, True),
    ],
)
def test_restarts(policy, code, again):
    assert restarts(policy, code) is again


@pytest.mark.parametrize(
    ("policy", "failed", "restart_count", "limit", "exceeded"),
    [
        (NEVER, 0, 0, 0, False), (NEVER, 1, 0, 0, True), (NEVER, 6, 0, 6, False), (NEVER, 7, 0, 6, True),
        (NEVER, 0, 9, 6, False), (ON_FAILURE, 0, 0, 0, False), (ON_FAILURE, 0, 1, 0, True),
        (ON_FAILURE, 0, 1, 2, False), (ON_FAILURE, 0, 2, 2, True),
    ],
)  # fmt: skip
def test_when_a_job_gives_up(policy, failed, restart_count, limit, exceeded):
    assert backoff_limit_exceeded(policy, failed_pods=failed, restart_count=restart_count, limit=limit) is exceeded


def test_delays_double_up_to_a_limit():
    back_off = BackOff(1.0, 30.0)
    assert [back_off.after(n) for n in (1, 2, 5, 6, 10_000)] == [1, 2, 16, 30, 30]


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"), ("x$(A)y$(B)", "x1y2"), ("$(NONE)", "$(NONE)"), ("$$(A)", "$(A)"), ("$A", "$A"), ("$", "$"),
        ("$$$(A)", "$1"), ("$(A", "$(A"), ("$()", "$()"),
    ],
)  # fmt: skip
def test_variables_in_arguments(text, expanded):
    assert expand(text, {"A": "1", "B": "2"}) == expanded


def test_a_variable_sees_those_above_it_and_replaces_the_images():
    variables = [EnvVar("A", "$(A)+"), EnvVar("B", "$(A)$(C)"), EnvVar("C", "late")]
    assert environment({"PATH": "/bin", "A": "image"}, variables) == {
        "PATH": "/bin", "A": "image+", "B": "image+$(C)", "C": "late",
    }  # fmt: skip


@given(st.text(), st.dictionaries(st.text(max_size=3), st.text(max_size=3)))
def test_any_text_expands(text, variables):
    assert isinstance(expand(text, variables), str)


@pytest.mark.parametrize(
    ("name", "extended"),
    [
        (EPC, True), ("sgx.intel.com/epc", True), ("example.com/a-b.c_d", True), ("cpu", False),
        ("kubernetes.io/x", False),
        ("a.kubernetes.io/x", False), ("requests.example.com/x", False), ("example.com/" + "x" * 63, True),
        ("example.com/" + "x" * 64, False), ("example.com/", False), ("/x", False), ("a/b/c", False),
        ("EXAMPLE.com/x", False),
        ("x" * 250 + ".com/a", False), ("example.com/-x", False),
    ],
)  # fmt: skip
def test_which_names_device_plugins_may_use(name, extended):
    assert extended_resource(name) is extended


def test_the_image_table_and_what_is_added_to_it():
    table = image_table(["my/app:1=/usr/bin/app 'a b' c", "x=y=z"], python="/py", python_path="/a:/b")
    assert table[SAMPLE_WORKLOAD].argv == ("/py", "-P", "-m", "confcom.sample_workload")
    assert table[SAMPLE_WORKLOAD].env["PYTHONPATH"] == "/a:/b"
    assert table["my/app:1"].argv == ("/usr/bin/app", "a b", "c")
    assert table["x"].argv == ("y=z",)
    message = missing_image("other:1", table)
    assert "--image 'other:1=" in message
    assert SAMPLE_WORKLOAD in message


def test_the_sample_image_holds_what_this_python_was_told_to_import_from(short_dir, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"/none:{short_dir}")
    monkeypatch.syspath_prepend(str(short_dir))
    monkeypatch.setattr("site.ENABLE_USER_SITE", False)
    assert image_table()[SAMPLE_WORKLOAD].env["PYTHONPATH"] == str(short_dir)
    monkeypatch.delenv("PYTHONPATH")
    assert "PYTHONPATH" not in image_table()[SAMPLE_WORKLOAD].env


@pytest.mark.parametrize("addition", ["", "name", "=x", "name=", "name=  ", "name='x"])
def test_additions_that_are_none(addition):
    with pytest.raises(SettingsError) as caught:
        image_table([addition])
    assert caught.value.error_code == "image-malformed"


def test_allocations_merge_and_the_first_wins():
    first = pb.ContainerAllocateResponse(
        envs={"A": "1"},
        devices=[pb.DeviceSpec(container_path="/dev/x", host_path="/dev/null", permissions="rw")],
        mounts=[pb.Mount(container_path="/m", host_path="/h", read_only=True)],
    )
    second = pb.ContainerAllocateResponse(
        envs={"A": "2", "B": "3"},
        devices=[pb.DeviceSpec(container_path="/dev/x", host_path="/dev/zero", permissions="r")],
        mounts=[pb.Mount(container_path="/m", host_path="/other"), pb.Mount(container_path="/n", host_path="/h")],
    )
    merged = merge([first, second])
    assert merged.envs == {"A": "1", "B": "3"}
    assert merged.devices == (DeviceView("/dev/x", "/dev/null", "rw"),)
    assert merged.mounts == (MountView("/m", "/h", True, "Allocate"), MountView("/n", "/h", False, "Allocate"))


def test_the_nodes_paths_stay_below_its_root(short_dir):
    layout = Layout(short_dir)
    assert layout.aesm_socket == short_dir / "node/var/run/aesmd/aesm.socket"
    assert layout.kubelet_socket == short_dir / "node/var/lib/kubelet/device-plugins/kubelet.sock"
    assert layout.host_path("/../../etc/./passwd") == short_dir / "node/etc/passwd"
    layout.create()
    layout.create()
    assert (short_dir / "node/var/run").resolve() == (short_dir / "node/run").resolve()
    assert layout.aesm_socket.parent.is_dir()


def test_a_directory_too_long_for_sockets_is_refused(short_dir):
    long = short_dir / ("x" * (MAX_DIR_BYTES - len(str(short_dir))))
    with raises("directory-name-too-long", SettingsError):
        Layout(long).create()
    assert not long.exists()
    fitting = short_dir / ("x" * (MAX_DIR_BYTES - len(str(short_dir)) - 1))
    Layout(fitting).create()
    assert fitting.is_dir()
