"""Inspection of the AESM socket's path, as input for `takeover_policy`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from confcom.daemon.socket_path import FileIdentity, PathState, SocketHolder, inspect_socket, not_a_socket, unusable
from confcom.errors import UnavailableError
from confcom.quote_helper.takeover.takeover_policy import (
    Blocked,
    Directory,
    Foreign,
    Instance,
    LiveHelper,
    Nobody,
    SocketState,
    Stale,
)

LOOK_PATIENCE_SECONDS: Final = 1.0
"""How long an inspection waits for room in a live socket's full backlog; it runs in a worker thread."""


def read_socket_state(path: Path) -> SocketState:
    """Return what is at a path that this instance does not serve. It may block for LOOK_PATIENCE_SECONDS."""
    identity = FileIdentity.of(path)
    try:
        found = inspect_socket(path, patience=LOOK_PATIENCE_SECONDS)
    except UnavailableError as error:
        denied = Foreign("this user may not connect to the existing socket", code="socket-not-connectable")
        return Blocked(error) if identity is None else denied
    except OSError as error:
        return Blocked(unusable(path, error))
    match found.state:
        case PathState.FREE:
            return Nobody()
        case PathState.STALE:
            return Nobody() if identity is None else Stale(identity)
        case PathState.OTHER:
            # Only rmdir(2) can tell without a race whether it is empty.
            return Directory() if path.is_dir() and not path.is_symlink() else Blocked(not_a_socket(path))
        case PathState.LIVE:
            return _identify(found.holder)


def _identify(holder: SocketHolder | None) -> SocketState:
    if holder is None:
        return Foreign(
            "the backlog of the live socket is full, so its program cannot be identified",
            code="socket-backlog-full",
        )
    instance = Instance.parse(holder.bound_name)
    if instance is None:
        return Foreign("another program serves the socket", code="foreign-socket")
    if holder.uid not in (0, os.geteuid()):
        return Foreign(
            f"a program of uid {holder.uid} serves the socket under a quote helper's name", code="foreign-user-socket"
        )
    return LiveHelper(instance)
