"""What is wrong, and which of it is alike on many nodes. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
"""What may be the name of a node or a pod (RFC 1123)."""
_PASSING = re.compile(
    r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"  # a UID
    r"|\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?::[0-9]+)?\b"  # an address
    r"|\b(?:[0-9]+h)?(?:[0-9]+m)?[0-9]+s\b"  # a back-off
    r"|\b[0-9]+(?= (?:restarts|MiB)\b)"
)
"""What differs between nodes that have one problem. Other numbers tell problems apart: exit codes, HTTP statuses."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or is not known."""

    text: str
    node: str = ""
    """Empty: of the whole cluster."""

    def __str__(self) -> str:
        """As in `problems` of `--output json`."""
        return f"{self.node}: {self.text}" if self.node else self.text


@dataclass(frozen=True, slots=True)
class ProblemGroup:
    """Problems that are alike."""

    text: str
    """Of the first one."""
    nodes: tuple[str, ...]
    """None: of the whole cluster."""
    count: int = 1
    """How many problems: a node may have several, as during an update."""
    same: bool = True
    """Whether the others have the same words; if not, they differ in names, counts or durations."""

    def to_json(self) -> dict[str, object]:
        """For `--output json`."""
        return {"problem": self.text, "count": self.count, "nodes": list(self.nodes)}


def masked_text(text: str, names: Collection[str]) -> str:
    """What texts have in common that are about the same thing on several nodes.

    Args:
        text: for people.
        names: of nodes and pods.
    """
    return _NAME.sub(lambda found: "*" if found[0] in names else found[0], _PASSING.sub("*", text))


def grouped(problems: Iterable[Problem], names: Collection[str]) -> tuple[ProblemGroup, ...]:
    """Put problems together that are alike: first those of the whole cluster, then the most frequent ones.

    Args:
        problems: any.
        names: of nodes and pods, by which alike ones differ.
    """
    found: dict[object, list[Problem]] = {}
    for one in dict.fromkeys(problems):
        found.setdefault(masked_text(one.text, names) if one.node else one, []).append(one)
    groups = [
        ProblemGroup(
            text=alike[0].text,
            nodes=tuple(dict.fromkeys(one.node for one in alike if one.node)),
            count=len(alike),
            same=len({one.text for one in alike}) == 1,
        )
        for alike in found.values()
    ]
    return tuple(sorted(groups, key=lambda group: (bool(group.nodes), -group.count)))
