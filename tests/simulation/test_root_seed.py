import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import MalformedError
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.root_seed import CHECK, CREATED, SEED, RootSeed, RootSeedError
from testkit.expected_errors import raises

GOLDEN = json.loads((Path(__file__).parent / "simulated-root.json").read_text())
SEEDS = st.builds(RootSeed, st.binary(min_size=32, max_size=32), st.integers(0, 9_999_999_999))


def test_the_root_of_a_seed_never_changes():
    """Relying parties pin the root, so each later version must derive the same root from a seed."""
    platform = SimulatedPlatform.of_root(
        RootSeed.decode({name: GOLDEN[name].encode() for name in (SEED, CREATED, CHECK)})
    )
    quoting_enclave = platform.quoting_enclave()
    assert platform.pki.root.pem.decode() == GOLDEN["root"]
    assert platform.pki.pck_ca.pem.decode() == GOLDEN["pck_ca"]
    assert platform.root_fingerprint == GOLDEN["root_sha256"]
    assert quoting_enclave.enclave.mr_enclave.hex() == GOLDEN["qe_mr_enclave"]
    assert quoting_enclave.enclave.mr_signer.hex() == GOLDEN["qe_mr_signer"]
    assert quoting_enclave.pub_key_id.hex() == GOLDEN["qe_pub_key_id"]
    root = RootSeed.decode({name: GOLDEN[name].encode() for name in (SEED, CREATED, CHECK)})
    for node, pck in GOLDEN["pck"].items():
        assert SimulatedPlatform.of_root(root, node).pki.pck.pem.decode() == pck


def test_a_seed_of_another_size_makes_no_platform(now):
    for size in (0, 31, 33):
        with raises("wrong-size", MalformedError, "remedy"):
            SimulatedPlatform.create(bytes(size), now)


@given(SEEDS)
def test_round_trip(root):
    assert RootSeed.decode(root.encode()) == root
    assert root.seed.hex() not in repr(root)


@pytest.mark.parametrize("created", [0, 9_999_999_999])
def test_the_earliest_and_the_latest_time_make_a_platform(created):
    assert SimulatedPlatform.of_root(RootSeed(bytes(32), created)).root_fingerprint


@given(SEEDS, st.sampled_from([SEED, CREATED, CHECK]), st.data())
def test_a_damaged_value_is_refused_and_not_shown(root, name, data):
    damaged = bytearray(root.encode()[name])
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RootSeedError) as caught:
        RootSeed.decode({**root.encode(), name: bytes(damaged)})
    assert name != SEED or damaged.decode("ascii", "replace") not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({SEED: None, CHECK: b"0" * 64}, SEED),
        ({CREATED: None, CHECK: b"0" * 64}, CREATED),
        ({CHECK: None}, CHECK),
        ({SEED: b"AB" * 32}, SEED),
        ({SEED: b"ab" * 32 + b"\n"}, SEED),
        ({CREATED: b"1764374400\n"}, CREATED),
        ({CREATED: b"01764374400"}, CREATED),
        ({CREATED: b"-1"}, CREATED),
        ({CREATED: b"99999999999"}, CREATED),
        ({CREATED: "١٢٣".encode()}, CREATED),
        ({CHECK: hashlib.sha256(b"ab" * 32 + b":1764374400\n").hexdigest().encode()}, CHECK),
    ],
)
def test_the_damaged_value_is_named(changes, named):
    given_values = {SEED: b"ab" * 32, CREATED: b"1764374400"}
    if CHECK not in changes:
        changed = given_values | changes
        changes = changes | {CHECK: hashlib.sha256(changed[SEED] + b":" + changed[CREATED]).hexdigest().encode()}
    merged = {name: value for name, value in {**given_values, **changes}.items() if value is not None}
    with raises("simulated-root-unusable", RootSeedError, "why", "remedy") as caught:
        RootSeed.decode(merged)
    assert caught.value.why.startswith(f"{named} is ")
