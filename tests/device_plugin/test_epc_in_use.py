import pytest

from confcom.device_plugin import epc_in_use
from confcom.device_plugin.epc_in_use import find_epc_in_use
from confcom.device_plugin.resources import DEFAULT_NAMES, Resource, ResourceKind
from confcom.device_plugin.socket_names import SocketNames
from confcom.errors import UnavailableError
from confcom.kubelet_api.checkpoint import CHECKPOINT_NAME, HeldDevices, decode_checkpoint, encode_checkpoint
from confcom.kubelet_api.device_list import device_id
from confcom.kubernetes.epc_accounting import MAX_DEVICES, EpcInUse
from confcom.kubernetes.names import REAL
from testkit.expected_errors import raises


def encoded(registered, *held):
    holders = [
        HeldDevices(f"uid-{number}", "app", name, tuple(device_id(index) for index in indexes))
        for number, (name, indexes) in enumerate(held)
    ]
    devices = {name: [device_id(index) for index in range(count)] for name, count in registered.items()}
    return encode_checkpoint(devices, holders)


def in_use(data, *, epc_mib=MAX_DEVICES):
    decoded = decode_checkpoint(data)
    names = {"epc_resource": REAL.epc, "enclave_resource": REAL.enclave}
    return epc_in_use.epc_in_use(decoded, **names, epc_mib=epc_mib)


EPC, ENCLAVE = REAL.epc, REAL.enclave


@pytest.mark.parametrize(
    ("registered", "held", "expected"),
    [
        ({}, [], EpcInUse()),
        ({"example.com/gpu": 2}, [("example.com/gpu", [1])], EpcInUse()),
        ({EPC: 28, ENCLAVE: 1024}, [(ENCLAVE, [3])], EpcInUse(28)),
        ({EPC: 28}, [(EPC, [3, 27])], EpcInUse(28, devices_held=True, held_count=28)),
        # The kubelet has restarted, and the plugin has not registered again yet.
        ({EPC: 0, ENCLAVE: 0}, [], EpcInUse()),
        ({EPC: 0, ENCLAVE: 0}, [(ENCLAVE, [9])], EpcInUse()),
        (
            {EPC: 0, ENCLAVE: 0},
            [(EPC, [5]), (EPC, [4095, 7]), (ENCLAVE, [9])],
            EpcInUse(4096, devices_held=True, held_count=4096),
        ),
        # The plugin has been gone for more than five minutes.
        ({}, [(EPC, [16_383])], EpcInUse(16_384, devices_held=True, held_count=16_384)),
        # The node counts EPC as capacity, not as devices.
        ({ENCLAVE: 1024}, [], EpcInUse()),
        ({ENCLAVE: 1024}, [(ENCLAVE, [0])], EpcInUse(capacity_held=True)),
        ({}, [(ENCLAVE, [0])], EpcInUse(enclaves_held=True)),
        # The device list became shorter while a container held the last device of the old list.
        ({EPC: 62}, [(EPC, [161, 3])], EpcInUse(62, devices_held=True, held_count=162)),
    ],
)
def test_what_is_in_use(registered, held, expected):
    assert in_use(encoded(registered, *held)) == expected


@pytest.mark.parametrize(("registered", "devices"), [(168, 168), (0, 4)])
def test_ids_of_others_have_no_index(registered, devices):
    theirs = HeldDevices("uid", "app", EPC, (*map(str, range(100, 168)), "a.b", "longer", ""))
    ours = HeldDevices("uid", "new", EPC, (device_id(3),))
    data = encode_checkpoint({EPC: map(str, range(registered))}, [theirs, ours])
    assert in_use(data, epc_mib=100_000) == EpcInUse(devices, devices_held=True, held_count=4)


def test_another_format_is_an_error_with_a_code():
    entry = '{"Data":{"RegisteredDevices":{},"PodDeviceEntries":[%s]}}'
    malformed = [
        *("", "{", "[]", "{}", '{"Data":null}', '{"Data":{"RegisteredDevices":[]}}', "[" * 100_000),
        '{"Data":{"RegisteredDevices":{},"PodDeviceEntries":7}}',
        '{"Data":{"RegisteredDevices":{"a":1},"PodDeviceEntries":[]}}',
        entry % '{"ResourceName":1,"DeviceIDs":{}}',
        entry % '{"ResourceName":"a","DeviceIDs":{"0":[1]}}',
        entry % "{}",
    ]
    for data in (b"\xff", *(text.encode() for text in malformed)):
        with raises("kubelet-checkpoint-unreadable", UnavailableError):
            decode_checkpoint(data)
    null = b'{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{"a/b":null}},"Checksum":1}'
    assert decode_checkpoint(null).registered == {"a/b": 0}


@pytest.fixture
def names(directory):
    return SocketNames(directory, "confcom", "me0")


def found(names):
    return find_epc_in_use(names, DEFAULT_NAMES, MAX_DEVICES)


def leave_socket(directory, kind, name, installation="confcom"):
    SocketNames(directory, installation, "old").path(Resource(kind, name, 1), 0).touch()


def test_the_checkpoint_decides_and_not_the_sockets(names, directory):
    assert found(names) == EpcInUse(), "no checkpoint, no doubt"
    leave_socket(directory, ResourceKind.EPC, REAL.epc)
    (directory / CHECKPOINT_NAME).write_bytes(encoded({ENCLAVE: 1024}, (ENCLAVE, [1])))
    assert found(names) == EpcInUse(capacity_held=True)


@pytest.mark.parametrize("content", [None, b"nonsense"])
def test_without_a_record_sockets_tell_how_epc_is_counted(names, directory, content):
    if content is not None:
        (directory / CHECKPOINT_NAME).write_bytes(content)
    leave_socket(directory, ResourceKind.EPC, REAL.epc, installation="another")
    doubt = found(names).doubt
    assert bool(doubt) is (content is not None)
    assert found(names) == EpcInUse(doubt=doubt)
    leave_socket(directory, ResourceKind.ENCLAVE, REAL.enclave)
    assert found(names) == EpcInUse(capacity_held=True, doubt=doubt)
    leave_socket(directory, ResourceKind.EPC, REAL.epc)
    assert found(names) == EpcInUse(devices_held=True, doubt=doubt)


def test_what_cannot_be_read_is_in_doubt_and_no_error(names, directory, monkeypatch):
    path = directory / CHECKPOINT_NAME
    path.mkdir()
    assert found(names).doubt
    path.rmdir()
    path.write_bytes(encoded({EPC: 1}))
    monkeypatch.setattr(epc_in_use, "MAX_CHECKPOINT_BYTES", path.stat().st_size)
    assert found(names) == EpcInUse(1)
    monkeypatch.setattr(epc_in_use, "MAX_CHECKPOINT_BYTES", path.stat().st_size - 1)
    assert "longer" in found(names).doubt


def test_a_full_node_is_within_the_limit():
    full = encoded({EPC: MAX_DEVICES, ENCLAVE: 1024}, (EPC, range(MAX_DEVICES)))
    assert len(full) < epc_in_use.MAX_CHECKPOINT_BYTES - 2 * 1024 * 1024
    assert in_use(full) == EpcInUse(MAX_DEVICES, devices_held=True, held_count=MAX_DEVICES)
