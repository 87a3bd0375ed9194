from dataclasses import dataclass

import pytest

from confcom.errors import MalformedError
from confcom.sgx.binary import ByteReader, Layout
from testkit.raised import raises


@pytest.fixture
def layout():
    return Layout("a thing", name="12s", small="B", number="H", large="I", huge="Q")


@dataclass
class Thing:
    name: bytes = b"abcdefghijkl"
    small: int = 1
    number: int = 2
    large: int = 3
    huge: int = 4


def test_packs_little_endian_without_padding(layout):
    data = layout.pack(Thing())
    assert data == b"abcdefghijkl\x01\x02\x00\x03\x00\x00\x00\x04" + bytes(7)
    assert layout.size == len(data) == 27
    assert layout.unpack(data) == (b"abcdefghijkl", 1, 2, 3, 4)


def test_a_byte_string_that_does_not_fit_is_refused_not_cut(layout):
    for name in (b"abcdefghijk", b"abcdefghijklm", b"a", b""):
        with raises("wrong-size", MalformedError, naming="name of a thing "):
            layout.pack(Thing(name=name))


def test_an_integer_out_of_range_is_refused(layout):
    for change in ({"small": 256}, {"number": -1}, {"large": 1 << 32}, {"huge": 1 << 64}):
        with raises("out-of-range", MalformedError, "why"):
            layout.pack(Thing(**change))


def test_unpack_takes_exactly_one_structure(layout):
    for size in (0, 26, 28):
        with raises("wrong-size", MalformedError, "remedy"):
            layout.unpack(bytes(size))


def test_reader_takes_in_order_and_never_past_the_end():
    reader = ByteReader(b"\x01\x02abc", "a thing")
    assert reader.remaining == 5
    assert reader.integer(2, "the size") == 0x0201
    assert reader.take(2, "the text") == b"ab"
    assert reader.remaining == 1
    with raises("truncated", MalformedError, "why", "remedy") as caught:
        reader.take(2, "the rest")
    assert "a thing" in caught.value.what
    assert "the rest" in caught.value.what
    with raises("truncated", naming="the size"):
        reader.integer(2, "the size")
    with raises("excess-bytes", MalformedError, "why", naming="a thing"):
        reader.finish()
    assert (reader.rest(), reader.remaining, reader.rest()) == (b"c", 0, b"")
    reader.finish()
