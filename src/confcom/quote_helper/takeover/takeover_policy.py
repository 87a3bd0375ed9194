"""Which instance serves the path: pure decisions, from the state of the path and of this instance.

During an update several instances share one path. Each decides for itself by these rules, and together they keep the
path served: an instance that finds no live socket binds the path at once; a live socket of a quote helper is replaced
only by an instance that can quote, and of two that can, by the newer; another program's socket stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, Self

from confcom.daemon.socket_path import SUN_PATH_BYTES, FileIdentity
from confcom.errors import ConfcomError

TOKEN_BYTES: Final = 3
"""Random bytes that distinguish instances started in the same millisecond."""

_MARK: Final = re.compile(r"\.confcom-([0-9a-f]{10})-([0-9a-f]{6})")
_MARK_BYTES: Final = len("confcom-0123456789-abcdef")

MAX_SOCKET_PATH_BYTES: Final = SUN_PATH_BYTES - len("..") - _MARK_BYTES
"""Longest path of the AESM socket; `.NAME.MARK` in the same directory must fit into sun_path too."""


@dataclass(frozen=True, slots=True, order=True)
class Instance:
    """One run of the quote helper, as encoded in the mark on its sockets; a later run is greater.

    The mark is only a name: any program that may write the directory can bind the same one. It prevents accidents. The
    path is protected only if nobody else may write its directory.
    """

    started_ms: int
    """CLOCK_BOOTTIME, which all containers of a node share (except one with its own time namespace). No socket survives
    a reboot, and setting the date does not change the order. 40 bits last 34 years."""
    token: int

    @classmethod
    def started(cls, boottime_ns: int, token: bytes) -> Self:
        """Return the instance that starts at this time by CLOCK_BOOTTIME; the token is TOKEN_BYTES random bytes."""
        return cls(boottime_ns // 1_000_000, int.from_bytes(token, "big"))

    @classmethod
    def parse(cls, bound_name: str) -> Self | None:
        """Return the instance that bound a socket to this name, or None if it has no quote helper's mark."""
        found = _MARK.fullmatch(bound_name[-_MARK_BYTES - 1 :])
        return None if found is None else cls(int(found[1], 16), int(found[2], 16))

    @property
    def as_oldest(self) -> Instance:
        """The same run with a start time of 0, so that every other instance is newer; used before it stops."""
        return Instance(0, self.token)

    @property
    def mark(self) -> str:
        """The end of its sockets' names, which `ss -xl` shows."""
        return f"confcom-{self.started_ms:010x}-{self.token:06x}"


@dataclass(frozen=True, slots=True)
class Nobody:
    """Nothing is at the path."""


@dataclass(frozen=True, slots=True)
class Stale:
    """A socket without a listener."""

    identity: FileIdentity
    """Its file, so that no other one is removed instead."""


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory; a container runtime makes one for a hostPath volume that names the socket while it is missing."""


@dataclass(frozen=True, slots=True)
class OwnSocket:
    """The socket of this instance."""


@dataclass(frozen=True, slots=True)
class LiveHelper:
    """A live socket of a quote helper."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class Foreign:
    """A live socket that is not known to be a quote helper's."""

    reason: str
    code: str = "foreign-socket"


@dataclass(frozen=True, slots=True)
class Blocked:
    """The path cannot be bound: something else is there, or it may not be inspected."""

    error: ConfcomError


SocketState = Nobody | Stale | Directory | OwnSocket | LiveHelper | Foreign | Blocked


class Step(Enum):
    """The action to take."""

    KEEP = "the path is ours"
    BIND = "nobody serves: take the path, unless somebody was faster"
    REPLACE = "take the path from the live socket that is there"
    WAIT = "leave what is there, and look again"


@dataclass(frozen=True, slots=True)
class Decision:
    """A step, and for WAIT the reason, which `/readyz` shows, and its code."""

    step: Step
    reason: str = ""
    code: str = ""
    expected: bool = False
    """Whether the wait is normal during an update: another quote helper serves."""


_KEEP: Final = Decision(Step.KEEP)
_BIND: Final = Decision(Step.BIND)
_REPLACE: Final = Decision(Step.REPLACE)


def decide(state: SocketState, *, me: Instance, can_quote: bool, replace_foreign: bool) -> Decision:
    """Decide what an instance that is not stopping does with the path; it can quote if its last self-test passed."""
    match state:
        case OwnSocket():
            return _KEEP
        case Nobody() | Stale() | Directory():
            return _BIND
        case LiveHelper(instance):
            return _decide_against(instance, me=me, can_quote=can_quote)
        case Foreign(reason, code):
            if replace_foreign and can_quote:
                return _REPLACE
            rule = "no quote was made here yet" if replace_foreign else "without --replace-foreign-socket it stays"
            return Decision(Step.WAIT, f"{reason}, and {rule}", code)
        case Blocked(error):
            return Decision(Step.WAIT, str(error), error.error_code)


def _decide_against(holder: Instance, *, me: Instance, can_quote: bool) -> Decision:
    if holder == me:
        return _REPLACE
    if not can_quote:
        age = "newer" if holder > me else "older"
        return Decision(
            Step.WAIT,
            f"the serving quote helper is {age}, and this helper cannot make quotes",
            code="no-quote-made",
            expected=True,
        )
    if holder < me:
        return _REPLACE
    return Decision(Step.WAIT, "a newer quote helper serves", code="newer-helper-serves", expected=True)
