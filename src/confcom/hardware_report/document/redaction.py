"""Removal of what identifies a machine, or opens something, from texts and values. Pure.

Readers of quotes and configuration show only what they know to be harmless. The scrubber is the second safeguard: it
removes known secrets from the whole report, whatever brought them there.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

Value = str | int | float | bool | None | list["Value"] | dict[str, "Value"]

MIN_SECRET_BYTES = 4
"""Shorter byte strings are in too many other values; readers leave these out by name."""
MIN_SECRET_TEXT = 6

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
_PATH = re.compile(r"[A-Za-z0-9/._~-]{0,512}")


@dataclass(frozen=True, slots=True)
class Secrets:
    """Bytes, and texts, that must not be in the report."""

    binary: frozenset[bytes] = frozenset()
    texts: frozenset[str] = frozenset()

    @classmethod
    def of(cls, *secrets: bytes, numbers: Collection[int] = ()) -> Self:
        """Collect byte strings, and numbers, which are removed in decimal and hexadecimal notation too."""
        positive = {abs(number) for number in numbers}
        spelt = {spelling for number in positive for spelling in (str(number), f"{number:x}")}
        as_bytes = {number.to_bytes((number.bit_length() + 7) // 8) for number in positive}
        return cls(frozenset(secrets) | as_bytes, frozenset(spelt))

    @classmethod
    def union(cls, parts: Iterable[Secrets]) -> Self:
        """Join several."""
        collected = tuple(parts)
        return cls(
            frozenset[bytes]().union(*(part.binary for part in collected)),
            frozenset[str]().union(*(part.texts for part in collected)),
        )


class Scrubber:
    """Replaces secrets in texts: in hexadecimal in either case, in base64 in both alphabets, and as plain text."""

    def __init__(self, secrets: Secrets) -> None:
        spelt = {text for text in secrets.texts if len(text) >= MIN_SECRET_TEXT}
        exact: set[str] = set()
        for secret in secrets.binary:
            if not _is_secret(secret):
                continue
            spelt.add(secret.hex())
            exact |= _base64_forms(secret)
            plain = secret.rstrip(b"\0")
            if len(plain) >= MIN_SECRET_TEXT and plain.isascii() and plain.decode("ascii").isprintable():
                spelt.add(plain.decode("ascii"))
        self._patterns = [_any_of(spelt, re.IGNORECASE), _any_of(exact, re.NOFLAG)]

    def text(self, text: str) -> str:
        """Return a text without the secrets."""
        for pattern in self._patterns:
            if pattern is not None:
                text = pattern.sub("(redacted)", text)
        return text

    def value(self, value: Value) -> Value:
        """Return a value without the secrets, in whatever it consists of."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(one) for one in value]
        if isinstance(value, dict):
            return {self.text(key): self.value(one) for key, one in value.items()}
        return value


def redacted(size: int, unit: str = "bytes") -> str:
    """Return the text that stands for a value that is left out."""
    return f"redacted ({size} {unit})"


def redacted_url(url: str) -> str:
    """Return an http URL without user, password, query and fragment; of anything else, its length alone."""
    hidden = redacted(len(url), "characters, no plain http URL")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return hidden
    host = f"[{host}]" if ":" in host else host
    beyond_host = (parts.path, parts.query, parts.fragment)
    if parts.scheme not in {"http", "https"} or any("@" in part for part in beyond_host):
        return hidden
    if not _HOST.fullmatch(host) or not _PATH.fullmatch(parts.path):
        return hidden
    user = "(redacted)@" if "@" in parts.netloc else ""
    rest = "?(redacted)" if parts.query or parts.fragment else ""
    return f"{parts.scheme}://{user}{host}{'' if port is None else f':{port}'}{parts.path}{rest}"


def _is_secret(secret: bytes) -> bool:
    """Return whether bytes can identify anything: a field of zeros, or of one repeated byte, cannot."""
    return len(secret) >= MIN_SECRET_BYTES and len(set(secret)) > 1


def _base64_forms(secret: bytes) -> set[str]:
    """Return the characters that a secret determines in base64, for each of its three positions in other data."""
    forms = set()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret).decode("ascii")
        begin, end = (8 * before + 5) // 6, 8 * (before + len(secret)) // 6
        form = encoded[begin:end]
        forms |= {form, form.translate(str.maketrans("+/", "-_"))}
    return {form for form in forms if len(form) >= MIN_SECRET_TEXT}


def _any_of(texts: set[str], flags: re.RegexFlag) -> re.Pattern[str] | None:
    if not texts:
        return None
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)), flags)
