"""A file that others see only when it is whole."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def whole_file(path: Path, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """Yield a new file that replaces `path` at the end of the `with` block, and is deleted if the block fails."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            yield file
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
