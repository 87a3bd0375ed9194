"""Decides without I/O, from the states of the socket's path and of this instance, which instance serves the path.

During an update several instances share one path. Each instance follows these rules, which together keep the
path served. An instance that finds no live socket binds the path at once. Only a newer instance that can
quote replaces the live socket of a quote helper. No instance replaces another program's live socket.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, Self

from confcom.daemon.readiness_log import NotReady
from confcom.daemon.socket_path import SUN_PATH_BYTES, PathInspection, PathState

TOKEN_BITS: Final = 24
"""Number of random bits that distinguish instances started in the same millisecond."""

_MARK: Final = re.compile(r"\.confcom-([0-9a-f]{10})-([0-9a-f]{6})")
_MARK_BYTES: Final = len("confcom-0123456789-abcdef")

MAX_SOCKET_PATH_BYTES: Final = SUN_PATH_BYTES - len("..") - _MARK_BYTES
"""Longest path of the AESM socket; `.NAME.MARK` in the same directory must fit into sun_path too."""


@dataclass(frozen=True, slots=True, order=True)
class Instance:
    """One run of the quote helper, as encoded in its sockets' names; a later run compares greater.

    The mark prevents accidents, not attacks: users who may write to the directory can bind the same name.
    """

    started_ms: int
    """CLOCK_BOOTTIME, which all containers of a node share (except one with its own time namespace). No socket survives
    a reboot, and setting the date does not change the order. 40 bits last 34 years."""
    token: int

    @classmethod
    def parse(cls, bound_name: str) -> Self | None:
        """Return the instance that bound a socket to this name, or None if the name has no quote helper's mark."""
        found = _MARK.fullmatch(bound_name[-_MARK_BYTES - 1 :])
        return None if found is None else cls(int(found[1], 16), int(found[2], 16))

    @property
    def mark(self) -> str:
        """The suffix in the names of this instance's sockets, as `ss -xl` shows it."""
        return f"confcom-{self.started_ms:010x}-{self.token:06x}"


class Step(Enum):
    BIND = "no instance serves: take the path, unless another is faster"
    REPLACE = "take the path from the live socket that is there"


NOT_IDENTIFIED: Final = NotReady(
    "no connection to the live socket can be made, so its program cannot be identified", code="socket-not-identified"
)
NO_QUOTE: Final = NotReady(
    "another quote helper serves, and this one cannot make quotes", code="no-quote-made", expected=True
)
NEWER_SERVES: Final = NotReady("a newer quote helper serves", code="newer-helper-serves", expected=True)


def decide(found: PathInspection, *, me: Instance, uid: int, can_quote: bool) -> Step | NotReady:
    """Return how the path is to be taken, or the reason to wait. `can_quote`: the last self-test passed.

    BIND is also returned if a directory is at the path, since only rmdir(2) finds whether it is empty.
    """
    if found.state is not PathState.LIVE:
        return Step.BIND
    holder = found.holder
    if holder is None:
        return NOT_IDENTIFIED
    served_by = Instance.parse(holder.bound_name)
    if served_by is None:
        return NotReady("another program serves the socket", code="foreign-socket")
    if holder.uid not in (0, uid):
        return NotReady(
            f"a program of uid {holder.uid} serves the socket under a quote helper's name", code="foreign-user-socket"
        )
    if not can_quote:
        return NO_QUOTE
    return Step.REPLACE if served_by < me else NEWER_SERVES
