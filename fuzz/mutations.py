"""Mutations that keep a format's structure: elements of DER with right lengths, tokens of JSON and TOML, and bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final

MAX_DEPTH: Final = 12
"""Levels of DER that are taken apart; a certificate with its extensions has eight."""
MAX_CHANGES: Final = 3
_CONSTRUCTED: Final = 0x20
_LONG_TAG: Final = 0x1F
_STRINGS: Final = {0x03: 1, 0x04: 0}
"""BIT STRING and OCTET STRING, whose content may be DER, and the bytes before it."""
_TAGS: Final = (0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0A, 0x0C, 0x13, 0x17, 0x18, 0x30, 0x31, 0x80, 0xA0, 0xA3, 0xFF)
_CONTENTS: Final = (
    *(b"", b"\0", b"\x7f", b"\x80", b"\xff", b"\0" * 20, b"\xff" * 21, b"\x2a" + b"\x80" * 9 + b"\1", b"\0\0\1"),
    *(b"991231235959Z", b"500101000000Z", b"99991231235959Z", b"20261124120000Z", b"20261124120000.5Z", b"\xc3\x28"),
)
_TOKEN: Final = re.compile(rb'"[^"\n]*"|-?[0-9]+[dhm]?|true|false|null|[A-Za-z_]+|[{}\[\],:=\n]')
_DATES: Final = tuple(
    f'"{text}"'.encode()
    for text in ("9999-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-11-24T12:00:00+00:00")
)
_NUMBERS: Final = (
    *(b"0", b"1", b"255", b"256", b"65535", b"65536", b"2147483647", b"2147483648", b"-1", b"1e400", b"NaN", b"1.0"),
    b"9" * 5000,
)
_TEXTS: Final = (
    *(b'""', b'"A"', b'"UpToDate"', b'"OutOfDate"', b'"Revoked"', b'"SWHardeningNeeded"', b'"SGX"', b'"QE"', b'"TDX"'),
    *(b'"\\ud800"', b'"\\u0000"', b'"99999d"', b'"0m"', b'"' + b"0" * 64 + b'"'),
)
_OTHERS: Final = (b"true", b"false", b"null", b"[]", b"{}", b"[[]]")


@dataclass(slots=True)
class Element:
    """An element of DER; `header` replaces its tag and length if it is not None."""

    tag: int
    content: bytes
    children: list[Element] = field(default_factory=list)
    header: bytes | None = None

    def encode(self) -> bytes:
        content = self.content + b"".join(child.encode() for child in self.children)
        if self.header is not None:
            return self.header + content
        size = len(content)
        length = bytes((size,)) if size < 0x80 else _long_length(size)
        return bytes((self.tag,)) + length + content

    def descendants(self) -> Iterator[tuple[Element, int]]:
        """Return each pair of an element and the number of one of its children, outer ones first."""
        for number, child in enumerate(self.children):
            yield self, number
            yield from child.descendants()


def _long_length(size: int) -> bytes:
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(length),)) + length


def elements_of(data: bytes, depth: int = 0) -> list[Element] | None:
    """Return the elements that data consist of; None if data are no DER."""
    found, at = [], 0
    while at < len(data):
        if len(data) - at < 2 or data[at] & _LONG_TAG == _LONG_TAG:
            return None
        tag, size, begin = data[at], data[at + 1], at + 2
        if size >= 0x80:
            begin += size & 0x7F
            size = int.from_bytes(data[at + 2 : begin], "big")
        if begin + size > len(data):
            return None
        content, at = data[begin : begin + size], begin + size
        kept = 0 if tag & _CONSTRUCTED else _STRINGS.get(tag, len(content))
        children = elements_of(content[kept:], depth + 1) if depth < MAX_DEPTH else None
        found.append(Element(tag, content[:kept], children) if children else Element(tag, content))
    return found


def der_mutated(data: bytes, random: Random) -> bytes:
    """Change up to three elements of DER; other data are changed byte by byte."""
    elements = elements_of(data)
    if not elements:
        return bytes_mutated(data, random)
    top = Element(0, b"", elements, header=b"")
    for _ in range(random.randint(1, MAX_CHANGES)):
        places = list(top.descendants())
        if not places:
            break
        _change_element(*random.choice(places), [parent.children[number] for parent, number in places], random)
    return top.encode()


def _change_element(parent: Element, number: int, others: list[Element], random: Random) -> None:
    element = parent.children[number]
    match random.randrange(9):
        case 0:
            del parent.children[number]
        case 1:
            parent.children.insert(number, element)
        case 2:
            random.shuffle(parent.children)
        case 3:
            parent.children[number] = Element(element.tag, random.choice(others).encode())
        case 4:
            parent.children[number] = Element(random.choice(_TAGS), element.content, element.children)
        case 5:
            header = bytes((element.tag,)) + random.choice((b"\x80", b"\x81\1", b"\x82\0\1", b"\x84\xff\xff\xff\xff"))
            parent.children[number] = Element(element.tag, element.content, element.children, header)
        case 6:
            parent.children[number] = Element(element.tag, random.choice(_CONTENTS))
        case _:
            inner = Element(element.tag, element.content, element.children, header=b"").encode()
            parent.children[number] = Element(element.tag, bytes_mutated(inner, random))


def tokens_mutated(data: bytes, random: Random) -> bytes:
    """Change up to three tokens of JSON or TOML: leave out, double, exchange, or write another value."""
    for _ in range(random.randint(1, MAX_CHANGES)):
        spans = [match.span() for match in _TOKEN.finditer(data)]
        if not spans:
            return bytes_mutated(data, random)
        (begin, end), (other_begin, other_end) = random.choice(spans), random.choice(spans)
        token, other = data[begin:end], data[other_begin:other_end]
        new = random.choice((b"", token * 2, token + b"," + token, other, bytes_mutated(token, random)))
        if random.random() < 0.5:
            new = random.choice(_values_like(token) if random.random() < 0.7 else _OTHERS)
        data = data[:begin] + new + data[end:]
    return data


def _values_like(token: bytes) -> tuple[bytes, ...]:
    """Return values of a token's kind at the bounds of what is valid."""
    if token.startswith(b'"'):
        return _DATES if token.endswith(b'Z"') else _TEXTS
    return _NUMBERS if token[:1].isdigit() else _OTHERS


def bytes_mutated(data: bytes, random: Random) -> bytes:
    """Change bits, bytes or ranges of bytes."""
    at, size = random.randrange(len(data) + 1), random.choice((1, 1, 1, 2, 4, 8, 32, 64))
    other = random.randrange(len(data) + 1)
    match random.randrange(6):
        case 0 | 1 if at < len(data):
            return data[:at] + bytes((data[at] ^ 1 << random.randrange(8),)) + data[at + 1 :]
        case 2 if at < len(data):
            return data[:at] + random.choice((b"\0", b"\xff", b"\n", b" ", random.randbytes(1))) + data[at + 1 :]
        case 3:
            return data[:at] + data[at + size :]
        case 4:
            return data[:at] + random.randbytes(size) + data[at:]
        case _:
            return data[:at] + data[other : other + size] + data[at + size :]
