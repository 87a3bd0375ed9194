"""Shape and plan of a cluster; the cluster's folder keeps the plan for later commands."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from confcom.errors import SettingsError
from e2e.cluster.addresses import NodeIdentity
from e2e.cluster.tools import Tools


@dataclass(frozen=True, slots=True)
class Shape:
    """Properties of a requested cluster; an empty version means the default version."""

    nodes: int = 1
    kubernetes: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Properties of an existing cluster: its programs, which determine its versions."""

    nodes: int
    tools: Tools

    @property
    def identities(self) -> tuple[NodeIdentity, ...]:
        return tuple(map(NodeIdentity, range(1, self.nodes + 1)))

    def write(self, path: Path) -> None:
        content = {"nodes": self.nodes, "folders": [*map(str, self.tools.folders)]}
        path.write_text(json.dumps(content, indent=1))

    @classmethod
    def read(cls, path: Path) -> Plan:
        content = json.loads(path.read_text())
        return cls(content["nodes"], Tools(tuple(map(Path, content["folders"]))))

    def check_serves(self, wanted: Plan, folder: Path) -> None:
        if self.nodes < wanted.nodes or self.tools != wanted.tools:
            raise SettingsError(
                f"the cluster in {folder} has fewer nodes or other programs than are asked for",
                remedy="take it down (make e2e-down), or choose another folder: CONFCOM_E2E_FOLDER",
            )
