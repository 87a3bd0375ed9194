from pathlib import Path

import pytest

from confcom.device_plugin.epc import EpcSource, NoSgxError, Platform, discover, find_node
from confcom.device_plugin.host import HostFiles
from confcom.errors import ExitCode, SettingsError
from testkit.hosts.fake import DRIVER, FILE, MIB, FakeHost, device, hardware, processor, sysfs


@pytest.mark.parametrize(
    ("host", "source"),
    [
        (hardware(0, 56 * MIB - 1, 1), EpcSource.SYSFS),
        (hardware(leaves=processor(56 * MIB)), EpcSource.CPUID),  # kernels without EPC in sysfs
    ],
)
def test_epc_behind_a_driver_is_found(host, source):
    found = discover(host, simulated_epc_mib=None)
    assert (found.platform, found.epc.source, found.epc.mib) == (Platform.HARDWARE, source, 56)
    assert DRIVER in found.epc.reason


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


ISGX = {"/sys/class/misc/isgx"}
UNUSABLE = {
    "nothing": (FakeHost(), "no-sgx-driver"),
    "off in the BIOS": (FakeHost(leaves=processor(sgx=False)), "no-sgx-driver"),
    "a processor with EPC, no driver": (FakeHost(leaves=processor(28 * MIB)), "epc-without-driver"),
    "EPC without a driver": (FakeHost(sysfs(64 * MIB)), "epc-without-driver"),
    "a node alone": (FakeHost(sysfs(64 * MIB), {"/dev/sgx_enclave": device()}), "epc-without-driver"),
    "a file in the device's place": (hardware(64 * MIB, nodes={"/dev/sgx_enclave": FILE}), "no-enclave-device"),
    "legacy driver and device": (FakeHost(sysfs(64 * MIB), {"/dev/isgx": device()}, ISGX), "no-enclave-device"),
    "an old kernel": (hardware(), "epc-not-found"),
    "no EPC": (hardware(0), "epc-not-found"),
    "less than one MiB, and no section": (hardware(0, MIB - 1, leaves=processor()), "epc-not-found"),
}


@pytest.mark.parametrize(("host", "code"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_node_without_usable_sgx_says_why(host, code):
    with pytest.raises(NoSgxError) as caught:
        discover(host, simulated_epc_mib=None)
    assert caught.value.error_code == code
    assert caught.value.remedy
    assert caught.value.exit_code is ExitCode.UNAVAILABLE


def test_simulated_is_refused_only_where_a_driver_is():
    for entry in (DRIVER, "/sys/class/misc/enclave", "/sys/class/misc/isgx"):
        with pytest.raises(SettingsError) as caught:
            discover(FakeHost(entries={entry}), simulated_epc_mib=168)
        assert caught.value.error_code == "simulated-on-hardware"
        assert entry in caught.value.why
    found = discover(FakeHost(nodes={"/dev/sgx_enclave": device()}, leaves=processor(28 * MIB)), simulated_epc_mib=5)
    assert (found.platform, found.epc.source, found.epc.mib) == (Platform.SIMULATED, EpcSource.SIMULATED, 5)
    assert found.enclave_node == found.provision_node == "/dev/null"


def test_host_files_answer_for_a_real_tree(tmp_path):
    (tmp_path / "sys/class").mkdir(parents=True)
    (tmp_path / "sys/class/b").write_text("12\n")
    (tmp_path / "sys/class/a").write_bytes(b"\xff")
    host = HostFiles(tmp_path)
    assert (host.children("/sys/class"), host.children("/sys/none")) == (("a", "b"), ())
    paths = ("/sys/class/a", "/sys/class/b", "/sys/class/c", "/sys/class")
    assert [host.read_text(path) for path in paths] == ["\ufffd", "12\n", None, None]
    assert [host.exists(path) for path in paths] == [True, True, False, True]
    assert host.status("/dev/null") is None
    assert find_node(HostFiles(Path("/")), ("/dev/none", "/dev", "/dev/null")) == "/dev/null"
