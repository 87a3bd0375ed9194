"""The fuzzer's own protobuf against the library that the helper uses."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from confcom.aesm import messages_pb2
from confcom.errors import MalformedError
from fuzz.inputs import Ending, Input, read_inputs
from fuzz.model import MAX_REQUEST_SIZE, End, Rules, expect
from fuzz.mutations import Generator
from fuzz.wire import HEADER_SIZE, Field, encode, frame, parse, scan, tag, varint

NO_REPORTS = Rules(reports=(), quote_size=1, rejected=47)
BODIES = 2_000


@pytest.fixture(scope="module")
def bodies(target):
    generator = Generator(target.corpus, seed=11)
    inputs = (generator.make(index).data[HEADER_SIZE:] for index in range(BODIES))
    return [body for body in inputs if 0 < len(body) <= MAX_REQUEST_SIZE]


def model_takes(body):
    return expect(frame(body), NO_REPORTS).end in {End.ANSWERED, End.UNKNOWN}


def library_takes(body):
    try:
        messages_pb2.Request().ParseFromString(body)
    except DecodeError:
        return False
    return True


@given(st.binary(min_size=1, max_size=40))
def test_the_model_and_the_library_call_the_same_bytes_a_message(body):
    assert model_takes(body) == library_takes(body)


def test_the_model_and_the_library_call_the_same_bodies_of_inputs_a_message(bodies):
    taken = [library_takes(body) for body in bodies]
    assert [model_takes(body) for body in bodies] == taken
    assert {True, False} <= set(taken)


@pytest.mark.parametrize("depth", [1, 99, 100, 101, 5_000])
@pytest.mark.parametrize("sub_message", [False, True])
def test_how_deep_groups_may_be(depth, sub_message):
    body = tag(30, 3) * depth + tag(30, 4) * depth
    if sub_message:
        body = encode((Field(21, body),))
    taken = depth <= (99 if sub_message else 100)
    assert library_takes(body) == taken
    assert (expect(frame(body), NO_REPORTS).end is not End.NO_MESSAGE) == taken


@given(st.integers(0, 2**64 - 1), st.integers(0, 10))
def test_a_number_written_needlessly_long_is_the_same_number(value, size):
    (found,) = scan(tag(4, 0) + varint(value, size))
    assert found.value == value


def test_what_is_parsed_means_the_same_when_it_is_written_again(bodies):
    messages = [body for body in bodies if model_takes(body)]
    assert [expect(frame(encode(parse(body))), NO_REPORTS) for body in messages] == [
        expect(frame(body), NO_REPORTS) for body in messages
    ]


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=4).map(tuple), st.sampled_from(Ending))
def test_an_input_survives_its_text(pieces, ending):
    sent = Input(pieces, ending)
    assert Input.parse(str(sent)) == sent


@pytest.mark.parametrize("text", ["", "0g/wait", "00", "00/never"])
def test_what_is_no_input_is_refused(text):
    with pytest.raises(MalformedError):
        Input.parse(text)


def test_comments_and_empty_lines_of_a_file_are_no_inputs(tmp_path):
    (tmp_path / "a.txt").write_text("# why\n\n00+01/wait\n")
    (tmp_path / "b.md").write_text("02/wait\n")
    assert list(read_inputs(tmp_path)) == [Input((b"\0", b"\1"), Ending.WAIT)]
