from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.device_plugin.discovery.epc_discovery import (
    Discovery,
    NoSgxError,
    Platform,
    SimulatedOnHardwareError,
    discover,
)
from confcom.device_plugin.discovery.epc_sources import EpcSource
from confcom.device_plugin.discovery.host import FileStatus, HostFiles
from confcom.errors import ExitCode
from testkit.hosts.fake import DRIVER, MIB, FakeHost, device, hardware, processor, sysfs

FILE = FileStatus(character_device=False, mode=0o666, uid=0, gid=0)


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


def test_an_older_kernels_epc_is_the_processors():
    found = discover(hardware(leaves=processor(56 * MIB)), simulated_epc_mib=None)
    assert (found.platform, found.source, found.epc_mib) == (Platform.HARDWARE, EpcSource.CPUID, 56)
    assert DRIVER in found.reason


@pytest.mark.parametrize(
    ("devices", "enclave", "provision"),
    [
        (("/dev/sgx_enclave", "/dev/sgx_provision"), "/dev/sgx_enclave", "/dev/sgx_provision"),
        (("/dev/sgx/enclave", "/dev/sgx/provision"), "/dev/sgx/enclave", "/dev/sgx/provision"),
        (("/dev/sgx/enclave", "/dev/sgx_enclave"), "/dev/sgx_enclave", None),
    ],
)
def test_device_nodes_in_both_spellings(devices, enclave, provision):
    found = discover(hardware(64 * MIB, nodes=dict.fromkeys(devices, device())), simulated_epc_mib=None)
    assert (found.enclave_node, found.provision_node) == (enclave, provision)


@pytest.mark.parametrize(
    ("host", "code"),
    [
        (FakeHost(), "no-sgx-driver"),
        (FakeHost(leaves=processor(sgx=False)), "no-sgx-driver"),
        (FakeHost(leaves=processor(28 * MIB)), "epc-without-driver"),
        (FakeHost(sysfs(64 * MIB)), "epc-without-driver"),
        (FakeHost(sysfs(64 * MIB), {"/dev/sgx_enclave": device()}), "epc-without-driver"),
        (hardware(64 * MIB, nodes={"/dev/sgx_enclave": FILE}), "no-enclave-device"),
        (FakeHost(sysfs(64 * MIB), {}, {"/sys/class/misc/isgx"}), "legacy-sgx-driver"),
        (FakeHost(sysfs(64 * MIB), {"/dev/isgx": device()}, {"/sys/class/misc/isgx"}), "legacy-sgx-driver"),
        (hardware(), "epc-not-found"),
        (hardware(0), "epc-not-found"),
        (hardware(0, MIB - 1, leaves=processor()), "epc-not-found"),
    ],
    ids=[
        "nothing",
        "off in the BIOS",
        "a processor with EPC, no driver",
        "EPC without a driver",
        "a device node alone proves nothing",
        "a file in the device's place",
        "legacy driver",
        "legacy driver and device",
        "an old kernel",
        "no EPC",
        "less than one MiB, and no section",
    ],
)
def test_a_node_without_usable_sgx_says_why(host, code):
    with pytest.raises(NoSgxError) as caught:
        discover(host, simulated_epc_mib=None)
    assert caught.value.error_code == code
    assert caught.value.remedy
    assert ("/dev/isgx" in caught.value.why) == ("/dev/isgx" in host.nodes)
    assert caught.value.exit_code is ExitCode.UNAVAILABLE


@given(st.integers(1, 1024 * 1024))
def test_simulated_epc_is_what_was_asked_for(mib):
    found = discover(FakeHost(), simulated_epc_mib=mib)
    assert found.epc_mib == mib
    assert (found.platform, found.source) == (Platform.SIMULATED, EpcSource.SIMULATED)
    assert found.enclave_node == found.provision_node == "/dev/null"


@pytest.mark.parametrize("entry", [DRIVER, "/sys/class/misc/enclave", "/sys/class/misc/isgx"])
def test_simulated_is_refused_where_a_driver_is(entry):
    with pytest.raises(SimulatedOnHardwareError) as caught:
        discover(FakeHost(entries={entry}), simulated_epc_mib=168)
    assert entry in caught.value.why


def test_simulated_minds_neither_device_nodes_that_anyone_can_make_nor_a_processor_without_driver():
    found = discover(FakeHost(nodes={"/dev/sgx_enclave": device()}, leaves=processor(28 * MIB)), simulated_epc_mib=1)
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
    (tmp_path / "sys/class/a").chmod(0o640)
    status = host.status("/sys/class/a")
    assert (status.character_device, status.mode) == (False, 0o640)
    assert host.status("/dev/null") is None
    assert HostFiles(Path("/")).status("/dev/null") == FileStatus(character_device=True, mode=0o666, uid=0, gid=0)
