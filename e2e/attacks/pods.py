"""Attackers and their victim, as Pods."""

from __future__ import annotations

from dataclasses import dataclass

from e2e.add_on import EPC, ROOT
from e2e.tenants import Manifest, container, pod

PROGRAMS = (
    "e2e/__init__.py",
    "e2e/attacks/__init__.py",
    "e2e/attacks/__main__.py",
    "e2e/attacks/held.py",
    "e2e/attacks/kinds.py",
    "e2e/attacks/requests.py",
    "testkit/__init__.py",
    "testkit/replay/__init__.py",
    "testkit/replay/wire.py",
)
"""What an attacker runs. It comes by a ConfigMap, because Pod Security admits no host path at an attacker's level."""
CONFIG_MAP = "attacks"
CODE = "/code"
UID = 12_345
"""Of the attacker without privileges: no user that the image has."""
ENFORCE = "pod-security.kubernetes.io/enforce"
"""A namespace's label for its Pod Security level."""


@dataclass(frozen=True, slots=True)
class Attacker:
    """One attacker's Pod.

    Args:
        kind: of `e2e.attacks.kinds`.
        root: whether it is root with the container runtime's default capabilities, or a user with none.
    """

    kind: str
    root: bool

    @property
    def level(self) -> str:
        """The Pod Security level that admits it."""
        return "baseline" if self.root else "restricted"

    def manifest(self, node: str, seconds: float, places: tuple[str, ...]) -> Manifest:
        """The Pod.

        Args:
            node: where.
            seconds: for how long it attacks.
            places: what it attacks.
        """
        main = container(
            "main",
            limits={EPC: 1},  # with it comes the directory of the helper's socket
            environment={"PYTHONPATH": CODE},
            securityContext={"runAsUser": 0} if self.root else _restricted(),
            volumeMounts=[{"name": "code", "mountPath": CODE, "readOnly": True}],
        )
        main["command"] = ["python", "-m", "e2e.attacks", self.kind, str(seconds), *places]
        items = [{"key": key_of(path), "path": path} for path in PROGRAMS]
        code = {"name": "code", "configMap": {"name": CONFIG_MAP, "items": items}}
        return pod(self.kind, main, node=node, volumes=[code])


def _restricted() -> dict[str, object]:
    return {
        "runAsUser": UID,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def config_map() -> Manifest:
    """The programs."""
    data = {key_of(path): (ROOT / path).read_text() for path in PROGRAMS}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG_MAP}, "data": data}


def key_of(path: str) -> str:
    """A file's name in the ConfigMap, which knows no folders."""
    return path.replace("/", ".")
