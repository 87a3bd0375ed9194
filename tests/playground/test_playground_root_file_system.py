from pathlib import Path, PurePosixPath

import pytest

from confcom.playground.api.views import DeviceView, MountView
from confcom.playground.kubelet.allocation import Allocation
from confcom.playground.manifests.v1 import Container, EnvVar, HostPathVolumeSource, Volume, VolumeMount
from confcom.playground.runtime.container_plan import Bind, ContainerError, ContainerPlan, plan_container
from confcom.playground.runtime.images import Image
from confcom.playground.runtime.machine import Kind, Tools
from confcom.playground.runtime.root_file_system import MAX_SHADOWED_ENTRIES, root_script
from testkit.raised import raises

TOOLS = Tools(mount="mount", chroot="chroot", env="env", sh="sh", mkdir="mkdir", ln="ln")
ROOT = Path("/r")


class Tree:
    """A machine's file system made of a dictionary: path -> None (directory), "" (file) or a link's target."""

    def __init__(self, paths, flags=()):
        self.paths = {"/": None, "/dev": None, "/dev/null": "", "/proc": None, **paths}
        self.flags = flags

    def kind(self, path):
        value = self.paths.get(str(path), Kind.MISSING)
        if value is Kind.MISSING:
            return value
        return {None: Kind.DIRECTORY, "": Kind.FILE}.get(value, Kind.LINK)

    def entries(self, path):
        return sorted(
            PurePosixPath(p).name for p in self.paths if p != "/" and str(PurePosixPath(p).parent) == str(path)
        )

    def link_target(self, path):
        return self.paths[str(path)]

    def mount_flags(self, path):
        return self.flags


MACHINE = {
    "/usr": None,
    "/usr/bin": None,
    "/bin": "usr/bin",
    "/run": None,
    "/run/lock": None,
    "/var": None,
    "/var/run": "/run",
}


def plan(*, devices=(), binds=(), argv=("prog",), env=None):
    return ContainerPlan(argv, env or {}, "/", devices, (), tuple(binds))


def script(tree, **parts):
    return root_script(plan(**parts), tree, TOOLS, root=ROOT, ready=Path("/ready")).splitlines()


def test_the_machines_root_is_carried_over_and_dev_and_proc_are_its_own():
    lines = script(Tree({**MACHINE, "/file": ""}))
    assert lines[:2] == ["set -e", "mount -n -t tmpfs -o mode=755 playground /r"]
    assert "mount -n --rbind /usr /r/usr || :" in lines
    assert "ln -s -- usr/bin /r/bin" in lines
    assert "mount -n --bind /file /r/file || :" in lines
    assert "mount -n -t tmpfs -o mode=755 playground /r/dev" in lines
    assert not [line for line in lines if "--rbind /dev" in line]
    assert lines[-2:] == [": > /ready", 'exec chroot /r sh -c \'cd -- "$0" && exec "$@"\' / env -i -- prog 2>&1']


def test_a_mount_below_a_link_lands_where_the_link_leads_on_a_private_copy():
    lines = script(Tree({**MACHINE, "/src": None}), binds=[Bind(Path("/src"), PurePosixPath("/var/run/aesmd"), False)])
    tail = lines[lines.index("mount -n -t tmpfs -o mode=755 playground /r/run") :]
    assert tail[1:5] == [
        "mkdir /r/run/lock",
        "mount -n --rbind /run/lock /r/run/lock || :",
        "mkdir -p /r/run/aesmd",
        "mount -n --bind /src /r/run/aesmd",
    ]


def test_a_mount_on_something_that_exists_needs_no_copy():
    lines = script(Tree({**MACHINE, "/src": None}), binds=[Bind(Path("/src"), PurePosixPath("/usr/bin"), True)])
    assert "mount -n --bind /src /r/usr/bin" in lines
    assert "mount -n -o remount,bind,ro /r/usr/bin" in lines
    assert not [line for line in lines if "tmpfs" in line and line.endswith("/r/usr")]


def test_a_read_only_mount_repeats_the_flags_that_a_user_namespace_may_not_drop():
    tree = Tree({**MACHINE, "/src": None}, flags=("nosuid", "nodev"))
    lines = script(tree, binds=[Bind(Path("/src"), PurePosixPath("/usr"), True)])
    assert "mount -n -o remount,bind,ro,nosuid,nodev /r/usr" in lines


def test_the_machines_own_aesmd_is_hidden():
    tree = Tree({**MACHINE, "/run/aesmd": None, "/run/aesmd/aesm.socket": ""})
    lines = script(tree)
    assert "mount -n -t tmpfs -o mode=755 playground /r/run" in lines
    assert "mount -n --rbind /run/lock /r/run/lock || :" in lines
    assert not [line for line in lines if "aesmd" in line]
    mounted = script(tree, binds=[Bind(Path("/usr"), PurePosixPath("/run/aesmd"), False)])
    assert mounted[-4:-2] == ["mkdir -p /r/run/aesmd", "mount -n --bind /usr /r/run/aesmd"]


def test_devices_lie_on_the_machines_null_under_their_names():
    lines = script(Tree(MACHINE), devices=(DeviceView("/dev/sgx/enclave", "/dev/null", "rw"),))
    at = lines.index("mkdir -p /r/dev/sgx")
    assert lines[at + 1 : at + 3] == [": >> /r/dev/sgx/enclave", "mount -n --bind /dev/null /r/dev/sgx/enclave"]


def test_a_mount_inside_of_a_mount_is_made_in_it():
    binds = [Bind(Path("/usr"), PurePosixPath("/data"), False), Bind(Path("/run"), PurePosixPath("/data/in/it"), False)]
    lines = script(Tree(MACHINE), binds=binds)
    assert lines[-6:-2] == [
        "mkdir -p /r/data",
        "mount -n --bind /usr /r/data",
        "mkdir -p /r/data/in/it",
        "mount -n --bind /run /r/data/in/it",
    ]


@pytest.mark.parametrize(
    ("more", "place", "code"),
    [
        ({f"/usr/f{n}": "" for n in range(MAX_SHADOWED_ENTRIES)}, "/usr/new", "too-many-entries"),
        ({"/a": "b", "/b": "/a"}, "/a/x", "too-many-links"),
    ],
    ids=["too many mounts", "links in a circle"],
)
def test_places_where_a_mount_is_refused(more, place, code):
    with raises(code, ContainerError):
        script(Tree(MACHINE | more), binds=[Bind(Path("/run"), PurePosixPath(place), False)])


def test_every_word_is_quoted():
    lines = script(Tree(MACHINE), argv=("a b", "$(reboot)", "'"), env={"A": "`x`"})
    assert lines[-1].endswith("""env -i -- 'A=`x`' 'a b' '$(reboot)' ''"'"'' 2>&1""")


def planned(spec, *, volumes=(), image=None, allocation=None):
    return plan_container(
        spec,
        {volume.name: volume for volume in volumes},
        image or Image(("entry", "point"), {"PATH": "/bin", "A": "image"}),
        allocation or Allocation(),
        hostname="pod-1",
        host_path=lambda path: Path("/node") / path.lstrip("/"),
        empty_dir=lambda name: Path("/empty") / name,
    )


@pytest.mark.parametrize(
    ("fields", "argv"),
    [
        ({}, ("entry", "point")),
        ({"args": ("$(A)", "$$(A)")}, ("entry", "point", "image", "$(A)")),
        ({"command": ("mine",)}, ("mine",)),
        ({"command": ("mine",), "args": ("x",)}, ("mine", "x")),
    ],
)
def test_command_replaces_the_entrypoint_and_args_follow(fields, argv):
    assert planned(Container(**fields)).argv == argv


def test_variables_of_image_allocation_and_manifest_each_over_the_other():
    allocation = Allocation(envs={"A": "plugin", "B": "plugin"})
    plan = planned(Container(env=(EnvVar("B", "$(A)-manifest"),)), allocation=allocation)
    assert plan.env == {
        "HOSTNAME": "pod-1", "HOME": "/root", "PATH": "/bin", "A": "plugin", "B": "plugin-manifest",
    }  # fmt: skip


def test_the_users_mount_lies_on_top_of_the_plugins_and_parents_come_first():
    spec = Container(
        volume_mounts=(
            VolumeMount("deep", "/a/b/c", False),
            VolumeMount("v", "/var/run/aesmd", True),
            VolumeMount("e", "/e", False),
        )
    )
    volumes = (
        Volume("deep", HostPathVolumeSource("/deep")),
        Volume("v", HostPathVolumeSource("/var/run/aesmd")),
        Volume("e"),
    )
    allocation = Allocation(mounts=(MountView("/var/run/aesmd", "/var/run/aesmd", True, "Allocate"),))
    plan = planned(spec, volumes=volumes, allocation=allocation)
    assert plan.mounts == (
        MountView("/e", "", False, "volume e"),
        MountView("/var/run/aesmd", "/var/run/aesmd", True, "Allocate"),
        MountView("/a/b/c", "/deep", False, "volume deep"),
        MountView("/var/run/aesmd", "/var/run/aesmd", True, "volume v"),
    )
    assert [bind.source for bind in plan.binds] == [
        Path("/empty/e"), Path("/node/var/run/aesmd"), Path("/node/deep"), Path("/node/var/run/aesmd"),
    ]  # fmt: skip


@pytest.mark.parametrize("host_path", ["/dev/sgx_enclave", "/dev/zero", "/dev/../dev/null", ""])
def test_no_device_of_the_machine_but_null_is_given_out(host_path):
    allocation = Allocation(devices=(DeviceView("/dev/x", host_path, "rw"),))
    with raises("device-not-given-out", ContainerError):
        planned(Container(), allocation=allocation)


@pytest.mark.parametrize("path", ["/", "", ".", "/a/../b", "/a\0b"])
def test_places_where_nothing_can_be_mounted(path):
    with raises("mount-path-invalid", ContainerError):
        planned(Container(), allocation=Allocation(mounts=(MountView(path, "/x", True, "Allocate"),)))


def test_a_program_whose_name_env_would_take_for_a_variable_is_refused():
    with raises("program-name-invalid", ContainerError):
        planned(Container(command=("A=B",)))
