from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.device_plugin.discovery import (
    Discovery,
    EpcSource,
    NoSgxError,
    Platform,
    SimulatedOnHardwareError,
    discover,
)
from confcom.device_plugin.host import HostFiles
from confcom.errors import ExitCode, MalformedError

MIB = 1024 * 1024
DRIVER = "/sys/class/misc/sgx_enclave"


@dataclass
class FakeHost:
    """A host that consists of exactly these files, devices and other entries."""

    files: dict[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()

    def read_text(self, path):
        return self.files.get(path)

    def children(self, path):
        below = [name.removeprefix(path + "/") for name in self.files if name.startswith(path + "/")]
        return tuple(sorted({name.partition("/")[0] for name in below}))

    def exists(self, path):
        return path in self.entries or path in self.devices or path in self.files

    def is_character_device(self, path):
        return path in self.devices


def sysfs(*sizes):
    return {f"/sys/devices/system/node/node{n}/x86/sgx_total_bytes": f"{size}\n" for n, size in enumerate(sizes)}


def hardware(*sizes, devices=("/dev/sgx_enclave", "/dev/sgx_provision")):
    return FakeHost(sysfs(*sizes), devices, (DRIVER,))


@pytest.mark.parametrize(
    ("sizes", "mib"),
    [
        ((28 * MIB,), 28),
        ((168 * MIB,), 168),
        ((4 * 1024 * MIB,), 4096),
        ((128 * 1024 * MIB, 128 * 1024 * MIB), 262_144),
        ((MIB // 2, MIB // 2), 1),
        ((2 * MIB - 1, 2 * MIB - 1), 3),
        ((0, 64 * MIB), 64),
    ],
    ids=["DC1s_v2", "DC8_v2", "DC2s_v3", "two sockets", "halves add up", "rounded down once", "empty first node"],
)
def test_sysfs_of_real_sizes(sizes, mib):
    found = discover(hardware(*sizes), simulated_epc_mib=None)
    assert found.epc_mib == mib
    assert [section.size for section in found.sections] == list(sizes)
    assert (found.platform, found.source) == (Platform.HARDWARE, EpcSource.SYSFS)
    assert DRIVER in found.reason


def test_numa_nodes_keep_their_numbers_and_their_order():
    host = hardware()
    host.files = {f"/sys/devices/system/node/node{n}/x86/sgx_total_bytes": str(n * MIB) for n in (10, 2, 1)} | {
        "/sys/devices/system/node/possible": "0-10"
    }
    found = discover(host, simulated_epc_mib=None)
    assert [(section.numa_node, section.size) for section in found.sections] == [(1, MIB), (2, 2 * MIB), (10, 10 * MIB)]


@pytest.mark.parametrize(
    ("devices", "enclave", "provision"),
    [
        (("/dev/sgx_enclave", "/dev/sgx_provision"), "/dev/sgx_enclave", "/dev/sgx_provision"),
        (("/dev/sgx/enclave", "/dev/sgx/provision"), "/dev/sgx/enclave", "/dev/sgx/provision"),
        (("/dev/sgx/enclave", "/dev/sgx_enclave"), "/dev/sgx_enclave", None),
    ],
)
def test_device_nodes_in_both_spellings(devices, enclave, provision):
    found = discover(hardware(64 * MIB, devices=devices), simulated_epc_mib=None)
    assert (found.enclave_node, found.provision_node) == (enclave, provision)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (FakeHost(), "no SGX driver"),
        (FakeHost(sysfs(64 * MIB)), "no SGX driver"),
        (FakeHost(sysfs(64 * MIB), ("/dev/sgx_enclave",)), "no SGX driver"),
        (FakeHost(sysfs(64 * MIB), (), (DRIVER, "/dev/sgx_enclave")), "is a character device"),
        (FakeHost(sysfs(64 * MIB), (), ("/sys/class/misc/isgx",)), "legacy driver"),
        (hardware(), "sgx_total_bytes is not there"),
        (hardware(0), "says 0 bytes"),
        (hardware(0, MIB - 1), "says 1048575 bytes"),
    ],
    ids=[
        "nothing",
        "EPC without a driver",
        "a device node alone proves nothing",
        "a file in the device's place",
        "legacy driver",
        "an old kernel",
        "no EPC",
        "less than one MiB",
    ],
)
def test_a_node_without_usable_sgx_says_why(host, words):
    with pytest.raises(NoSgxError) as caught:
        discover(host, simulated_epc_mib=None)
    assert words in str(caught.value)
    assert caught.value.remedy
    assert caught.value.exit_code is ExitCode.UNAVAILABLE


@pytest.mark.parametrize("text", ["", "-1", "0x1000", "many", "1" * 40, "1\n2"])
def test_sysfs_that_holds_no_number_is_named(text):
    host = hardware()
    host.files = {"/sys/devices/system/node/node0/x86/sgx_total_bytes": text}
    with pytest.raises(MalformedError, match="node0/x86/sgx_total_bytes"):
        discover(host, simulated_epc_mib=None)


@given(st.integers(1, 1024 * 1024))
def test_simulated_epc_is_what_was_asked_for(mib):
    found = discover(FakeHost(), simulated_epc_mib=mib)
    assert found.epc_mib == mib
    assert (found.platform, found.source) == (Platform.SIMULATED, EpcSource.SIMULATED)
    assert found.enclave_node == found.provision_node == "/dev/null"


@pytest.mark.parametrize("entry", [DRIVER, "/sys/class/misc/enclave", "/sys/class/misc/isgx"])
def test_simulated_is_refused_where_a_driver_is(entry):
    with pytest.raises(SimulatedOnHardwareError) as caught:
        discover(FakeHost(entries=(entry,)), simulated_epc_mib=168)
    assert entry in caught.value.why


def test_simulated_does_not_mind_device_nodes_that_anyone_can_make():
    found = discover(FakeHost(devices=("/dev/sgx_enclave",)), simulated_epc_mib=1)
    assert isinstance(found, Discovery)
    assert found.platform is Platform.SIMULATED


def test_host_files_answer_for_a_real_tree(tmp_path):
    (tmp_path / "sys/class").mkdir(parents=True)
    (tmp_path / "sys/class/b").write_text("12\n")
    (tmp_path / "sys/class/a").write_bytes(b"\xff")
    host = HostFiles(tmp_path)
    assert host.children("/sys/class") == ("a", "b")
    assert host.children("/sys/none") == ()
    assert host.read_text("/sys/class/b") == "12\n"
    assert host.read_text("/sys/class/a") == "\ufffd"
    assert host.read_text("/sys/class") is None
    assert host.exists("/sys/class/a")
    assert not host.exists("/sys/class/c")
    assert not host.is_character_device("/sys/class/a")
    assert not host.is_character_device("/dev/null")
    assert HostFiles(Path("/")).is_character_device("/dev/null")
