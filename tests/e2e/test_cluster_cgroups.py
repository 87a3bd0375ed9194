"""Which hierarchies of control groups there are, and that ours are removed with all that is below."""

from pathlib import Path

import pytest

from e2e.cluster.cgroups import Hierarchy, hierarchies, remove

V1 = """23 1 254:0 / / rw,relatime - ext4 /dev/vda rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 master:2 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"


def test_version_1_with_the_mounts_that_show_the_same_again():
    assert hierarchies(V1) == (
        Hierarchy(Path("/sys/fs/cgroup/cpu,cpuacct"), "cgroup", "rw,cpu,cpuacct"),
        Hierarchy(Path("/sys/fs/cgroup/systemd"), "cgroup", "rw,xattr,name=systemd,none"),
        Hierarchy(Path("/sys/fs/cgroup/unified"), "cgroup2", "rw"),
    )


def test_version_2():
    (only,) = hierarchies(V2)
    assert (only.mountpoint, only.type, only.leaf) == (Path("/sys/fs/cgroup"), "cgroup2", "init")


def test_of_two_mounts_on_one_place_the_last_is_seen():
    """As in a host that was started from another one's namespaces."""
    hidden, seen = V2, V2.replace("rw,nsdelegate,memory_recursiveprot", "rw,nsdelegate")
    assert hierarchies(hidden + seen) == hierarchies(seen)


def test_a_new_cpuset_group_takes_processes(tmp_path):
    (tmp_path / "cpuset.cpus").write_text("0-1\n")
    (tmp_path / "cpuset.mems").write_text("0\n")

    group = Hierarchy(tmp_path, "cgroup", "rw,cpuset").create("ours")

    assert (group / "cpuset.cpus").read_text() == "0-1\n"
    assert (group / "cpuset.mems").read_text() == "0\n"


def test_groups_are_removed_with_all_below(tmp_path):
    group = tmp_path / "ours"
    (group / "kubepods" / "pod1").mkdir(parents=True)

    remove([group, tmp_path / "never-made"])

    assert not group.exists()


def test_a_group_that_stays_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("e2e.cluster.cgroups.REMOVAL_SECONDS", 0.0)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "file").touch()  # as a real group's files never do, this one keeps its folder

    with pytest.raises(Exception, match="ours"):
        remove([tmp_path / "ours"])
