"""What the fixed-size codecs of this room share: strict lengths, and errors that name the structure."""

from __future__ import annotations

from confcom.errors import MalformedError


def require_length(data: bytes, size: int, structure: str) -> None:
    """Refuse bytes that are not exactly one structure.

    Args:
        data: the bytes to check.
        size: the structure's size in bytes.
        structure: its name in Intel's documents, for the message.

    Raises:
        MalformedError: the length differs.
    """
    if len(data) != size:
        raise MalformedError(
            f"{structure} must be {size} bytes, not {len(data)}",
            remedy="pass the structure itself, neither cut nor followed by other data",
        )
