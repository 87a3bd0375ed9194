import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import MalformedError
from confcom.quote_provider.state_directory import STATE_FILE, open_platform
from confcom.simulated_root.record import SECRET_NAME
from confcom.simulated_root.secret import MAX_SECRET_BYTES, decode_secret, encode_secret
from confcom.simulation.platform import PlatformStateError
from testkit.raised import raises


def test_round_trip(platform):
    assert decode_secret(encode_secret(platform, "any")).encode() == platform.encode()


def test_what_is_created(platform):
    secret = json.loads(encode_secret(platform, "sgx"))
    assert (secret["apiVersion"], secret["kind"], secret["type"]) == ("v1", "Secret", "Opaque")
    assert "immutable" not in secret  # kubelets would go on with a deleted one
    assert secret["metadata"]["name"] == SECRET_NAME
    assert secret["metadata"]["namespace"] == "sgx"
    assert list(secret["data"]) == [STATE_FILE]


def test_mounted_it_is_a_state_directory(platform, tmp_path):
    # The kubelet writes a Secret's keys into a folder of the time, and links to them.
    (tmp_path / "..2026").mkdir()
    for key, value in json.loads(encode_secret(platform, "sgx"))["data"].items():
        (tmp_path / "..2026" / key).write_bytes(base64.b64decode(value))
        (tmp_path / key).symlink_to(f"..data/{key}")
    (tmp_path / "..data").symlink_to("..2026")
    assert open_platform(tmp_path).root_fingerprint == platform.root_fingerprint


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"", "secret-not-json"),
        (b"[" * 100_000, "secret-not-json"),
        (b"[]", "secret-without-platform"),
        (b"{}", "secret-without-platform"),
        (b'{"data": null}', "secret-without-platform"),
        (b'{"data": {"platform.json": 7}}', "secret-without-platform"),
        (b'{"data": {"platform.json": "&"}}', "secret-not-base64"),
        (b" " * (MAX_SECRET_BYTES + 1), "secret-too-large"),
    ],
)
def test_something_else_is_explained(document, code):
    with raises(code, MalformedError) as caught:
        decode_secret(document)
    assert caught.value.why
    assert caught.value.remedy


@pytest.mark.filterwarnings("ignore::UserWarning:confcom")  # of a serial number that is not positive
@given(st.data())
def test_a_damaged_secret_is_an_error_that_tells_no_secret(platform, data):
    intact = encode_secret(platform, "sgx")
    position = data.draw(st.integers(0, len(intact) - 1))
    damaged = bytearray(intact)
    damaged[position] = data.draw(st.integers(0, 255).filter(lambda byte: byte != intact[position]))
    told = ""
    try:
        # What is neither the seed nor a certificate may differ: the labels, the name.
        assert decode_secret(bytes(damaged)).seed == platform.seed
    except MalformedError as error:
        told = str(error)
    assert platform.seed.hex()[:16] not in told
    assert json.loads(intact)["data"][STATE_FILE][:16] not in told


def test_a_platform_of_another_version_is_its_own_error():
    data = {STATE_FILE: base64.b64encode(b'{"format": "later"}').decode()}
    with pytest.raises(PlatformStateError):
        decode_secret(json.dumps({"data": data}).encode())
