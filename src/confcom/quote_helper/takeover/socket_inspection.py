"""What is at the AESM socket's path, as the rules of `takeover_policy` want to know it."""

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
    Nobody,
    Ours,
    Sight,
    Stale,
)

LOOK_PATIENCE_SECONDS: Final = 1.0
"""How long a look waits for a place in a live socket's full backlog, in a thread of its own."""


def look(path: Path, unable: Instance | None) -> Sight:
    """What is at the path that is not our own. It may wait for LOOK_PATIENCE_SECONDS.

    Args:
        path: where.
        unable: an instance that was found not to quote.
    """
    identity = FileIdentity.of(path)
    try:
        found = inspect_socket(path, patience=LOOK_PATIENCE_SECONDS)
    except UnavailableError as error:
        return Blocked(error) if identity is None else Foreign("this user may not connect to the socket that is there")
    except OSError as error:
        return Blocked(unusable(path, error))
    match found.state:
        case PathState.FREE:
            return Nobody()
        case PathState.STALE:
            return Nobody() if identity is None else Stale(identity)
        case PathState.OTHER:
            # Whether it is empty, only rmdir(2) tells without a race.
            return Directory() if path.is_dir() and not path.is_symlink() else Blocked(not_a_socket(path))
        case PathState.LIVE:
            return _recognise(found.holder, unable)


def _recognise(holder: SocketHolder | None, unable: Instance | None) -> Sight:
    if holder is None:
        return Foreign("a live socket is there whose backlog is full, so that its program cannot be told")
    instance = Instance.parse(holder.bound_name)
    if instance is None:
        return Foreign("another program serves there")
    if holder.uid not in (0, os.geteuid()):
        return Foreign(f"a program of uid {holder.uid} serves there under a quote helper's name")
    return Ours(instance, can_quote=instance != unable)
