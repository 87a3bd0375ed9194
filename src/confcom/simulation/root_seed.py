"""Seed and creation time of a simulated platform, stored under keys of a Secret or in files of a folder."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from confcom.errors import MalformedError

SEED_SIZE: Final = 32
"""Bytes of a seed: twice the security strength of P-256, the strongest type of key derived from a seed."""
SEED: Final = "seed"
"""Key of the seed, the platform's only secret; the value is 64 lower-case hex digits."""
CREATED: Final = "created"
"""Key of the creation time; the value is Unix seconds in decimal digits."""
CHECK: Final = "check"
"""Key of the checksum, which reveals damaged or mixed values: hex SHA-256 of the ASCII text `SEED:CREATED`."""
MAX_VALUE_SIZE: Final = 64
"""Bytes of the longest stored values, which are the seed and the checksum in hex."""

_SEED: Final = re.compile(rf"[0-9a-f]{{{2 * SEED_SIZE}}}")
_CREATED: Final = re.compile(r"0|[1-9][0-9]{0,9}")
"""Creation times up to the year 2286, because a certificate's years must fit into X.509's four digits."""


class RootSeedError(MalformedError):
    """The stored values of a simulated root cannot be used."""

    error_code = "simulated-root-unusable"


@dataclass(frozen=True, slots=True)
class RootSeed:
    """A seed of 32 random bytes, and the time of creation in Unix seconds."""

    seed: bytes = field(repr=False)
    created: int

    @classmethod
    def decode(cls, values: Mapping[str, bytes]) -> Self:
        """Decode the values of a stored root. Damage is not repaired, as a repair could make another root."""
        texts = {}
        for name in (SEED, CREATED, CHECK):
            if name not in values:
                raise _unusable(f"{name} is missing")
            texts[name] = values[name].decode("ascii", "replace")
        if not _SEED.fullmatch(texts[SEED]):
            raise _unusable(f"{SEED} is not {2 * SEED_SIZE} lower-case hex digits, without a line break")
        if not _CREATED.fullmatch(texts[CREATED]):
            raise _unusable(f"{CREATED} is not a decimal number of seconds since 1970, without a line break")
        if texts[CHECK] != _check(texts[SEED], texts[CREATED]):
            raise _unusable(f"{CHECK} is not the hex SHA-256 of {SEED}, a colon and {CREATED}, without a line break")
        return cls(bytes.fromhex(texts[SEED]), int(texts[CREATED]))

    def encode(self) -> Mapping[str, bytes]:
        seed, created = self.seed.hex(), str(self.created)
        return {SEED: seed.encode(), CREATED: created.encode(), CHECK: _check(seed, created).encode()}


def _check(seed: str, created: str) -> str:
    return hashlib.sha256(f"{seed}:{created}".encode()).hexdigest()


def _unusable(why: str) -> RootSeedError:
    return RootSeedError(
        "the simulated root cannot be used",
        why=why,
        remedy="restore it from a copy; or, if no relying party uses this root any more, delete it and create another",
    )
