"""One connection's input: what a client sends, in which pieces, and how it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from confcom.errors import MalformedError
from fuzz.model import MAX_REQUEST_SIZE
from fuzz.wire import HEADER_SIZE


class Ending(StrEnum):
    """What the client does when it has sent everything."""

    WAIT = "wait"
    """It waits for the answer, with both halves open."""
    HALF_CLOSE = "half_close"
    """It closes its sending half and waits."""
    CLOSE = "close"
    """It is gone."""


@dataclass(frozen=True, slots=True)
class Input:
    """What one client does. Its text form is one word, `0600+aa0103489875/wait`: pieces in hex, and the ending."""

    pieces: tuple[bytes, ...]
    ending: Ending

    @property
    def data(self) -> bytes:
        """All that is sent."""
        return b"".join(self.pieces)

    @property
    def sends_eof(self) -> bool:
        """Whether the client closes before it has its answer. One that has sent too little must, or both would wait."""
        return self.ending is not Ending.WAIT or not _ends_by_itself(self.data)

    def __str__(self) -> str:
        return "+".join(piece.hex() for piece in self.pieces) + "/" + self.ending

    @classmethod
    def parse(cls, text: str) -> Input:
        """Read the text form."""
        pieces, _, ending = text.strip().partition("/")
        try:
            return cls(tuple(map(bytes.fromhex, pieces.split("+"))) if pieces else (), Ending(ending))
        except ValueError as error:
            raise MalformedError(
                f"{text[:80]!r} is no input of the fuzzer", why=str(error), remedy="write HEX+HEX/wait"
            ) from error


def read_inputs(folder: Path) -> Iterator[Input]:
    """The inputs kept in a folder's .txt files, one a line; lines that begin with # say what they are for."""
    for path in sorted(folder.glob("*.txt")):
        for line in path.read_text().splitlines():
            if line and not line.startswith("#"):
                yield Input.parse(line)


def _ends_by_itself(data: bytes) -> bool:
    """Whether the service closes without waiting for more: the frame is whole, or has no possible length."""
    if len(data) < HEADER_SIZE:
        return False
    length = int.from_bytes(data[:HEADER_SIZE], "little")
    return not 0 < length <= MAX_REQUEST_SIZE or len(data) >= HEADER_SIZE + length
