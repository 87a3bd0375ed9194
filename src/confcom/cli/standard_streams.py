"""Repair of standard streams: ones that the parent process closed, and characters that stdout cannot encode."""

from __future__ import annotations

import io
import os
import sys

_DESCRIPTORS = {0: os.O_WRONLY, 1: os.O_RDONLY, 2: os.O_WRONLY}
"""The mode in which /dev/null replaces each closed stream. Reading from a closed stdin and writing to a closed stdout
fail, as they should. Output to a closed stderr is dropped, because it must not stop a change to a cluster half-way."""


def open_closed_streams() -> None:
    """Open the closed ones of the three streams, so that nothing that is opened later gets their descriptors.

    For a closed stream Python has None, and drops the output without an error. Characters that stdout cannot encode are
    printed as escapes.
    """
    for descriptor, mode in _DESCRIPTORS.items():
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # open returns the lowest free descriptor, which is this one
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    # Unbuffered, because flushing a buffer when the interpreter ends would fail once more.
    sys.stdout = sys.stdout or io.TextIOWrapper(os.fdopen(1, "wb", buffering=0, closefd=False), write_through=True)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
