"""Who serves the path: pure decisions, from what is seen there and the state that this instance is in.

Several instances meet at one path while an update replaces one by the other. Each decides for itself, by these rules,
and together they keep the path served: whoever finds nobody there binds it at once; a live socket of ours is taken over
only by an instance that can quote, and by the newer of two that can; one of another program stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, Self

from confcom.daemon.socket_path import SUN_PATH_BYTES, FileIdentity
from confcom.errors import ConfcomError

TOKEN_BYTES: Final = 3
"""Random bytes that tell apart instances which started in the same millisecond."""

_MARK: Final = re.compile(r"\.confcom-([0-9a-f]{10})-([0-9a-f]{6})")
_MARK_BYTES: Final = len("confcom-0123456789-abcdef")

MAX_SOCKET_PATH_BYTES: Final = SUN_PATH_BYTES - len("..") - _MARK_BYTES
"""Of the AESM socket, so that `.NAME.MARK` beside it fits into sun_path too."""


@dataclass(frozen=True, slots=True, order=True)
class Instance:
    """One run of the quote helper; a later one is greater. It is what the mark on its sockets says.

    The mark is a name: any program that may write the directory can bind the same. It prevents accidents; what protects
    the path is that nobody else may write its directory.
    """

    started_ms: int
    """CLOCK_BOOTTIME, which all containers of a node share (unless one was given a time namespace of its own): after a
    reboot no older socket lives, and no change of the date makes the newer one older. 40 bits of it last 34 years."""
    token: int

    @classmethod
    def started(cls, boottime_ns: int, token: bytes) -> Self:
        """The instance that starts now.

        Args:
            boottime_ns: CLOCK_BOOTTIME.
            token: TOKEN_BYTES random bytes.
        """
        return cls(boottime_ns // 1_000_000, int.from_bytes(token, "big"))

    @classmethod
    def parse(cls, bound_name: str) -> Self | None:
        """The instance that bound a socket to this name, or None if it is not one of ours."""
        found = _MARK.fullmatch(bound_name[-_MARK_BYTES - 1 :])
        return None if found is None else cls(int(found[1], 16), int(found[2], 16))

    @property
    def as_oldest(self) -> Instance:
        """The same run as one that every other is newer than: it is about to end."""
        return Instance(0, self.token)

    @property
    def mark(self) -> str:
        """What its sockets' names end with; people see it in `ss -xl`."""
        return f"confcom-{self.started_ms:010x}-{self.token:06x}"


@dataclass(frozen=True, slots=True)
class Nobody:
    """Nothing is at the path."""


@dataclass(frozen=True, slots=True)
class Stale:
    """A socket on which nobody listens."""

    identity: FileIdentity
    """Which one, so that no other is removed in its place."""


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory, as a container runtime makes it for a hostPath volume that names a socket that is not there yet."""


@dataclass(frozen=True, slots=True)
class Own:
    """Our own socket."""


@dataclass(frozen=True, slots=True)
class Ours:
    """A live socket of a quote helper."""

    instance: Instance
    can_quote: bool = True
    """False when it was asked and does not answer, or cannot quote."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A live socket that is not known to be a quote helper's."""

    reason: str
    """What is known of it."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Nothing can be bound: something else is there, or may not be looked at."""

    error: ConfcomError


Sight = Nobody | Stale | Directory | Own | Ours | Foreign | Blocked


class Step(Enum):
    """What to do now."""

    KEEP = "the path is ours"
    BIND = "nobody serves: take the path, unless somebody was faster"
    REPLACE = "take the path from the live socket that is there"
    WAIT = "leave what is there, and look again"


@dataclass(frozen=True, slots=True)
class Decision:
    """A step, and for WAIT the reason, which `/readyz` tells."""

    step: Step
    reason: str = ""
    expected: bool = False
    """Whether an update alone explains the wait: another quote helper serves."""


_KEEP: Final = Decision(Step.KEEP)
_BIND: Final = Decision(Step.BIND)
_REPLACE: Final = Decision(Step.REPLACE)


def decide(sight: Sight, *, me: Instance, can_quote: bool, replace_foreign: bool) -> Decision:
    """What an instance that is not stopping does about the path.

    Args:
        sight: what is there.
        me: this instance.
        can_quote: whether this instance has made a whole quote, and lost nothing since.
        replace_foreign: whether another program's socket may be replaced too.
    """
    match sight:
        case Own():
            return _KEEP
        case Nobody() | Stale() | Directory():
            return _BIND
        case Ours(instance, holder_can_quote):
            return _meet(instance, me=me, can_quote=can_quote, holder_can_quote=holder_can_quote)
        case Foreign(reason):
            if replace_foreign and can_quote:
                return _REPLACE
            rule = "no quote was made here yet" if replace_foreign else "without --replace-foreign-socket it stays"
            return Decision(Step.WAIT, f"{reason}, and {rule}")
        case Blocked(error):
            return Decision(Step.WAIT, str(error))


def _meet(holder: Instance, *, me: Instance, can_quote: bool, holder_can_quote: bool) -> Decision:
    if holder == me:
        return _REPLACE
    if not can_quote:
        age = "newer" if holder > me else "older"
        reason = f"the quote helper that serves is {age}, and no quote can be made here"
        return Decision(Step.WAIT, reason, expected=True)
    if holder < me or not holder_can_quote:
        return _REPLACE
    return Decision(Step.WAIT, "a newer quote helper serves", expected=True)
