"""Manifest decoding as in the API server: Go's JSON rules, and Go's error texts for values of a wrong type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from confcom.playground.api.errors import ManifestError
from confcom.playground.manifests.quantity import parse_quantity


@dataclass(frozen=True, slots=True)
class Scalar:
    """A string, an integer or a boolean; `go` is the type's name in error texts."""

    go: str
    python: type


@dataclass(frozen=True, slots=True)
class Quantity:
    """A resource.Quantity: a string or a number, decoded to text."""

    go: str = "resource.Quantity"


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list."""

    element: Type

    @property
    def go(self) -> str:
        """The type's name in error texts."""
        return f"[]{self.element.go}"


@dataclass(frozen=True, slots=True)
class MapOf:
    """A map with string keys."""

    element: Type
    go: str = "map[string]string"


@dataclass(frozen=True, slots=True)
class Struct:
    """An object with known fields; every other field causes a warning.

    Args:
        name: the Go struct's name.
        fields: the fields that the playground supports.
    """

    name: str
    fields: Mapping[str, Type]

    @property
    def go(self) -> str:
        """The type's name in error texts: all of these structs are in packages called v1."""
        return f"v1.{self.name}"


Type: TypeAlias = Scalar | Quantity | ListOf | MapOf | Struct

STRING = Scalar("string", str)
INT32 = Scalar("int32", int)
INT64 = Scalar("int64", int)
BOOL = Scalar("bool", bool)

MAX_SHOWN = 64
"""Characters of an invalid value that an error repeats."""

_BITS = {"int32": 31, "int64": 63}


@dataclass(slots=True)
class Decoder:
    """Decodes one document of one kind, and collects a warning for each field that has no effect.

    Args:
        kind: `Job` or `Pod`.
        version: the API version without its group.
    """

    kind: str
    version: str
    warnings: list[str] = field(default_factory=list)

    def decode(self, document: Mapping[str, Any], schema: Struct) -> dict[str, Any]:
        """Return the document's known fields, checked for their types; absent and null fields are left out.

        Raises:
            ManifestError: a value has a type that Go's decoder would refuse.
        """
        return self._struct(document, schema, "", "")

    def _value(self, value: object, wanted: Type, struct: str, go_path: str, path: str) -> object:
        if isinstance(wanted, Struct) and isinstance(value, dict):
            return self._struct(value, wanted, go_path, path)
        if isinstance(wanted, ListOf) and isinstance(value, list):
            return [
                self._value(item, wanted.element, struct, go_path, f"{path}[{index}]")
                for index, item in enumerate(value)
                if item is not None
            ]
        if isinstance(wanted, MapOf) and isinstance(value, dict):
            return {
                str(key): self._value(item, wanted.element, struct, go_path, f"{path}[{key}]")
                for key, item in value.items()
                if item is not None
            }
        if isinstance(wanted, Quantity) and isinstance(value, str | int | float) and not isinstance(value, bool):
            return self._quantity(value, path)
        if isinstance(wanted, Scalar) and type(value) is wanted.python:
            bits = _BITS.get(wanted.go)
            if not isinstance(value, int) or bits is None or -(1 << bits) <= value < 1 << bits:
                return value
        shown = _json_kind(value)
        if shown == "number" and wanted.go in _BITS:
            shown = f"number {str(value)[:MAX_SHOWN]}"
        raise self._type_error(shown, wanted, struct, go_path, path)

    def _struct(self, value: Mapping[Any, Any], wanted: Struct, go_path: str, path: str) -> dict[str, Any]:
        decoded = {}
        for key, item in value.items():
            below = f"{path}.{key}" if path else str(key)
            if key not in wanted.fields:
                self.warnings.append(f"{below} is not supported here and has no effect")
            elif item is not None:
                go_below = f"{go_path}.{key}" if go_path else str(key)
                decoded[key] = self._value(item, wanted.fields[key], wanted.name, go_below, below)
        return decoded

    def _quantity(self, value: str | float, path: str) -> str:
        text = str(value).strip()
        try:
            parse_quantity(text)
        except ValueError as error:
            raise ManifestError(
                self._cannot_handle(str(error)),
                why=f"{path} is {text[:MAX_SHOWN]!r}",
                remedy="write a number, with a unit such as Mi if the resource counts bytes",
            ) from None
        return text

    def _type_error(self, shown: str, wanted: Type, struct: str, go_path: str, path: str) -> ManifestError:
        remedy = f"{path} must be of type {wanted.go}"
        if wanted == STRING and shown.partition(" ")[0] in {"number", "bool"}:
            remedy = f'write the value of {path} in quotes, as in value: "1"'
        return ManifestError(
            self._cannot_handle(
                f"json: cannot unmarshal {shown} into Go struct field {struct}.{go_path} of type {wanted.go}"
            ),
            why="the API server decodes manifests strictly and refuses this before anything else sees it",
            remedy=remedy,
        )

    def _cannot_handle(self, reason: str) -> str:
        return f'{self.kind} in version "{self.version}" cannot be handled as a {self.kind}: {reason}'


def _json_kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"
