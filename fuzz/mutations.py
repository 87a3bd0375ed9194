"""Inputs from a seeded random generator: a request of the corpus, changed a little at each layer that it has.

Values, fields, the body, the frame, the pieces and the ending are changed one after the other, each mostly left alone,
so that most inputs get as far as a decoded message and a few break at every layer. The same corpus, seed and index give
the same input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Final

from fuzz.corpus import Corpus
from fuzz.inputs import Ending, Input
from fuzz.model import MAX_REQUEST_SIZE, SERVING_ORDER
from fuzz.wire import HEADER_SIZE, Field, Node, Raw, Tree, WireType, encode, frame, tag, varint

NUMBERS: Final = (
    *(0, 1, 2, 10, 31, 32, 33, 255, 256, 257, 4_599, 8_192, 13_346, 65_535, 65_536, 65_537),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 32, 2**32 + 256, 2**63, 2**64 - 1),
)
"""On both sides of every bound of the protocol, of its integers' widths, and of a common quote's size."""

LENGTHS: Final = (0, 1, 7, 8, 9, 157, 158, 159, 255, 256, 257, 264, 265, 383, 384, 431, 432, 433, 512, 959, 960, 961)
"""On both sides of every length that a field of bytes can have."""

LARGE: Final = (4_096, 30_000, MAX_REQUEST_SIZE - 700, MAX_REQUEST_SIZE, MAX_REQUEST_SIZE + 1)
"""Lengths that fill the frame, or do not fit into it."""

DEPTHS: Final = (1, 2, 50, 98, 99, 100, 101, 102, 1_000, 10_000)
"""Of groups in groups: protobuf bears 100."""

FRAME_LENGTHS: Final = (0, 1, MAX_REQUEST_SIZE, MAX_REQUEST_SIZE + 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1)

STRANGE_FIELDS: Final = (0, 5, 9, 20, 23, 100, 2**15, 2**29 - 1, 2**29)
"""The first and the last are no numbers of a field."""

FILLER: Final = 100
"""A field that no request has."""

FILLER_LENGTH_SIZE: Final = 3
"""Bytes of its length, which may be up to 2^21."""

MAX_SINGLE_BYTES: Final = 300
"""Longer inputs are not sent byte by byte: a write for each would be all that a campaign on a socket does."""


class Generator:
    """Makes inputs."""

    def __init__(self, corpus: Corpus, seed: int) -> None:
        self._corpus = corpus
        self._seed = seed
        self._random = Random()

    def make(self, index: int) -> Input:
        """The input of this number, whatever was made before."""
        random = self._random
        random.seed(self._seed << 64 | index)
        body = encode(self._tree())
        if random.random() < 0.08:
            body = self._damaged(body)
        data = frame(body)
        if random.random() < 0.12:
            data = self._misframed(data)
        return Input(self._pieces(data), self._ending())

    def _tree(self) -> Tree:
        random = self._random
        tree = list(random.choice(self._corpus.requests))
        for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
            at = random.randrange(len(tree))
            tree[at] = self._changed_request(tree[at])
        chance = random.random()
        if chance < 0.08:
            tree.insert(random.randint(0, len(tree)), random.choice(random.choice(self._corpus.requests)))
        elif chance < 0.14:
            tree.insert(random.randint(0, len(tree)), self._strange_field())
        elif chance < 0.16:
            tree.insert(random.randint(0, len(tree)), Field(random.choice(SERVING_ORDER), ()))
        elif chance < 0.18:
            tree *= random.randint(2, 20)
        elif chance < 0.185:
            tree.append(self._filler(encode(tuple(tree))))
        return tuple(tree)

    def _filler(self, body: bytes) -> Node:
        """A field that makes a body as large as a request may be, or larger by one byte."""
        start = tag(FILLER, WireType.BYTES)
        size = MAX_REQUEST_SIZE + self._random.randrange(2) - len(body) - len(start) - FILLER_LENGTH_SIZE
        return Raw(start + varint(max(size, 0), FILLER_LENGTH_SIZE) + bytes(max(size, 0)))

    def _changed_request(self, request: Node) -> Node:
        if not isinstance(request, Field):
            return request
        if self._random.random() < 0.02:
            return replace(request, number=self._random.choice((*SERVING_ORDER, *STRANGE_FIELDS)))
        if not isinstance(request.value, tuple):
            return self._changed_field(request)
        fields = list(request.value)
        change = self._random.choice(_FIELD_LIST_CHANGES)
        change(self, fields)
        return replace(request, value=tuple(fields))

    def _change_one(self, fields: list[Node]) -> None:
        if fields:
            at = self._random.randrange(len(fields))
            fields[at] = self._changed_field(fields[at])

    def _drop(self, fields: list[Node]) -> None:
        if fields:
            del fields[self._random.randrange(len(fields))]

    def _repeat(self, fields: list[Node]) -> None:
        if fields:
            fields.append(self._changed_field(self._random.choice(fields)))

    def _reorder(self, fields: list[Node]) -> None:
        self._random.shuffle(fields)

    def _add(self, fields: list[Node]) -> None:
        number = self._random.randint(1, 9)
        value: int | bytes = self._random.choice(NUMBERS) if self._random.random() < 0.5 else self._bytes(b"")
        fields.append(Field(number, value))

    def _add_strange(self, fields: list[Node]) -> None:
        fields.insert(self._random.randint(0, len(fields)), self._strange_field())

    def _exchange_report(self, fields: list[Node]) -> None:
        for at, field in enumerate(fields):
            if isinstance(field, Field) and field.value in self._corpus.reports:
                fields[at] = replace(field, value=self._random.choice(self._corpus.reports))

    def _changed_field(self, field: Node) -> Node:
        if not isinstance(field, Field):
            return field
        if self._random.random() < 0.05:
            return Raw(self._wrong_type(field.number))
        match field.value:
            case int():
                if self._random.random() < 0.1:
                    size = self._random.choice((2, 5, 6, 10, 11, 12))
                    return Raw(tag(field.number, WireType.VARINT) + varint(field.value, size))
                return replace(field, value=self._random.choice(NUMBERS))
            case bytes():
                return replace(field, value=self._bytes(field.value))
            case _:
                return field

    def _bytes(self, value: bytes) -> bytes:
        random = self._random
        change = random.randrange(7)
        if change == 0 or not value:
            return random.randbytes(random.choice(LENGTHS))
        if change == 1:
            return value[: random.choice(LENGTHS)]
        if change == 2:
            return value.ljust(random.choice(LENGTHS), b"\0")
        if change == 3:
            return value + random.randbytes(random.choice((1, 8, 256)))
        if change == 4 and random.random() < 0.05:
            return value.ljust(random.choice(LARGE), b"\xa5")
        at = random.randrange(len(value))
        return value[:at] + bytes([value[at] ^ 1 << random.randrange(8)]) + value[at + 1 :]

    def _strange_field(self) -> Node:
        random = self._random
        number = random.choice(STRANGE_FIELDS)
        match random.randrange(5):
            case 0:
                return Field(number, random.choice(NUMBERS))
            case 1:
                return Field(number, self._bytes(b""))
            case 2:
                depth = random.choice(DEPTHS)
                return Raw(tag(number, WireType.GROUP) * depth + tag(number, WireType.END_GROUP) * depth)
            case 3:
                data = b""
                for _ in range(random.choice((10, 100, 500))):
                    data = encode((Field(number, data),))
                return Raw(data)
            case _:
                return Raw(self._wrong_type(number))

    def _wrong_type(self, number: int) -> bytes:
        random = self._random
        wire_type = random.randrange(8)
        value: dict[int, bytes] = {
            WireType.VARINT: varint(random.choice(NUMBERS)),
            WireType.FIXED64: random.randbytes(8),
            WireType.BYTES: varint(3) + b"abc",
            WireType.GROUP: tag(number, WireType.END_GROUP),
            WireType.FIXED32: random.randbytes(4),
        }
        return tag(number, wire_type) + value.get(wire_type, b"")

    def _damaged(self, body: bytes) -> bytes:
        random = self._random
        match random.randrange(5):
            case 0:
                return body[: random.randrange(len(body) + 1)]
            case 1:
                return body + random.randbytes(random.randint(1, 20))
            case 2:
                return random.randbytes(random.choice((1, 2, 10, 100, 1_667)))
            case 3:
                at = random.randrange(min(len(body), 16))
                return body[:at] + random.randbytes(1) + body[at + 1 :]
            case _:
                at = random.randrange(len(body))
                return body[:at] + body[at + random.randint(1, 8) :]

    def _misframed(self, data: bytes) -> bytes:
        random = self._random
        length, body = len(data) - HEADER_SIZE, data[HEADER_SIZE:]
        match random.randrange(6):
            case 0:
                return random.choice(FRAME_LENGTHS).to_bytes(HEADER_SIZE, "little") + body
            case 1:
                near = max(0, length + random.choice((-8, -1, 1, 8)))
                return near.to_bytes(HEADER_SIZE, "little") + body
            case 2:
                return data[: random.randrange(len(data))]
            case 3:
                return data + random.randbytes(random.choice((1, 4, 100, 5_000)))
            case 4:
                return data * random.randint(2, 4)
            case _:
                return length.to_bytes(HEADER_SIZE, "big") + body

    def _pieces(self, data: bytes) -> tuple[bytes, ...]:
        random = self._random
        match random.randrange(8):
            case 0:
                cuts = [HEADER_SIZE]
            case 1 if len(data) <= MAX_SINGLE_BYTES:
                cuts = list(range(1, len(data)))
            case 2:
                cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.randint(1, 5)))
            case _:
                cuts = []
        pieces = (data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True))
        return tuple(filter(None, pieces))

    def _ending(self) -> Ending:
        chance = self._random.random()
        if chance < 0.05:
            return Ending.CLOSE
        return Ending.HALF_CLOSE if chance < 0.25 else Ending.WAIT


_FIELD_LIST_CHANGES: Final[tuple[Callable[[Generator, list[Node]], None], ...]] = (
    *([Generator._change_one] * 6),  # noqa: SLF001 # its own table
    Generator._drop,  # noqa: SLF001
    Generator._repeat,  # noqa: SLF001
    Generator._reorder,  # noqa: SLF001
    Generator._add,  # noqa: SLF001
    Generator._add_strange,  # noqa: SLF001
    *([Generator._exchange_report] * 3),  # noqa: SLF001
)
"""How often each is chosen."""
