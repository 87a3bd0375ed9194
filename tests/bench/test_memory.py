"""Memory as control groups of both versions count it."""

import os
import subprocess
from pathlib import Path

import pytest

from bench.memory import MemoryGroup, limited_memory, memory_hierarchy
from confcom.errors import UnavailableError

MIB = 1024 * 1024
V1 = {
    "memory.usage_in_bytes": "100\n",
    "memory.max_usage_in_bytes": "120\n",
    "memory.limit_in_bytes": "0\n",
    "memory.stat": "cache 1\ninactive_file 7\ntotal_inactive_file 30\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
}
V2 = {
    "memory.current": "100\n",
    "memory.peak": "120\n",
    "memory.max": "max\n",
    "memory.stat": "anon 1\ninactive_file 30\n",
    "memory.events": "low 0\noom 3\noom_kill 2\n",
}
MOUNTS_V1 = "40 31 0:3 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
MOUNTS_BESIDE = "41 31 0:4 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize("files", [V1, V2], ids=["version 1", "version 2"])
def test_both_versions_tell_the_same(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    group = MemoryGroup(tmp_path)
    assert (group.usage, group.highest, group.working_set, group.killed) == (100, 120, 70, 2)
    group.set_limit(5)
    limits = [(tmp_path / name).read_text() for name in files if name in {"memory.limit_in_bytes", "memory.max"}]
    assert limits == ["5"]


@pytest.mark.parametrize("mounts", [MOUNTS_V1, MOUNTS_V1 + MOUNTS_BESIDE, MOUNTS_BESIDE + MOUNTS_V1])
def test_version_1_counts_memory_where_both_are_mounted(mounts):
    assert memory_hierarchy(mounts).mountpoint == Path("/sys/fs/cgroup/memory")


def test_version_2_counts_memory_where_it_is_alone():
    assert memory_hierarchy(MOUNTS_BESIDE).mountpoint == Path("/sys/fs/cgroup/unified")


def test_a_machine_that_counts_none_is_told():
    with pytest.raises(UnavailableError, match="no control group"):
        memory_hierarchy("23 1 254:0 / / rw - ext4 /dev/vda rw\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes control groups")
def test_a_process_that_needs_more_than_its_group_has_is_killed_and_counted():
    name = f"confcom-test-{os.getpid()}"
    try:
        with limited_memory(name, 32 * MIB) as group:
            hungry = group.command(("python3", "-c", "len(bytearray(64 * 1024 * 1024))"))
            killed = subprocess.run(hungry, check=False).returncode
            modest = subprocess.run(group.command(("true",)), check=False).returncode
            assert (killed, modest, group.killed) == (-9, 0, 1)
            assert group.highest > 0
            assert group.working_set <= group.usage
    except (UnavailableError, PermissionError) as error:
        pytest.skip(f"no control groups here: {error}")
    assert not group.folder.exists()
