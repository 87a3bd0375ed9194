"""Collateral from a directory, and how fresh it is. The only place of this room that touches files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from confcom.errors import ConfcomError, ExitCode
from confcom.sgx.collateral import COLLATERAL_FILES, Collateral

MAX_COLLATERAL_FILE_SIZE = 4 * 1024 * 1024
"""Bytes per file. TCB info takes some 20 KiB; a revocation list may grow with every revoked PCK."""


class CollateralUnreadableError(ConfcomError):
    """The collateral cannot be read, so nothing can be decided about a quote."""

    exit_code = ExitCode.UNUSABLE


def read_collateral(directory: Path) -> Collateral:
    """Read the files of a collateral directory, as `confcom simulation export` lays them out.

    Symbolic links are followed (a mounted ConfigMap or Secret consists of them); anything but regular files is refused
    without waiting for it.

    Raises:
        CollateralUnreadableError: no such directory, a file missing, too large or not a regular file.
        MalformedError: a file's content is not what its name says.
    """
    if not directory.is_dir():
        raise CollateralUnreadableError(
            f"there is no collateral directory {directory}",
            why="the path does not exist" if not directory.exists() else "the path is not a directory",
            remedy="`confcom simulation export --state-dir STATE DIR` writes one to DIR/collateral",
        )
    missing = [name for name in COLLATERAL_FILES if not (directory / name).exists()]
    if missing:
        nested = directory / "collateral"
        raise CollateralUnreadableError(
            f"the collateral in {directory} is incomplete",
            why="these files are missing: " + ", ".join(missing),
            remedy=f"pass {nested}" if nested.is_dir() else "export or fetch the collateral again",
        )
    return Collateral.from_files({name: _read_regular_file(directory / name) for name in COLLATERAL_FILES})


def _read_regular_file(path: Path) -> bytes:
    try:
        # Without O_NONBLOCK, opening a FIFO that nobody writes to would wait forever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CollateralUnreadableError(
            f"{path} cannot be read", why=error.strerror or str(error), remedy="check the path and its permissions"
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CollateralUnreadableError(
                f"{path} is not a regular file", remedy="collateral must be plain files, or links to them"
            )
        data = file.read(MAX_COLLATERAL_FILE_SIZE + 1)
    if len(data) > MAX_COLLATERAL_FILE_SIZE:
        raise CollateralUnreadableError(
            f"{path} is larger than {MAX_COLLATERAL_FILE_SIZE} bytes",
            why="no collateral of SGX is",
            remedy="check that it is the right file",
        )
    return data
