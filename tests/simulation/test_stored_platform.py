import json
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.simulation.pki import Role
from confcom.simulation.platform import MAX_STATE_SIZE, PlatformStateError, SimulatedPlatform
from testkit.raised import raises, require_style


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
def test_a_cut_or_a_changed_byte_is_noticed_or_changes_nothing(platform, data):
    stored = bytearray(platform.encode())
    offset = data.draw(st.integers(0, len(stored) - 1))
    with pytest.raises(PlatformStateError):
        SimulatedPlatform.parse(stored.rstrip()[: offset - 1])
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


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_other_json_is_never_a_platform(platform, value):
    fields = json.loads(platform.encode())
    for name in fields:
        with pytest.raises(PlatformStateError):
            SimulatedPlatform.parse(json.dumps({**fields, name: value}).encode())


def reason(data):
    """Why it is refused."""
    with raises("platform-unusable", PlatformStateError, "why", "remedy") as caught:
        SimulatedPlatform.parse(data)
    cause = caught.value.__cause__
    require_style(cause)
    assert caught.value.why == str(cause)
    return cause


def of_version_6(pem):
    der = ssl.PEM_cert_to_DER_cert(pem)
    assert der.count(b"\xa0\x03\x02\x01\x02") == 1
    return ssl.DER_cert_to_PEM_cert(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05"))


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ({"format": "confcom-simulated-platform-2"}, "unsupported-platform-format", "'confcom-simulated-platform-1'"),
        ({"seed": "00" * 31}, "wrong-size", "seed"),
        ({"seed": "not hex"}, "not-hexadecimal", "seed"),
        ({"seed": "00" * 32}, "wrong-key", "root"),
        ({"root": "-----BEGIN"}, "not-a-certificate", "root"),
        ({"extra": "member"}, "wrong-members", "extra"),
        ({"pck": None}, "wrong-member", ""),
        *(({role.value: ...}, "wrong-members", f" {role.value}") for role in Role),
        *(({role.value: of_version_6}, "not-a-certificate", f" {role.value} ") for role in Role),
    ],
)
def test_the_reason_is_told(platform, change, code, named):
    fields = json.loads(platform.encode())
    for name, value in change.items():
        fields[name] = value(fields[name]) if callable(value) else value
    cause = reason(json.dumps({name: value for name, value in fields.items() if value is not ...}).encode())
    assert cause.error_code == code
    assert named in cause.what


def test_files_of_another_kind():
    too_long, deep = b" " * (MAX_STATE_SIZE + 1), b"[" * MAX_STATE_SIZE
    assert reason(b"").error_code == "empty"
    assert reason(too_long).error_code == "too-long"
    assert {reason(data).error_code for data in (deep, b"\xff\xfe")} == {"not-json"}
    assert {reason(data).error_code for data in (b"[]", b'"text"')} == {"wrong-member"}
