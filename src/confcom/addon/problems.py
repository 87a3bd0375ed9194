"""Problems and their causes, and the grouping of similar problems into few lines. Pure."""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from confcom.errors import ConfcomError

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
"""A possible name of a node or a pod (RFC 1123)."""
_PASSING = re.compile(
    r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"  # a UID
    r"|\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?::[0-9]+)?\b"  # an address
    r"|\b(?:[0-9]+h)?(?:[0-9]+m)?[0-9]+s\b"  # a back-off
    r"|\b[0-9]+(?= (?:restarts|MiB)\b)"
)
"""Parts of a text that differ between nodes with the same problem. Other numbers, such as exit codes and HTTP statuses,
tell problems apart."""
_SHOWN = 5
"""Maximum number of names in one message: a cluster may have a thousand nodes."""


@dataclass(frozen=True, slots=True)
class Problem:
    text: str
    node: str = ""
    """The affected node; empty if the problem concerns the whole cluster."""
    code: str = field(kw_only=True)
    reason_code: str = field(default="", kw_only=True)

    def __str__(self) -> str:
        return f"{self.node}: {self.text}" if self.node else self.text

    def to_json(self) -> dict[str, str]:
        return {"code": self.code, "reason_code": self.reason_code, "problem": self.text, "node": self.node}


@dataclass(frozen=True, slots=True)
class ProblemGroup:
    code: str
    reason_code: str
    text: str
    nodes: tuple[str, ...]
    """The affected nodes; empty if the problem concerns the whole cluster."""
    count: int
    """The number of problems in the group; one node may have several problems, as during an update."""
    same: bool
    """Whether all problems have the same text; if not, the texts differ in names, counts or durations."""

    def to_json(self) -> dict[str, object]:
        codes = {"code": self.code, "reason_code": self.reason_code}
        return codes | {"problem": self.text, "count": self.count, "nodes": list(self.nodes)}


@dataclass(frozen=True, slots=True)
class OptionalReads:
    """Reads that may fail. A failed read does not raise; it becomes a problem with the code `not-read`."""

    failures: list[Problem] = field(default_factory=list)

    def read(self, what: str, read: Callable[[], T], *, node: str = "") -> T | None:
        try:
            return read()
        except (ConfcomError, ValueError) as error:
            why = (error.why or error.what) if isinstance(error, ConfcomError) else str(error)
            self.failures.append(Problem(f"{what}: {why}", node, code="not-read"))
            return None


def shown(names: Sequence[str]) -> str:
    """Return a text with the first few names and with the number of names that are left out."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def grouped(problems: Iterable[Problem], names: Collection[str]) -> tuple[ProblemGroup, ...]:
    """Group similar problems; cluster-wide problems come first, then the groups with the most problems."""
    found: dict[object, list[Problem]] = {}
    for one in dict.fromkeys(problems):
        masked = _NAME.sub(lambda match: "*" if match[0] in names else match[0], _PASSING.sub("*", one.text))
        found.setdefault((one.code, one.reason_code, masked) if one.node else one, []).append(one)
    groups = []
    for alike in found.values():
        nodes = tuple(dict.fromkeys(one.node for one in alike if one.node))
        same = len({one.text for one in alike}) == 1
        groups.append(ProblemGroup(alike[0].code, alike[0].reason_code, alike[0].text, nodes, len(alike), same))
    return tuple(sorted(groups, key=lambda group: (bool(group.nodes), -group.count)))
