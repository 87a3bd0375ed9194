"""Quotes, roots and collateral from files. The only module of this room that touches the file system."""

from __future__ import annotations

import importlib.resources
import os
import stat
import sys
from pathlib import Path

from confcom.errors import ConfcomError, ExitCode
from confcom.sgx.collateral import COLLATERAL_FILES, Collateral
from confcom.verify.argument_types import path_argument
from confcom.verify.authenticity import MAX_QUOTE_SIZE
from confcom.verify.text_encodings import TEXT_BYTES_PER_BYTE, decoded
from confcom.verify.trust import MAX_ROOT_SIZE, TrustedRoot

STDIN = Path("-")
"""By custom, the file name that means standard input."""

MAX_QUOTE_TEXT_SIZE = TEXT_BYTES_PER_BYTE * MAX_QUOTE_SIZE
"""Bytes of a quote's file, which may be text."""

MAX_COLLATERAL_FILE_SIZE = 4 * 1024 * 1024
"""Bytes per file. TCB info takes some 20 KiB; a revocation list may grow with every revoked PCK."""

INTEL_ROOT_FILE = "intel_sgx_root_ca.pem"
"""Intel's SGX Root CA, valid until 2049; its key is the one that `trust.INTEL_ROOT_KEY_ID` pins."""


class UnreadableInputError(ConfcomError):
    """A file that verification needs is missing, too large or of the wrong kind, so nothing can be decided."""

    exit_code = ExitCode.UNUSABLE


def read_quote(path: str | os.PathLike[str]) -> bytes:
    """Read what should be a quote from a regular file, or from standard input (`-`), which may be a pipe.

    Hexadecimal and base64 text is decoded.

    Raises:
        UnreadableInputError: it cannot be read, is not a regular file, or is longer than any quote.
    """
    path = path_argument("the quote", path)
    if path != STDIN:
        advice = "pass a file, or `-` and the quote through standard input"
        return _require_size(path, decoded(_read_regular_file(path, MAX_QUOTE_TEXT_SIZE, advice)), MAX_QUOTE_SIZE)
    try:
        data = sys.stdin.buffer.read(MAX_QUOTE_TEXT_SIZE + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    return _require_size(path, decoded(data), MAX_QUOTE_SIZE)


def read_root(path: str | os.PathLike[str]) -> TrustedRoot:
    """Read a root certificate, PEM or DER.

    Raises:
        UnreadableInputError: the file cannot be read.
        MalformedError: it is not exactly one certificate.
    """
    return TrustedRoot.load(_read_regular_file(path_argument("the root", path), MAX_ROOT_SIZE))


def intel_root() -> TrustedRoot:
    """Intel's SGX Root CA, which comes with this package."""
    return TrustedRoot.load(importlib.resources.files("confcom.verify").joinpath(INTEL_ROOT_FILE).read_bytes())


def read_collateral(directory: str | os.PathLike[str]) -> Collateral:
    """Read the files of a collateral directory, as `confcom simulation export` lays them out.

    Symbolic links are followed, since mounted ConfigMaps and Secrets consist of them; anything but a regular file is
    refused without waiting for it.

    Raises:
        UnreadableInputError: no such directory, or a file missing, too large or not a regular file.
        MalformedError: a file's content is not what its name says.
    """
    directory = path_argument("the collateral", directory)
    try:
        return _read_collateral(directory)
    except OSError as error:
        raise _unreadable(directory, error) from error


def _read_collateral(directory: Path) -> Collateral:
    if not directory.is_dir():
        raise UnreadableInputError(
            f"there is no collateral directory {directory}",
            why="it is not a directory" if directory.exists() else "the path does not exist",
            remedy="`confcom simulation export --state-dir STATE DIR` writes one to DIR/collateral",
        )
    missing = [name for name in COLLATERAL_FILES if not (directory / name).exists()]
    if missing:
        nested = directory / "collateral"
        raise UnreadableInputError(
            f"the collateral in {directory} is incomplete",
            why="these files are missing: " + ", ".join(missing),
            remedy=f"pass {nested}" if nested.is_dir() else "export or fetch the collateral again",
        )
    return Collateral.from_files(
        {name: _read_regular_file(directory / name, MAX_COLLATERAL_FILE_SIZE) for name in COLLATERAL_FILES}
    )


def _read_regular_file(path: Path, limit: int, advice: str = "pass a file, or a link to one") -> bytes:
    try:
        # Without O_NONBLOCK, opening a FIFO that nobody writes to would wait forever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UnreadableInputError(f"{path} is not a regular file", remedy=advice)
            data = file.read(limit + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    return _require_size(path, data, limit)


def _require_size(path: Path, data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise UnreadableInputError(
            f"{_name(path)} is larger than {limit} bytes",
            why="nothing of this kind is",
            remedy="check that it is the right file",
        )
    return data


def _unreadable(path: Path, error: OSError) -> UnreadableInputError:
    why = error.strerror or str(error)
    return UnreadableInputError(f"{_name(path)} cannot be read", why=why, remedy="check the path and its permissions")


def _name(path: Path) -> str:
    return "standard input" if path == STDIN else str(path)
