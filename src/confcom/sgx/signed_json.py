"""Strict parsing of the signed JSON documents that Intel's Provisioning Certification Service (PCS) serves.

The document is `{"NAME":{...},"signature":"128 hex digits"}`. The signature (r, s; ECDSA P-256 with SHA-256) covers
the exact bytes of the inner object, so the bytes are extracted and never serialized again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn, Self, TypeVar

from confcom.errors import MalformedError

_T = TypeVar("_T")

SIGNATURE_SIZE = 64
MAX_DOCUMENT_SIZE = 1024 * 1024
"""Largest document in bytes; TCB info takes about 20 KiB. Decoding takes some ten times a document's size."""
MAX_INTEGER = 0x7FFF_FFFF
"""Greatest number allowed. No number needs more than 31 bits; verifiers store numbers in 32 bits."""

_SIGNATURE_TAIL = re.compile(rb',"signature":"([0-9a-fA-F]{128})"\}')
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_TAIL_SIZE = len(',"signature":""}') + 2 * SIGNATURE_SIZE


@dataclass(frozen=True, slots=True)
class SignedJson:
    """A signed document: the inner object, its name, and its signature."""

    name: str
    body: bytes
    """The inner object: the exact bytes that were signed."""
    signature: bytes

    @classmethod
    def parse(cls, document: bytes, name: str) -> Self:
        """Parse a document whose inner object is called `name`, in exactly the form that PCS serves."""
        head = f'{{"{name}":'.encode()
        stripped = document.rstrip()
        tail = _SIGNATURE_TAIL.fullmatch(stripped[-_TAIL_SIZE:])
        if not stripped.startswith(head) or tail is None or len(document) > MAX_DOCUMENT_SIZE:
            raise MalformedError(
                f"this is not a signed {name} document",
                error_code="not-signed-json",
                why=f'it does not have the form {{"{name}":{{...}},"signature":"128 hex digits"}}, in at most '
                f"{MAX_DOCUMENT_SIZE} bytes",
                remedy="keep the body byte for byte as the service sent it: reformatting breaks the signature",
            )
        return cls(name, stripped[len(head) : -_TAIL_SIZE], bytes.fromhex(tail[1].decode()))

    def encode(self) -> bytes:
        return f'{{"{self.name}":'.encode() + self.body + f',"signature":"{self.signature.hex()}"}}'.encode()

    def read(self) -> JsonObject:
        """Decode the inner object for typed access; duplicate keys and non-integer numbers are refused."""
        try:
            value = json.loads(
                self.body.decode(),
                object_pairs_hook=_object,
                parse_constant=_refuse,
                parse_float=_refuse,
            )
        except (ValueError, RecursionError) as error:
            raise _wrong_member(self.name, "JSON", str(error)) from error
        return JsonObject.of(value, self.name)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("an object has the same key twice")
    return result


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is not an integer")


@dataclass(frozen=True, slots=True)
class JsonObject:
    """A JSON object with typed access to its members; errors name the member by its path."""

    members: Mapping[str, object]
    path: str

    @classmethod
    def of(cls, value: object, path: str) -> Self:
        if not isinstance(value, dict):
            raise _wrong_member(path, "a JSON object")
        return cls(value, path)

    def has(self, key: str) -> bool:
        return key in self.members

    def text(self, key: str) -> str:
        return self._member(key, str, "a string")

    def integer(self, key: str, maximum: int = MAX_INTEGER) -> int:
        expected = f"an integer between 0 and {maximum}"
        value = self._member(key, int, expected)
        if isinstance(value, bool) or not 0 <= value <= maximum:
            raise self._error(key, expected)
        return value

    def hexadecimal(self, key: str, size: int) -> bytes:
        """Return a member whose value is `size` bytes in hex digits."""
        value = self.text(key)
        if not re.fullmatch(rf"[0-9a-fA-F]{{{2 * size}}}", value):
            raise self._error(key, f"{2 * size} hex digits")
        return bytes.fromhex(value)

    def date(self, key: str) -> datetime:
        """Return a date member; its form must be 2026-11-24T00:00:00Z, which all verifiers can read."""
        value = self.text(key)
        try:
            if _DATE.fullmatch(value):
                return datetime.fromisoformat(value)
        except ValueError:
            pass
        raise self._error(key, "a date of the form YYYY-MM-DDTHH:MM:SSZ")

    def child(self, key: str) -> JsonObject:
        return JsonObject(self._member(key, dict, "a JSON object"), f"{self.path}.{key}")

    def children(self, key: str) -> tuple[JsonObject, ...]:
        items = enumerate(self._member(key, list, "an array"))
        return tuple(JsonObject.of(item, f"{self.path}.{key}[{i}]") for i, item in items)

    def texts(self, key: str) -> tuple[str, ...]:
        items = self._member(key, list, "an array")
        if not all(isinstance(item, str) for item in items):
            raise self._error(key, "an array of strings")
        return tuple(items)

    def integers(self, key: str, maximum: int) -> tuple[int, ...]:
        items = self._member(key, list, "an array")
        return tuple(JsonObject({key: item}, self.path).integer(key, maximum) for item in items)

    def _member(self, key: str, kind: type[_T], expected: str) -> _T:
        if key not in self.members:
            raise MalformedError(f"{self.path} has no {key}", error_code="wrong-member")
        if not isinstance(value := self.members[key], kind):
            raise self._error(key, expected)
        return value

    def _error(self, key: str, expected: str) -> MalformedError:
        return _wrong_member(f"{self.path}.{key}", expected)


def _wrong_member(path: str, expected: str, why: str = "") -> MalformedError:
    return MalformedError(f"{path} is not {expected}", error_code="wrong-member", why=why)
