"""Attackers as Pods."""

from __future__ import annotations

from e2e.add_on import EPC, ROOT
from e2e.tenants import Manifest, container, pod

PROGRAMS = (
    "e2e/__init__.py",
    "e2e/attacks/__init__.py",
    "e2e/attacks/__main__.py",
    "e2e/attacks/held.py",
    "e2e/attacks/kinds.py",
    "testkit/__init__.py",
    "testkit/replay/__init__.py",
    "testkit/replay/wire.py",
)
"""What an attacker runs. It comes by a ConfigMap, because Pod Security admits no host path at an attacker's level."""
CONFIG_MAP = "attacks"
CODE = "/code"
RESTRICTED = {
    "runAsUser": 12_345,  # no user that the image has
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def attacker(kind: str, node: str, seconds: float, places: tuple[str, ...], *, root: bool) -> Manifest:
    """A Pod that attacks these places, as root with the runtime's default capabilities or as a user with none."""
    main = container(
        "main",
        limits={EPC: 1},  # with it comes the directory of the helper's socket
        environment={"PYTHONPATH": CODE},
        securityContext={"runAsUser": 0} if root else RESTRICTED,
        volumeMounts=[{"name": "code", "mountPath": CODE, "readOnly": True}],
    )
    main["command"] = ["python", "-m", "e2e.attacks", kind, str(seconds), *places]
    items = [{"key": key_of(path), "path": path} for path in PROGRAMS]
    code = {"name": "code", "configMap": {"name": CONFIG_MAP, "items": items}}
    return pod(kind, main, node=node, volumes=[code])


def config_map() -> Manifest:
    data = {key_of(path): (ROOT / path).read_text() for path in PROGRAMS}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG_MAP}, "data": data}


def key_of(path: str) -> str:
    """A file's name in the ConfigMap, which knows no folders."""
    return path.replace("/", ".")
