"""Standard streams that whoever started this process has closed, and text that they cannot take."""

from __future__ import annotations

import io
import os
import sys

_DESCRIPTORS = {0: os.O_WRONLY, 1: os.O_RDONLY, 2: os.O_WRONLY}
"""How /dev/null stands in for each: reading from a closed stdin and writing to a closed stdout fail, as they should.
What cannot be told on a closed stderr is dropped, because no change to a cluster may end in its middle for that."""


def open_closed_streams() -> None:
    """Have each of the three streams be there, so that no file, socket or pipe that is opened later takes its place.

    Without them Python has None for the streams, and drops a result without a word. Characters that the encoding of
    stdout lacks are shown as their escapes.
    """
    for descriptor, mode in _DESCRIPTORS.items():
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # gets the lowest free number, which is this one
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    # Unbuffered, because what is left of a buffer would fail once more when the interpreter ends.
    sys.stdout = sys.stdout or io.TextIOWrapper(os.fdopen(1, "wb", buffering=0, closefd=False), write_through=True)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
