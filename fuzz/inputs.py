"""Inputs: requests as clients write them, changed at each of their layers by a seeded random generator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import Final

from confcom.aesm.session import HEADER_SIZE, MAX_REQUEST_SIZE
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.sgx.report import REPORT_DATA_SIZE, TargetInfo
from confcom.simulation.enclave import SimulatedEnclave
from testkit.replay import wire

INIT, QUOTE_SIZE, GET_QUOTE, SELECT, NUM, IDS = 15, 16, 17, 19, 21, 22
LEGACY_KINDS: Final = (3, 1, 2, 4, 18, 10, 11, 12, 13, 14)
KINDS: Final = (INIT, QUOTE_SIZE, GET_QUOTE, SELECT, NUM, IDS, *LEGACY_KINDS)
"""Kinds of requests, in the order in which the service chooses among several in one message."""
STRANGE: Final = (0, 5, 9, 20, 23, 100, 2**29 - 1, 2**29)
"""Field numbers of no request; the first and the last are no valid field numbers."""
REPORTS: Final = 8
"""Number of reports that the quoting enclave accepts: several, to detect another client's answer."""
NUMBERS: Final = (
    *(0, 1, 2, 10, 31, 32, 33, 255, 256, 257, 4_599, 8_192, 13_346, 65_535, 65_536, 65_537),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 32, 2**32 + 256, 2**63, 2**64 - 1),
)
"""Numbers on both sides of each bound of the protocol, of integer widths, and of a common quote's size."""
LENGTHS: Final = (0, 1, 7, 8, 9, 157, 158, 159, 255, 256, 257, 264, 265, 431, 432, 433, 959, 960, 961)
"""Lengths on both sides of each valid length of a bytes field."""

Fields = list[tuple[int, int | bytes]]


class Ending(Enum):
    """The client's last act: it waits for the answer, closes its sending half before it, or closes."""

    WAIT = auto()
    HALF_CLOSE = auto()
    CLOSE = auto()


@dataclass(frozen=True, slots=True)
class Input:
    pieces: tuple[bytes, ...]
    ending: Ending

    @property
    def sends_eof(self) -> bool:
        """Whether the client closes before its answer: after an incomplete request it must, or both sides wait."""
        data = b"".join(self.pieces)
        length = int.from_bytes(data[:HEADER_SIZE], "little")
        is_complete = len(data) >= HEADER_SIZE and not len(data) - HEADER_SIZE < length <= MAX_REQUEST_SIZE
        return self.ending is not Ending.WAIT or not is_complete


class Generator:
    """Makes the input for a number, independently of other inputs.

    Fields, the body, the frame, the pieces and the ending are changed one after the other, each mostly left alone, so
    that most inputs become a decoded message and a few break at every layer.
    """

    def __init__(self, target_info: TargetInfo, seed: int) -> None:
        enclave, key = SimulatedEnclave.from_name("fuzzed"), ECDSA_P256_KEY_ID.encode()
        info = bytes(range(16)) + target_info.encode() + bytes(432)
        self.reports = [
            enclave.create_report(target_info, bytes([index]) * REPORT_DATA_SIZE).encode() for index in range(REPORTS)
        ]
        lists = [bytes(4) + count.to_bytes(4, "little") + bytes(256) * (count - 1) + key for count in (2, 10, 11)]
        requests: list[tuple[int, Fields]] = [
            (NUM, [(9, 15_000_000)]),
            (IDS, [(1, 256), (9, 15_000_000)]),
            (INIT, [(1, key), (3, 0), (4, 0xDEADBEEF)]),
            (INIT, [(1, key), (3, 1), (4, 32)]),
            (QUOTE_SIZE, [(1, key)]),
        ]
        requests += [(SELECT, [(1, listed), (2, 15_000_000)]) for listed in lists]
        requests += [(GET_QUOTE, [(1, report), (2, key), (4, 13_346)]) for report in self.reports]
        requests += [(GET_QUOTE, [(1, report), (2, key), (3, info), (4, 8_192), (9, 1)]) for report in self.reports]
        requests += [(kind, [(1, b"abcd")]) for kind in LEGACY_KINDS]
        self._requests = requests
        self._seed = seed
        self._random = Random()

    def make(self, index: int) -> Input:
        random = self._random
        random.seed(self._seed << 64 | index)
        body = self._request()
        chance = random.random()
        if chance < 0.08:
            body = random.choice((body + self._request(), body * random.randint(2, 20)))
        elif chance < 0.14:
            body = random.choice((self._strange() + body, body + self._strange()))
        elif chance < 0.15:  # as large as a request may be, or one byte larger
            filled = wire.data(100, bytes(2**15))
            body += wire.data(100, bytes(2**15 + max(0, MAX_REQUEST_SIZE + random.randrange(2) - len(body + filled))))
        if random.random() < 0.08:
            body = self._damaged(body)
        data = wire.frame(body)
        if random.random() < 0.12:
            near = max(0, len(body) + random.choice((-8, -1, 1, 8)))
            lengths = (each.to_bytes(HEADER_SIZE, "little") + body for each in (near, random.choice(NUMBERS) % 2**32))
            data = random.choice((*lengths, self._damaged(data), data * 2))
        return Input(self._pieces(data), random.choices([*Ending], (75, 20, 5))[0])

    def _request(self) -> bytes:
        random = self._random
        kind, fields = random.choice(self._requests)
        encoded = [self._field(*field) for field in fields]
        match random.randrange(10):
            case 0:
                del encoded[random.randrange(len(encoded))]
            case 1:
                encoded.append(self._field(*random.choice(fields)))
            case 2:
                random.shuffle(encoded)
            case 3:
                encoded.append(wire.number(random.randint(1, 9), random.choice(NUMBERS)))
            case 4:
                encoded.append(self._strange())
            case 5 if random.random() < 0.2:
                kind = random.choice((*KINDS, *STRANGE))
        return wire.data(kind, b"".join(encoded))

    def _field(self, number: int, value: int | bytes) -> bytes:
        random = self._random
        if random.random() < 0.75:
            return wire.field(number, value)
        if random.random() < 0.05:
            return self._of_any_type(number)
        if isinstance(value, int):
            return wire.number(number, random.choice(NUMBERS))
        at = random.randrange(len(value))
        changed = (
            random.choice(self.reports),
            random.randbytes(random.choice(LENGTHS)),
            value[: random.choice(LENGTHS)],
            value.ljust(random.choice(LENGTHS), b"\0"),
            value[:at] + bytes([value[at] ^ 1 << random.randrange(8)]) + value[at + 1 :],
        )
        return wire.data(number, random.choice(changed))

    def _strange(self) -> bytes:
        """Groups within groups (protobuf accepts 100 levels), or a field of any type."""
        number, depth = self._random.choice(STRANGE), self._random.choice((1, 99, 100, 101, 10_000))
        groups = wire.varint(number << 3 | 3) * depth + wire.varint(number << 3 | 4) * depth
        return self._random.choice((groups, self._of_any_type(number)))

    def _of_any_type(self, number: int) -> bytes:
        """A field of one of eight wire types, the last two of which do not exist."""
        random = self._random
        values = (b"\x80" * random.randrange(12) + b"\1", random.randbytes(8), b"\3abc", b"", b"", b"four", b"", b"")
        wire_type = random.randrange(8)
        return wire.varint(number << 3 | wire_type) + values[wire_type]

    def _damaged(self, data: bytes) -> bytes:
        random = self._random
        at = random.randrange(len(data))
        return random.choice(
            (data[:at], data[:at] + data[at + 1 :], data + random.randbytes(9), data[: at % 16] + random.randbytes(99))
        )

    def _pieces(self, data: bytes) -> tuple[bytes, ...]:
        random = self._random
        some = sorted(random.randrange(len(data) + 1) for _ in range(random.randint(1, 5)))
        each = [*range(1, min(len(data), 300))]
        cuts = random.choices([[], [HEADER_SIZE], each, some], (5, 1, 1, 1))[0]
        pieces = (data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True))
        return tuple(filter(None, pieces))
