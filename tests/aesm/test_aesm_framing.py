import tracemalloc

import pytest

from confcom.aesm.errors import FrameError
from confcom.aesm.framing import MAX_REQUEST_SIZE, FrameDecoder, encode_frame
from testkit.raised import raises


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
