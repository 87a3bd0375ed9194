"""Decoding of quotes that are text: hexadecimal or base64, as in logs, JSON documents and HTTP headers. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

TEXT_BYTES_PER_BYTE: Final = 3
"""Bytes of text per byte of a quote, in the longest text that is read: two hexadecimal digits and a space."""

_HEXADECIMAL: Final = re.compile(rb"(?:0[xX])?(?:[0-9a-fA-F]{2})+")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]+={0,2}|[A-Za-z0-9_-]+={0,2}")


def decoded(data: bytes) -> bytes:
    """Decode hexadecimal or base64 text (RFC 4648, both alphabets, with or without padding).

    White space between characters is ignored. Other data is returned unchanged. A binary quote is never taken for
    text, because its second byte, the upper byte of its version, is zero.
    """
    text = b"".join(data.split())
    if _HEXADECIMAL.fullmatch(text):
        return bytes.fromhex(text.decode("ascii").lower().removeprefix("0x"))
    if _BASE64.fullmatch(text):
        padded = text.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        try:
            return base64.b64decode(padded + b"=" * (-len(padded) % 4), validate=True)
        except binascii.Error:
            return data
    return data
