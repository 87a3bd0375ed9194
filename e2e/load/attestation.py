"""What one attestation of a client was like, as a line of its results: written in a pod, read outside."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Attestation:
    """One attestation. Times are of CLOCK_MONOTONIC, in seconds, which all pods of a machine share with it.

    It is late if it began more than a second after its time. `seconds` are those of each call, `renewals` tells how
    often the client got 42 and called InitQuoteEx again. Each quote has the report data that it is over.
    """

    began: float
    late: bool
    seconds: tuple[float, ...]
    renewals: int
    failure: str
    quotes: tuple[tuple[bytes, bytes], ...]

    def to_line(self) -> bytes:
        quotes = [[base64.b64encode(part).decode() for part in quote] for quote in self.quotes]
        return json.dumps([self.began, self.late, self.seconds, self.renewals, self.failure, quotes]).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Self:
        began, late, seconds, renewals, failure, quotes = json.loads(line)
        pairs = tuple((base64.b64decode(quote), base64.b64decode(data)) for quote, data in quotes)
        return cls(began, late, tuple(seconds), renewals, failure, pairs)
