import json
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.simulation.pki import Role
from confcom.simulation.platform import MAX_STATE_SIZE, PlatformStateError, SimulatedPlatform


def test_round_trip(any_platform):
    stored = any_platform.encode()
    assert SimulatedPlatform.parse(stored) == any_platform
    assert SimulatedPlatform.parse(stored).encode() == stored
    assert len(stored) < MAX_STATE_SIZE / 4


def test_a_later_version_keeps_the_certificates_it_finds(platform, now, seed):
    """The root is read, not made again: otherwise another version could silently change what people pinned."""
    older = SimulatedPlatform.create(seed, now.replace(year=2024))
    read = SimulatedPlatform.parse(older.encode())
    assert read.root_fingerprint == older.root_fingerprint != platform.root_fingerprint


@given(st.data())
def test_truncated_state_is_never_read(platform, data):
    stored = platform.encode()
    length = data.draw(st.integers(0, len(stored.rstrip()) - 1))
    with pytest.raises(PlatformStateError):
        SimulatedPlatform.parse(stored[:length])


@given(st.data())
def test_a_changed_byte_is_noticed_or_changes_nothing(platform, data):
    stored = bytearray(platform.encode())
    offset = data.draw(st.integers(0, len(stored) - 1))
    stored[offset] ^= data.draw(st.integers(1, 255))
    try:
        read = SimulatedPlatform.parse(bytes(stored))
    except PlatformStateError:
        return
    assert read == platform


@given(st.integers(0, 63), st.sampled_from("0123456789abcdefzZ \u00e9"))
def test_a_damaged_seed_does_not_show_in_the_error(platform, offset, character):
    fields = json.loads(platform.encode())
    seed = fields["seed"]
    fields["seed"] = seed[:offset] + character + seed[offset + 1 :]
    if fields["seed"] == seed:
        return
    with pytest.raises(PlatformStateError) as caught:
        SimulatedPlatform.parse(json.dumps(fields).encode())
    assert fields["seed"] not in str(caught.value)


@given(st.binary(max_size=200))
def test_other_bytes_are_never_a_platform(data):
    with pytest.raises(PlatformStateError):
        SimulatedPlatform.parse(data)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_other_json_is_never_a_platform(platform, value):
    fields = json.loads(platform.encode())
    for name in fields:
        with pytest.raises(PlatformStateError):
            SimulatedPlatform.parse(json.dumps({**fields, name: value}).encode())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": "confcom-simulated-platform-2"}, "this version reads 'confcom-simulated-platform-1'"),
        ({"seed": "00" * 31}, "its seed is 31 bytes instead of 32"),
        ({"seed": "not hex"}, "its seed is not hex"),
        ({"seed": "00" * 32}, "root certificate is not for the key"),
        ({"root": "-----BEGIN"}, "its root certificate cannot be read"),
        ({"extra": "member"}, "members are missing or unknown: extra"),
        ({"pck": None}, "not one JSON object of strings"),
    ],
)
def test_the_reason_is_told(platform, change, why):
    fields = {**json.loads(platform.encode()), **change}
    with pytest.raises(PlatformStateError) as caught:
        SimulatedPlatform.parse(json.dumps(fields).encode())
    assert why in caught.value.why
    assert "restore it from a copy" in caught.value.remedy


@pytest.mark.parametrize("role", Role)
def test_a_missing_certificate_is_told(platform, role):
    fields = json.loads(platform.encode())
    del fields[role.value]
    with pytest.raises(PlatformStateError) as caught:
        SimulatedPlatform.parse(json.dumps(fields).encode())
    assert role.value in caught.value.why


@pytest.mark.parametrize("role", Role)
def test_a_certificate_of_a_version_that_does_not_exist_is_told(platform, role):
    fields = json.loads(platform.encode())
    der = ssl.PEM_cert_to_DER_cert(fields[role.value])
    assert der.count(b"\xa0\x03\x02\x01\x02") == 1
    fields[role.value] = ssl.DER_cert_to_PEM_cert(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05"))
    with pytest.raises(PlatformStateError) as caught:
        SimulatedPlatform.parse(json.dumps(fields).encode())
    assert caught.value.why == f"its {role.value} certificate cannot be read"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b" " * (MAX_STATE_SIZE + 1), "larger than"),
        (b"[" * MAX_STATE_SIZE, "not JSON"),
        (b"[]", "not one JSON object"),
        (b'"text"', "not one JSON object"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_files_of_another_kind(data, why):
    with pytest.raises(PlatformStateError) as caught:
        SimulatedPlatform.parse(data)
    assert why in caught.value.why
