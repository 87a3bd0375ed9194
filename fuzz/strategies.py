"""Inputs as hypothesis strategies: made from the protocol's description, not from recorded requests.

hypothesis looks for small ones that fail, and remembers them; `mutations` is for volume.
"""

from __future__ import annotations

from hypothesis import strategies as st

from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from fuzz.corpus import Corpus
from fuzz.inputs import Ending, Input
from fuzz.model import SERVING_ORDER
from fuzz.mutations import FRAME_LENGTHS, LENGTHS, NUMBERS, STRANGE_FIELDS
from fuzz.wire import HEADER_SIZE, Field, Node, Raw, encode, frame, tag

MAX_FIELDS = 6
"""Of a request: one more than the most that a kind has."""


def inputs(corpus: Corpus) -> st.SearchStrategy[Input]:
    """Everything that a client may do, most of it nearly right."""
    body = messages(corpus) | messages(corpus) | st.binary(max_size=64)
    framed = body.map(frame)
    data = framed | framed | st.builds(_misframed, framed, st.sampled_from(FRAME_LENGTHS)) | _cut(framed)
    return st.builds(_in_pieces, data, st.lists(st.integers(0, 2_048), max_size=5), st.sampled_from(Ending))


def messages(corpus: Corpus) -> st.SearchStrategy[bytes]:
    """Bodies: one or several requests, of known and unknown kinds."""
    kinds = st.sampled_from((*SERVING_ORDER, *STRANGE_FIELDS))
    fields = st.lists(_fields(corpus), max_size=MAX_FIELDS).map(tuple)
    requests = st.builds(Field, kinds, fields) | _strange()
    return st.lists(requests, min_size=1, max_size=2).map(lambda tree: encode(tuple(tree)))


def _fields(corpus: Corpus) -> st.SearchStrategy[Node]:
    key = ECDSA_P256_KEY_ID.encode()
    texts = (
        st.sampled_from((*corpus.reports, key, bytes(4) + (1).to_bytes(4, "little") + key))
        | st.sampled_from(LENGTHS).map(bytes)
        | st.binary(max_size=16)
    )
    values = st.sampled_from(NUMBERS) | st.integers(0, 2**64 - 1) | texts
    return st.builds(Field, st.integers(1, 9), values) | _strange()


def _strange() -> st.SearchStrategy[Node]:
    """Any tag, groups and none included, and a few bytes."""
    return st.builds(
        lambda number, wire_type, rest: Raw(tag(number, wire_type) + rest),
        st.integers(0, 2**29),
        st.integers(0, 7),
        st.binary(max_size=10),
    )


def _misframed(data: bytes, length: int) -> bytes:
    return length.to_bytes(HEADER_SIZE, "little") + data[HEADER_SIZE:]


def _cut(framed: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.builds(lambda data, end: data[:end], framed, st.integers(0, 2_048))


def _in_pieces(data: bytes, cuts: list[int], ending: Ending) -> Input:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    pieces = (data[start:end] for start, end in zip([0, *ends], ends, strict=False))
    return Input(tuple(filter(None, pieces)), ending)
