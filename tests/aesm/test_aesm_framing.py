import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.aesm.errors import FrameError
from confcom.aesm.framing import MAX_REQUEST_SIZE, FrameDecoder, encode_frame
from testkit.raised import raises

BODIES = st.binary(min_size=1, max_size=300)


def segments(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


@given(body=BODIES, trailing=st.binary(max_size=20), cuts=st.lists(st.integers(0, 400), max_size=12))
def test_a_frame_arrives_once_in_any_segmentation(body, trailing, cuts):
    decoder = FrameDecoder(300)
    bodies = [decoder.feed(part) for part in segments(encode_frame(body) + trailing, cuts)]
    assert [found for found in bodies if found is not None] == [body]


def test_the_frame_is_complete_at_its_last_byte_and_the_only_one():
    data = encode_frame(b"abc")
    decoder = FrameDecoder(300)
    assert [decoder.feed(data[at : at + 1]) for at in range(len(data))] == [None] * 6 + [b"abc"]
    assert decoder.feed(encode_frame(b"two")) is None


@pytest.mark.parametrize("announced", [0, MAX_REQUEST_SIZE + 1, 0xFFFFFFFF])
@pytest.mark.parametrize("split", [0, 1, 3])
def test_lengths_that_nobody_sends_are_refused(announced, split):
    header = announced.to_bytes(4, "little")
    decoder = FrameDecoder(MAX_REQUEST_SIZE)
    assert decoder.feed(header[:split]) is None
    with raises("frame-length", FrameError, "why", "remedy", naming=f" {announced} "):
        decoder.feed(header[split:])
    assert decoder.feed(b"\1\0\0\0x") is None
    assert decoder.started


def test_the_smallest_and_the_largest_body_are_taken():
    assert MAX_REQUEST_SIZE == 65_536 > 39 * 1667, "the largest request of a known client has 1,667 bytes"
    for size in (1, MAX_REQUEST_SIZE):
        assert FrameDecoder(MAX_REQUEST_SIZE).feed(encode_frame(bytes(size))) == bytes(size)


def test_started_tells_a_silent_peer_from_another():
    decoder = FrameDecoder(10)
    assert not decoder.started
    decoder.feed(b"")
    assert not decoder.started
    decoder.feed(b"\1")
    assert decoder.started
    decoder.feed(b"\0\0\0x")
    assert decoder.started


def test_memory_is_bounded_by_the_frame_whatever_arrives():
    announced = MAX_REQUEST_SIZE.to_bytes(4, "little")
    flood = bytes(4 * 1024 * 1024)
    decoder = FrameDecoder(MAX_REQUEST_SIZE)
    tracemalloc.start()
    try:
        decoder.feed(announced)
        after_header = tracemalloc.get_traced_memory()[1]
        decoder.feed(flood)
        decoder.feed(flood)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert after_header < 4096, "room was taken for a length that was merely announced"
    assert peak < 4 * MAX_REQUEST_SIZE
