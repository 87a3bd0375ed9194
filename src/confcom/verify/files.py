"""Readers for files of quotes, roots and collateral."""

from __future__ import annotations

import base64
import os
import re
import stat
import sys
from pathlib import Path

from confcom.errors import ConfcomError, ExitCode
from confcom.sgx.certificates import MAX_ROOT_SIZE
from confcom.sgx.collateral_bundle import COLLATERAL_FILES
from confcom.sgx.collateral_json import MAX_JSON_SIZE
from confcom.verify.argument_types import path_argument
from confcom.verify.checks.authenticity import MAX_QUOTE_SIZE
from confcom.verify.prepared_collateral import Collateral
from confcom.verify.trust import TrustedRoot

STDIN = Path("-")
"""The conventional file name for standard input."""

MAX_QUOTE_TEXT_SIZE = 3 * MAX_QUOTE_SIZE
"""Largest file of a quote in bytes: the longest text form has two hexadecimal digits and a space per byte."""

MAX_COLLATERAL_FILE_SIZE = 4 * 1024 * 1024
"""Largest collateral file in bytes. TCB info has about 20 KiB; revocation lists grow with revoked PCKs."""

_HEXADECIMAL = re.compile(rb"(?:0[xX])?(?:[0-9a-fA-F]{2})+")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}|[A-Za-z0-9_-]+={0,2}")


class UnreadableInputError(ConfcomError):
    """A file for verification is missing, unreadable, too large or not a regular file; there is no verdict."""

    exit_code = ExitCode.UNUSABLE


def read_quote(path: str | os.PathLike[str]) -> bytes:
    """Read a quote from a regular file, or from standard input (`-`), which may be a pipe.

    Hexadecimal and base64 text is decoded. The bytes are not parsed, and need not be a quote.

    Raises:
        UnreadableInputError: the file cannot be read, is not a regular file, or is longer than 64 KiB.
    """
    path = path_argument("the quote", path)
    return _require_size(path, decoded(read_input(path, MAX_QUOTE_TEXT_SIZE)), MAX_QUOTE_SIZE)


def read_input(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes, or standard input (`-`), which may be a pipe."""
    if path != STDIN:
        return read_regular_file(path, limit, "pass a file, or `-` and its content through standard input")
    try:
        return _require_size(path, sys.stdin.buffer.read(limit + 1), limit)
    except OSError as error:
        raise _unreadable(path, error) from error


def decoded(data: bytes) -> bytes:
    """Decode hexadecimal or base64 text (RFC 4648, both alphabets, with or without padding).

    White space between characters is ignored. Other input is returned unchanged. A binary quote is never
    decoded as text, because the second byte of a quote, the upper byte of the version, is zero.
    """
    text = b"".join(data.split())
    if _HEXADECIMAL.fullmatch(text):
        return bytes.fromhex(text.decode("ascii").lower().removeprefix("0x"))
    digits = text.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    if _BASE64.fullmatch(text) and len(digits) % 4 != 1:
        return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    return data


def read_root(path: str | os.PathLike[str]) -> TrustedRoot:
    """Read a root certificate from a PEM or DER file of at most 64 KiB.

    Raises:
        UnreadableInputError: the file cannot be read.
        MalformedError: the file is not exactly one root certificate.
    """
    return TrustedRoot.load(read_regular_file(path_argument("the root", path), MAX_ROOT_SIZE))


def read_collateral(path: str | os.PathLike[str], quote: bytes | None = None) -> Collateral:
    """Read collateral from a directory of the files that `confcom simulation export` writes, or from a JSON file.

    If a file has several sets, `quote` chooses a set, as in `Collateral.from_json`. Symbolic links
    are followed, because mounted ConfigMaps and Secrets consist of links. A file that is not regular is
    refused, and opening such a file does not block.

    Raises:
        UnreadableInputError: the path does not exist, or a file is missing, too large or not a regular file.
        MalformedError: the content of a file does not have the expected format.
    """
    path = path_argument("the collateral", path)
    try:
        if not path.is_dir():
            return Collateral.from_json(read_regular_file(path, MAX_JSON_SIZE), quote)
        present = [file for file in (path / name for name in COLLATERAL_FILES) if file.exists()]
        return Collateral.from_files({file.name: read_regular_file(file, MAX_COLLATERAL_FILE_SIZE) for file in present})
    except OSError as error:
        raise _unreadable(path, error) from error


def read_regular_file(path: Path, limit: int, advice: str = "pass a file, or a link to one") -> bytes:
    """Read a regular file of at most `limit` bytes; raise UnreadableInputError if `path` is anything else."""
    try:
        # Without O_NONBLOCK, opening a FIFO that has no writer would block forever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UnreadableInputError(f"{path} is not a regular file", error_code="unreadable", remedy=advice)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(limit + 1)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:  # ValueError: the path has a NUL byte
        raise _unreadable(path, error) from error
    return _require_size(path, data, limit)


def _require_size(path: Path, data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise UnreadableInputError(
            f"{input_name(path)} is larger than {limit} bytes",
            error_code="unreadable",
            why="no such file is that large",
            remedy="check that it is the right file",
        )
    return data


def _unreadable(path: Path, error: OSError | ValueError) -> UnreadableInputError:
    return UnreadableInputError(
        f"{input_name(path)} cannot be read",
        error_code="unreadable",
        why=(error.strerror if isinstance(error, OSError) else "") or str(error),
        remedy="check the path and its permissions",
    )


def input_name(path: Path) -> str:
    return "standard input" if path == STDIN else str(path)
