import pytest

from confcom.device_plugin.device_nodes import Device, inspect_devices, mounted_noexec
from testkit.hosts.fake import (
    BY_INTELS_RULES,
    DRIVER,
    ENCLAVE,
    FILE,
    MIB,
    PROVISION,
    SGX_GID,
    SGX_PRV_GID,
    FakeHost,
    device,
    hardware,
)

ROOT_MOUNT = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"


def dev_mount(options):
    return f"24 21 0:6 / /dev {options} shared:2 - devtmpfs devtmpfs rw,size=1k,mode=755"


def problems(path, status, **files):
    devices = inspect_devices(FakeHost(files, {path: status}, {DRIVER}))
    (node,) = [node for node in devices.nodes if node.path == path]
    assert devices.healthy(node.device) == (not node.problems)
    assert all(problem.remedy for problem in node.problems)
    assert all(path in problem.what for problem in node.problems)
    return [problem.code for problem in node.problems]


@pytest.mark.parametrize(
    ("path", "status", "codes"),
    [
        (ENCLAVE, device(0o666), []),
        (ENCLAVE, device(0o600), ["device-closed"]),
        (ENCLAVE, device(0o660), ["device-closed"]),
        (ENCLAVE, device(0o660, gid=SGX_GID), ["device-for-group-only"]),
        (ENCLAVE, device(0o662, gid=SGX_GID), ["device-for-group-only"]),
        (ENCLAVE, device(0o664, gid=SGX_GID), ["device-for-group-only"]),
        (ENCLAVE, device(0o000), ["device-closed"]),
        (ENCLAVE, device(0o666, uid=1000), ["device-owner-not-root"]),
        (ENCLAVE, device(0o600, uid=5), ["device-owner-not-root", "device-closed"]),
        (PROVISION, device(0o660, gid=SGX_PRV_GID), []),
        (PROVISION, device(0o660), ["device-closed"]),
        (PROVISION, device(0o666), ["device-open-to-all"]),
        (PROVISION, device(0o660, uid=7, gid=SGX_PRV_GID), ["device-owner-not-root"]),
        ("/dev/sgx/enclave", device(0o600), ["device-closed"]),
        ("/dev/sgx/provision", device(0o600), ["device-closed"]),
    ],
)
def test_problems_of_owner_and_mode(path, status, codes):
    assert problems(path, status) == codes


def test_the_remedies_name_rule_and_group():
    host = FakeHost({"/etc/group": "root:x:0:\nsgx:x:106:alice\nbroken\n"}, {ENCLAVE: device(0o660, gid=106)}, {DRIVER})
    (problem,) = inspect_devices(host).node(Device.ENCLAVE).problems
    assert "sgx (106)" in problem.what
    assert 'KERNEL=="sgx_enclave", MODE="0666"' in problem.remedy
    assert "supplementalGroups: [106]" in problem.remedy
    (problem,) = inspect_devices(FakeHost(nodes={"/dev/sgx/provision": device(0o600)})).node(Device.PROVISION).problems
    assert 'KERNEL=="provision", GROUP="sgx_prv", MODE="0660"' in problem.remedy


def test_a_device_needs_a_driver_and_a_device_node():
    devices = inspect_devices(FakeHost(nodes={ENCLAVE: FILE}, entries={DRIVER}))
    assert [node.path for node in devices.nodes] == [None, None]
    assert not any(devices.healthy(device) for device in Device)
    devices = inspect_devices(FakeHost(nodes=dict(BY_INTELS_RULES)))
    assert devices.driver is None
    assert not devices.healthy(Device.ENCLAVE)
    assert not devices.has(ENCLAVE)


def test_the_path_that_containers_are_given_is_inspected():
    host = FakeHost(nodes={ENCLAVE: device(), "/dev/sgx/enclave": device(0o600)}, entries={DRIVER})
    assert inspect_devices(host).node(Device.ENCLAVE).path == ENCLAVE
    assert inspect_devices(host, expected=["/dev/sgx/enclave"]).node(Device.ENCLAVE).path == "/dev/sgx/enclave"
    (problem,) = inspect_devices(hardware(MIB), expected=["/dev/sgx/enclave"]).node(Device.ENCLAVE).problems
    assert problem.code == "other-device-path"


def test_dev_mounted_noexec_concerns_the_enclave_device_alone():
    mounts = f"{ROOT_MOUNT}\n{dev_mount('rw,nosuid,noexec')}\n"
    host = hardware(28 * MIB)
    host.files["/proc/1/mountinfo"] = mounts
    devices = inspect_devices(host)
    assert [problem.code for problem in devices.node(Device.ENCLAVE).problems] == ["device-mounted-noexec"]
    assert devices.healthy(Device.PROVISION)


MOUNTS = {
    "noexec": ([ROOT_MOUNT, dev_mount("rw,noexec")], True),
    "exec": ([ROOT_MOUNT, dev_mount("rw,nosuid")], False),
    "order does not matter between depths": ([dev_mount("rw,noexec"), ROOT_MOUNT], True),
    "mounted over": ([dev_mount("rw,noexec"), dev_mount("rw")], False),
    "mounted over with noexec": ([dev_mount("rw"), dev_mount("rw,noexec")], True),
    "no mount of its own": ([ROOT_MOUNT.replace("rw,relatime", "rw,noexec")], True),
    "another word": ([dev_mount("rw,noexecutive")], False),
    "an option of the file system": ([dev_mount("rw").replace("rw,size", "noexec,size")], False),
    "another directory": ([dev_mount("rw,noexec").replace(" /dev ", " /devices ")], False),
    "escaped": ([dev_mount("rw,noexec").replace(" /dev ", r" /\144ev ")], True),
    "a deeper directory": ([dev_mount("rw,noexec").replace(" /dev ", " /dev/shm ")], False),
    "garbage": (["", "24 21 0:6", "x" * 5000], False),
}


@pytest.mark.parametrize(("lines", "noexec"), MOUNTS.values(), ids=MOUNTS)
def test_noexec_is_read_from_the_mount_that_the_device_is_on(lines, noexec):
    assert mounted_noexec("\n".join(lines), ENCLAVE) is noexec
