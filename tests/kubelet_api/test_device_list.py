import string

from hypothesis import given
from hypothesis import strategies as st

from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.device_list import ALPHABET, all_below, device_id, encode_device_list
from confcom.kubernetes.epc_accounting import MAX_DEVICES

RECEIVE_LIMIT = 4 * 1024 * 1024  # the kubelet's limit, written out here to check our constant


@given(st.integers(0, MAX_DEVICES - 1))
def test_an_id_names_its_index(index):
    identifier = device_id(index)
    assert len(identifier) <= 3
    assert set(identifier) <= set(string.ascii_letters + string.digits + "-_")
    assert all_below([identifier], index + 1)
    assert not all_below([identifier], index)


@given(st.integers(0, 3_000))
def test_a_list_parses_back_to_the_same_devices(count):
    encoded = encode_device_list(count)
    expected = pb.ListAndWatchResponse(
        devices=[pb.Device(ID=device_id(index), health="Healthy") for index in range(count)]
    )
    assert pb.ListAndWatchResponse.FromString(encoded) == expected
    assert encoded == expected.SerializeToString()


def test_the_largest_list_is_exactly_what_the_kubelet_receives():
    encoded = encode_device_list(MAX_DEVICES)
    assert len(encoded) == RECEIVE_LIMIT
    devices = pb.ListAndWatchResponse.FromString(encoded).devices
    assert len({device.ID for device in devices}) == MAX_DEVICES == len(ALPHABET) ** 3


@given(st.text(max_size=6).filter(lambda text: len(text) != 3 or not set(text) <= set(ALPHABET)))
def test_what_is_no_id_is_below_nothing(text):
    assert not all_below([text], MAX_DEVICES)
    assert not all_below([device_id(0), text], MAX_DEVICES)


@given(st.lists(st.integers(0, MAX_DEVICES - 1), max_size=20), st.integers(0, MAX_DEVICES))
def test_one_that_is_not_below_is_noticed_among_others(indices, count):
    identifiers = [device_id(index) for index in indices]
    assert all_below(identifiers, count) == all(index < count for index in indices)


def test_ids_of_other_lengths_do_not_make_up_for_each_other():
    assert not all_below(["AA", "AAAA"], MAX_DEVICES)
    assert not all_below(["", "AAAAAA"], MAX_DEVICES)
