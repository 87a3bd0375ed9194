"""What `kubectl describe node` shows of a node's resources, which is what people look at."""

from __future__ import annotations

import re
from dataclasses import dataclass

from e2e.cluster import Cluster


@dataclass(frozen=True, slots=True)
class DescribedNode:
    """The parts of its output by title; their lines are indented."""

    sections: dict[str, str]

    @classmethod
    def of(cls, cluster: Cluster, node: str) -> DescribedNode:
        """Describe a node."""
        return cls.read(cluster.kubectl("describe", "node", node).stdout)

    @classmethod
    def read(cls, text: str) -> DescribedNode:
        """Read what kubectl printed."""
        parts = re.split(r"^(\S[^:\n]*):", text, flags=re.MULTILINE)
        return cls(dict(zip(parts[1::2], parts[2::2], strict=True)))

    def allocatable(self, resource: str) -> int:
        """How much of a resource Pods can have; 0 if there is none."""
        return self._number("Allocatable", f"{resource}:")

    def requested(self, resource: str) -> int:
        """How much of a resource the Pods on the node request."""
        return self._number("Allocated resources", resource)

    def _number(self, section: str, name: str) -> int:
        found = re.search(rf"^ +{re.escape(name)} +(\d+)(k?)\b", self.sections[section], re.MULTILINE)
        return int(found[1]) * (1000 if found[2] else 1) if found else 0
