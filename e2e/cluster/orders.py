"""Talk to a host's first process: who it is, and orders to it."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confcom.errors import ConfcomError, UnavailableError

ORDER_SECONDS = 120.0
"""For an order to be carried out: a node may take its three components' time to start."""

ANSWER_BYTES = 65536
_CREDENTIALS = struct.Struct("3i")
"""pid, uid, gid (unix(7), SO_PEERCRED)."""


def pid_behind(control: Path) -> int:
    """The pid, as this process counts, of the first process of the host with this socket.

    Raises:
        UnavailableError: nobody listens: the host is off, or starts.
    """
    with _connected(control) as client:
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid: int = _CREDENTIALS.unpack(credentials)[0]
    return pid


def order(control: Path, verb: str, component: str, *, program: Path | None = None) -> None:
    """Have a component stopped, killed or started (by its old program or a new one); returns when that is done."""
    _answer(control, {"order": verb, "component": component, **({"program": str(program)} if program else {})})


def stopped(control: Path) -> tuple[str, ...]:
    return tuple(_answer(control, {"order": "list"})["stopped"])


def _answer(control: Path, request: Mapping[str, str]) -> dict[str, Any]:
    with _connected(control) as client:
        client.settimeout(ORDER_SECONDS)
        client.sendall(json.dumps(request).encode())
        received = client.recv(ANSWER_BYTES)
    if not received:
        raise ConfcomError(f"the host ended: {' '.join(request.values())}", remedy="see the logs of its components")
    answer: dict[str, Any] = json.loads(received)
    if error := answer.get("error"):
        raise ConfcomError(f"{' '.join(request.values())}: {error}")
    return answer


def _connected(control: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(str(control))
    except OSError as error:
        client.close()
        raise UnavailableError(
            f"the host {control.parent.name} does not answer", why=f"{error.strerror}", remedy="start it"
        ) from error
    return client
